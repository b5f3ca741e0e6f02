"""One T1 series of ``cmrsr mie``, with its cine, from files to files: plan, engines, synthetic images, numbers."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from cmrsr.batch.case import CaseFiles, Kept
from cmrsr.batch.sinks import Layout, Sink
from cmrsr.batch.work import Loaded, OnEvaluation, Outcome, Prepared, Work, device_of
from cmrsr.io.derivation import Derivation
from cmrsr.io.discover import Candidate
from cmrsr.io.series import Series
from cmrsr.io.survey import Survey, survey
from cmrsr.runtime.bundle import Bundle, Task
from cmrsr.tasks.mie.details import MieDetails
from cmrsr.tasks.mie.inputs.case import MieCase
from cmrsr.tasks.mie.measure import as_record
from cmrsr.tasks.mie.plan import MieOptions, MiePlan, plan_mie
from cmrsr.tasks.mie.run import MieEngines, MieRun, n_evaluations
from cmrsr.tasks.mie.sinks import DICOM, NIFTI, beside, mie_dicom_sink, mie_nifti_sink


@dataclass(slots=True, kw_only=True)
class MieFiles(CaseFiles[MieOptions, MieCase]):
    """``cmrsr mie``; reader: the engine that reads the cines."""

    task: ClassVar[Task] = "mie"
    number: ClassVar[int] = 3
    notice: ClassVar[str] = (
        "SYNTHETIC images, computed by a model from a cine and native T1 images: not acquired, and their enhancement "
        "is not that of a contrast agent. Research use only, not a medical device."
    )
    reader: Bundle
    engines: Kept[MieEngines] = field(default_factory=Kept, repr=False)

    def prepare(self, case: MieCase, series: Series, found: Survey) -> Prepared:
        cine = case.cine.open()
        cine_found = survey(cine)

        def begin() -> Work:
            plan = plan_mie(series, cine, found.digest, self.options)
            return MieWork(self, case.cine.name, series, cine, cine_found, plan)

        return Prepared(begin, {"cine_sha256": cine_found.digest, "reader_sha256": self.reader.digest})

    def planned(self, candidate: Candidate) -> list[Path]:
        target = self._target(candidate)
        more = [beside(target, what, end) for end, names in ((".nii.gz", NIFTI), (".dcm", DICOM)) for what in names]
        return CaseFiles.planned(self, candidate) + more

    def parameters(self) -> dict[str, Any]:
        """With the reader's name rather than the folder that it was given as."""
        return CaseFiles.parameters(self) | {"reader": self.reader.manifest.name}


class MieWork(Work):
    """The enhancement of one T1 series."""

    def __init__(
        self, files: MieFiles, cine_name: str, series: Series, cine: Series, cine_survey: Survey, plan: MiePlan
    ) -> None:
        self._files, self._series, self._plan = files, series, plan
        self._cine, self._cine_survey = cine, cine_survey
        self.layout = Layout(shape=(1, *series.shape[1:]), affine=series.affine, times_ms=None)
        self.n_evaluations = n_evaluations(plan, files.options)
        self._described = {
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

    def load(self) -> Loaded:
        files = self._files
        engines = files.engines.get(
            "all", lambda: MieEngines(files.bundle, files.reader, files.options.batch_size, files.choice)
        )
        return Loaded(engines.step, partial(self._run, engines))

    def sink(self, kind: str, target: Path, derivation: Derivation) -> AbstractContextManager[Sink]:
        several = self._files.options.samples > 1
        if kind == "dicom":
            return mie_dicom_sink(target, self._series, self._cine, self._plan.slices, derivation, several)
        return mie_nifti_sink(target, self._series, derivation, several)

    def _run(self, engines: MieEngines, sink: Sink, on_evaluation: OnEvaluation) -> Outcome:
        run = MieRun(self._series, self._cine, self._cine_survey, self._plan, engines, self._files.options)
        result = run.run(on_evaluation)
        sink.write(result.frame)
        measured = result.measured
        return Outcome(
            plan=self._described,
            results={"synthetic": True, **as_record(measured)},
            warnings=(*self._plan.notes, *(flag.message for flag in measured.flags)),
            details=MieDetails(
                slices=result.slices, measured=measured, plan=self._plan, frame=result.frame,
                device=device_of(engines.step), affine=self._series.affine,
            ),
        )  # fmt: skip
