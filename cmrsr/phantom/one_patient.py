"""The scans of one small virtual patient, made in seconds, on whom every task can be tried."""

from functools import cached_property

from cmrsr.phantom import scans
from cmrsr.phantom.examination import Examination, Protocol
from cmrsr.phantom.patient import draw_patient
from cmrsr.phantom.scan import VirtualScan

PATIENT_SEED, EF = 5, 0.4  # no patient of the training, which has seed 0; an infarct, the heart weak but no extreme
SCAN = Protocol(n_slices=8, n_frames=8, matrix=128)  # four to five seconds on one core, most of it for the slices


class VirtualScans:
    """The scans of one virtual patient, each made when it is first asked for."""

    def __init__(self) -> None:
        self._exam = Examination(draw_patient(PATIENT_SEED, 1, "infarct", EF), SCAN)
        self._exam.n_levels = 1
        (self.level,) = self._exam.levels()  # slice of the cine where perfusion and T1 images are taken

    @cached_property
    def perfusion(self) -> VirtualScan:
        return next(scans.perfusion(self._exam))

    @cached_property
    def cine(self) -> VirtualScan:
        return next(scans.cine(self._exam))

    @cached_property
    def t1(self) -> VirtualScan:
        return next(scans.t1(self._exam))

    def make(self, *names: str) -> None:
        """These scans, so that what comes next is not timed with them."""
        for name in names:
            getattr(self, name)
