"""One series of ``cmrsr function`` from files to files: plan, engines, frames with masks, numbers."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

from cmrsr.batch.case import CaseFiles, Kept
from cmrsr.batch.sinks import Layout, Sink
from cmrsr.batch.work import Loaded, OnEvaluation, Outcome, Prepared, Work, device_of
from cmrsr.heart.window import READING_MM
from cmrsr.io.derivation import Derivation
from cmrsr.io.discover import Candidate
from cmrsr.io.references.lookup import Reference, References
from cmrsr.io.series import Series
from cmrsr.io.survey import Survey
from cmrsr.runtime.bundle import Task
from cmrsr.tasks.function.details import FunctionDetails
from cmrsr.tasks.function.measure import as_record
from cmrsr.tasks.function.plan import FunctionOptions, FunctionPlan, plan_function
from cmrsr.tasks.function.run import Engines, FunctionRun, n_evaluations
from cmrsr.tasks.function.sinks import MASKS, REPORT, beside, function_sink


@dataclass(slots=True, kw_only=True)
class FunctionFiles(CaseFiles[FunctionOptions, Candidate]):
    """``cmrsr function``; references: to compare with in the report."""

    task: ClassVar[Task] = "function"
    number: ClassVar[int] = 2
    engines: Kept[Engines] = field(default_factory=Kept, repr=False)
    references: References | None = None

    def prepare(self, case: Candidate, series: Series, found: Survey) -> Prepared:
        def begin() -> Work:
            reference = self.references.of(case.name, series) if self.references else None
            return FunctionWork(self, series, found, plan_function(series, found, self.bundle, self.options), reference)

        return Prepared(begin)

    def planned(self, candidate: Candidate) -> list[Path]:
        target = self._target(candidate)
        more = [beside(target, what, end) for what, end in ((MASKS, ".nii.gz"), (MASKS, ".dcm"), (REPORT, ".dcm"))]
        return CaseFiles.planned(self, candidate) + more


class FunctionWork(Work):
    """The measurement of one series."""

    def __init__(
        self, files: FunctionFiles, series: Series, found: Survey, plan: FunctionPlan, reference: Reference | None
    ) -> None:
        self._files, self._series, self._found, self._plan, self._reference = files, series, found, plan, reference
        n_t, n_z, *_ = series.shape
        options = files.options
        self.layout = Layout(shape=(n_t, n_z, *plan.matrix), affine=plan.affine, times_ms=series.times_ms)
        self.n_evaluations = n_evaluations(series, plan, options)
        self._has_std = plan.super_resolved and options.samples > 1
        self._described = {
            "scale": plan.scale, "matrix_yx": plan.matrix, "super_resolved": plan.super_resolved,
            "acquired_share_yx": plan.acquired, "affine": plan.affine,
            "spread_factor": files.bundle.spread_factor(options.steps) if self._has_std else None,
        }  # fmt: skip
        restored = "super-resolved" if plan.super_resolved else "measured as it is"
        self.notes = (f"{n_t} phases of {n_z} slices, {restored}",)

    def load(self) -> Loaded:
        files, plan, n_z = self._files, self._plan, self._series.shape[1]
        key = (plan.padded, n_z, plan.super_resolved)
        engines = files.engines.get(
            key, lambda: Engines(files.bundle, plan, n_z, files.options.batch_size, files.choice)
        )
        return Loaded(engines.decoder, partial(self._run, engines))

    def sink(self, kind: str, target: Path, derivation: Derivation) -> AbstractContextManager[Sink]:
        return function_sink(kind, target, self._series, self.layout, derivation, self._has_std)

    def _run(self, engines: Engines, sink: Sink, on_evaluation: OnEvaluation) -> Outcome:
        series, plan = self._series, self._plan
        run = FunctionRun(series, self._found, plan, engines, self._files.options)
        found = run.run(sink.write, on_evaluation)
        measured, alpha, (y, x) = found.measured, found.alpha.astype(float), found.window.centre
        sink.conclude(measured)
        return Outcome(
            plan={**self._described, "window_centre_xy": (x, y), "brightness": found.scale},
            results={**as_record(measured), "causal_graph": alpha.round(6)},
            warnings=(*plan.notes, *(flag.message for flag in measured.flags)),
            details=FunctionDetails(
                series=series, plan=plan, measured=measured, alpha=alpha, images=found.images, labels=found.labels,
                pixel_mm=READING_MM, device=device_of(engines.decoder), reference=self._reference,
            ),
        )  # fmt: skip
