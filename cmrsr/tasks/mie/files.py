"""One T1 series of ``cmrsr mie``, with its cine, from files to files: plan, engines, synthetic images, numbers."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from cmrsr.batch.case import CaseFiles, Kept, Work
from cmrsr.batch.sinks import Layout, Sink
from cmrsr.io.derivation import Derivation
from cmrsr.io.discover import Candidate
from cmrsr.io.series import Series
from cmrsr.io.survey import Survey, survey
from cmrsr.runtime.bundle import Bundle, Task
from cmrsr.runtime.choice import Engine
from cmrsr.tasks.mie.details import MieDetails
from cmrsr.tasks.mie.measure import as_record
from cmrsr.tasks.mie.plan import MieOptions, MiePlan, plan_mie
from cmrsr.tasks.mie.result import MieFrame
from cmrsr.tasks.mie.run import MieEngines, MieRun, n_evaluations
from cmrsr.tasks.mie.sinks import DICOM, NIFTI, beside, mie_dicom_sink, mie_nifti_sink


@dataclass(slots=True, kw_only=True)
class MieFiles(CaseFiles[MieOptions]):
    """``cmrsr mie``; cines: of every T1 series, by its name in the batch. reader: the engine that reads them."""

    task: ClassVar[Task] = "mie"
    number: ClassVar[int] = 3
    notice: ClassVar[str] = (
        "SYNTHETIC images, computed by a model from a cine and native T1 images: not acquired, and their enhancement "
        "is not that of a contrast agent. Research use only, not a medical device."
    )
    cines: Mapping[str, Candidate]
    reader: Bundle
    engines: Kept[MieEngines] = field(default_factory=Kept, repr=False)
    cine: tuple[Series, Survey] = field(init=False, repr=False)  # of the case at work

    def others(self, candidate: Candidate) -> Mapping[str, str]:
        series = self.cines[candidate.name].open()
        self.cine = series, survey(series)
        return {"cine_sha256": self.cine[1].digest, "reader_sha256": self.reader.digest}

    def begin(self, name: str, series: Series, found: Survey) -> Work:
        plan = plan_mie(series, self.cine[0], found.digest, self.options)
        return MieWork(self, self.cines[name].name, series, plan)

    def sink(
        self, kind: str, target: Path, series: Series, work: Work, derivation: Derivation
    ) -> AbstractContextManager[Sink]:
        assert isinstance(work, MieWork)
        several = self.options.samples > 1
        if kind == "dicom":
            return mie_dicom_sink(target, series, self.cine[0], work.pairs, derivation, several)
        return mie_nifti_sink(target, series, derivation, several)

    def planned(self, candidate: Candidate) -> list[Path]:
        target = self._target(candidate)
        more = [beside(target, what, end) for end, names in ((".nii.gz", NIFTI), (".dcm", DICOM)) for what in names]
        return CaseFiles.planned(self, candidate) + more

    def parameters(self) -> dict[str, Any]:
        """With the reader's name rather than the folder that it was given as."""
        return CaseFiles.parameters(self) | {"reader": self.reader.manifest.name}


class MieWork(Work):
    """The enhancement of one T1 series."""

    def __init__(self, files: MieFiles, cine_name: str, series: Series, plan: MiePlan) -> None:
        self._files, self._series, self._plan = files, series, plan
        self._cine, self._cine_survey = files.cine
        self.layout = Layout(shape=(1, *series.shape[1:]), affine=series.affine, times_ms=None)
        self.n_evaluations = n_evaluations(plan, files.options)
        self.pairs = plan.slices
        cine = self._cine
        self.plan = {
            "slices": [{"z": p.z + 1, "cine_z": p.cine_z + 1, "distance_mm": p.distance_mm} for p in plan.slices],
            "inversion_ms": plan.inversion_ms, "affine": series.affine,
            "spread_factor": files.bundle.spread_factor(files.options.steps) if files.options.samples > 1 else None,
            "cine": {
                "name": cine_name, "files": [p.name for p in cine.source.paths], "shape_tzyx": cine.shape,
                "spacing_mm_zyx": cine.spacing_mm,
            },
        }  # fmt: skip
        n = len(plan.slices)
        shown = f"{n} slice{'s' * (n > 1)} with {series.n_frames} inversion-recovery images"
        self.notes = (*cine.source.notes, f"{shown}, {cine.n_frames} phases of the cine {cine_name}")
        self.warnings = plan.notes

    def load(self) -> Engine:
        files = self._files
        self._engines = files.engines.get(
            "all", lambda: MieEngines(files.bundle, files.reader, files.options.batch_size, files.choice)
        )
        return self._engines.step

    def frames(self, on_evaluation: Callable[[int], None]) -> Iterator[MieFrame]:
        run = MieRun(self._series, self._cine, self._cine_survey, self._plan, self._engines, self._files.options)
        self._run, self._frame = run, run.run(on_evaluation)
        yield self._frame
        self.results = {"synthetic": True, **as_record(run.measured)}
        self.warnings = (*self.warnings, *(flag.message for flag in run.measured.flags))

    def details(self, device: str) -> MieDetails:
        return MieDetails(
            slices=self._run.slices, measured=self._run.measured, plan=self._plan, frame=self._frame, device=device,
            affine=self._series.affine,
        )  # fmt: skip
