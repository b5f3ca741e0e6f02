"""One series of ``cmrsr function`` from files to files: plan, engines, frames with masks, numbers."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from cmrsr.batch.case import CaseFiles, Kept, Work
from cmrsr.batch.sinks import Layout, Sink
from cmrsr.io.derivation import Derivation
from cmrsr.io.discover import Candidate
from cmrsr.io.references.lookup import Reference, References
from cmrsr.io.series import Series
from cmrsr.io.survey import Survey
from cmrsr.runtime.bundle import Task
from cmrsr.runtime.choice import Engine
from cmrsr.tasks.function.details import FunctionDetails
from cmrsr.tasks.function.measure import Measured, as_record, values_of
from cmrsr.tasks.function.plan import FunctionOptions, FunctionPlan, plan_function
from cmrsr.tasks.function.run import Engines, FunctionFrame, FunctionRun, n_evaluations
from cmrsr.tasks.function.sinks import MASKS, REPORT, beside, function_sink


@dataclass(slots=True, kw_only=True)
class FunctionFiles(CaseFiles[FunctionOptions]):
    """``cmrsr function``; references: to compare with in the report."""

    task: ClassVar[Task] = "function"
    number: ClassVar[int] = 2
    engines: Kept[Engines] = field(default_factory=Kept, repr=False)
    references: References | None = None

    def begin(self, name: str, series: Series, found: Survey) -> Work:
        reference = self.references.of(name, series) if self.references else None
        return FunctionWork(self, series, found, plan_function(series, found, self.bundle, self.options), reference)

    def sink(
        self, kind: str, target: Path, series: Series, work: Work, derivation: Derivation
    ) -> AbstractContextManager[Sink]:
        assert isinstance(work, FunctionWork)
        return function_sink(kind, target, series, work.layout, derivation, work.has_std, work)

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
        self.has_std = plan.super_resolved and options.samples > 1
        self.plan = {
            "scale": plan.scale, "matrix_yx": plan.matrix, "super_resolved": plan.super_resolved,
            "acquired_share_yx": plan.acquired, "affine": plan.affine,
            "spread_factor": files.bundle.spread_factor(options.steps) if self.has_std else None,
        }  # fmt: skip
        restored = "super-resolved" if plan.super_resolved else "measured as it is"
        self.notes = (f"{n_t} phases of {n_z} slices, {restored}",)
        self.warnings = plan.notes

    def load(self) -> Engine:
        files, plan, n_z = self._files, self._plan, self._series.shape[1]
        key = (plan.padded, n_z, plan.super_resolved)
        self._engines = files.engines.get(
            key, lambda: Engines(files.bundle, plan, n_z, files.options.batch_size, files.choice)
        )
        return self._engines.decoder

    def frames(self, on_evaluation: Callable[[int], None]) -> Iterator[FunctionFrame]:
        run = FunctionRun(self._series, self._found, self._plan, self._engines, self._files.options)
        self._run = run
        yield from run.frames(on_evaluation)
        y, x = run.window.centre
        self.plan = {**self.plan, "window_centre_xy": (x, y), "brightness": run.scale}
        self.results = {**as_record(self.measured), "causal_graph": run.alpha.astype(float).round(6)}
        self.warnings = (*self.warnings, *(flag.message for flag in self.measured.flags))

    def details(self, device: str) -> FunctionDetails:
        run = self._run
        return FunctionDetails(
            series=self._series, plan=self._plan, measured=self.measured, alpha=run.alpha.astype(float),
            images=run.images, labels=run.labels, pixel_mm=run.pixel_mm, device=device, reference=self._reference,
        )  # fmt: skip

    @property
    def measured(self) -> Measured:
        measured = self._run.measured
        assert measured is not None, "before the last frame"
        return measured

    @property
    def values(self) -> Mapping[str, float | None]:
        return values_of(self.measured)

    @property
    def remarks(self) -> tuple[str, ...]:
        return tuple(flag.message for flag in self.measured.flags)

    @property
    def phases(self) -> tuple[int, int]:
        return self.measured.ed, self.measured.es
