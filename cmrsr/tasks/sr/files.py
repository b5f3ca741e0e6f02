"""One series of ``cmrsr sr`` from files to files: plan, engine, frames, and what the report shows of them."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cmrsr.batch.case import CaseFiles, Kept
from cmrsr.batch.shown import ShownFrames
from cmrsr.batch.sinks import Layout, Sink, image_sink
from cmrsr.batch.work import Loaded, OnEvaluation, Outcome, Prepared, Work, device_of
from cmrsr.io.derivation import Derivation
from cmrsr.io.discover import Candidate
from cmrsr.io.series import Series
from cmrsr.io.survey import Survey
from cmrsr.runtime.bundle import Bundle, Task
from cmrsr.runtime.choice import Engine
from cmrsr.tasks.sr.plan import SrOptions, SrPlan, load_sr_engine, plan_sr
from cmrsr.tasks.sr.run import SrFrame, evaluations_per_image, realism_cost_db, run_sr, samples_share
from cmrsr.tasks.sr.sinks import sample_target, with_samples

Array = NDArray[np.float32]


@dataclass(slots=True, kw_only=True)
class SrFiles(CaseFiles[SrOptions, Candidate]):
    """``cmrsr sr``. save_samples: write every single sample to files of its own as well."""

    task: ClassVar[Task] = "sr"
    resampled: ClassVar[bool] = True
    save_samples: bool = False
    engines: Kept[Engine] = field(default_factory=Kept, repr=False)

    def prepare(self, case: Candidate, series: Series, found: Survey) -> Prepared:
        return Prepared(lambda: SrWork(self, series, plan_sr(series, found, self.bundle, self.options)))

    def planned(self, candidate: Candidate) -> list[Path]:
        target, n_saved = self._target(candidate), self.options.n_samples if self.save_samples else 0
        samples = [sample_target(target, k) for k in range(n_saved)]
        return [*CaseFiles.planned(self, candidate), *(one.with_name(f"{one.name}.nii.gz") for one in samples)]

    def parameters(self) -> dict[str, Any]:
        return CaseFiles.parameters(self) | {"samples": self.options.n_samples}  # the number behind the default

    def _requested(self) -> dict[str, Any]:
        return CaseFiles._requested(self) | {"save_samples": self.save_samples}


class SrWork(Work):
    """The super-resolution of one series."""

    def __init__(self, files: SrFiles, series: Series, plan: SrPlan) -> None:
        self._files, self._series, self._plan = files, series, plan
        options, band = files.options, plan.band
        n_t, n_z, *_ = series.shape
        self.layout = Layout(shape=(n_t, n_z, *plan.shape_yx), affine=plan.affine, times_ms=series.times_ms)
        schedule = files.bundle.manifest.diffusion.build()
        per_image = evaluations_per_image(schedule, options)
        self.n_evaluations = n_t * n_z * per_image
        self._described = {
            "phase_axis": plan.axis, "phase_axis_from": plan.axis_source, "acquired_lines": band.lines,
            "matrix_lines": band.size, "window_xywh": plan.window, "heart_xy": plan.heart[::-1], "scale": plan.scale,
            "consistency": plan.consistency, "affine": plan.affine,
            **_calibration(files.bundle, options),
            "evaluations_per_image": per_image, "samples_share": samples_share(schedule, options),
            "realism_cost_db": realism_cost_db(options.realism),
        }  # fmt: skip
        lines = f"{band.lines} of {band.size} lines acquired"
        self.notes = (f"phase encoding along {plan.axis} ({plan.axis_source}), {lines}",)

    def load(self) -> Loaded:
        files, plan = self._files, self._plan
        engine = files.engines.get(plan.padded, lambda: load_sr_engine(files.bundle, plan, files.options, files.choice))
        return Loaded(engine, partial(self._run, engine))

    def sink(self, kind: str, target: Path, derivation: Derivation) -> AbstractContextManager[Sink]:
        n_samples, series, layout = self._files.options.n_samples, self._series, self.layout
        sink = image_sink(kind, target, series, layout, derivation, n_samples > 1)
        if not self._files.save_samples:
            return sink
        return with_samples(sink, kind, target, series, layout, derivation, n_samples)

    def _run(self, engine: Engine, sink: Sink, on_evaluation: OnEvaluation) -> Outcome:
        files, series, plan = self._files, self._series, self._plan
        shown = Shown(series, plan)
        frames = run_sr(
            series, plan, files.bundle, engine, files.options, keep_samples=files.save_samples,
            on_evaluation=on_evaluation,
        )  # fmt: skip
        for t, frame in enumerate(frames):
            shown.add(t, frame)
            sink.write(frame)
        details = SrDetails(series=series, plan=plan, shown=shown, device=device_of(engine))
        return Outcome(plan=self._described, warnings=plan.notes, details=details)


def _calibration(bundle: Bundle, options: SrOptions) -> dict[str, Any]:
    """How the samples' spread becomes an expected error; nothing of what does not apply."""
    if options.n_samples < 2:
        return {"uncertainty": None, "spread_factor": None}
    model = bundle.uncertainty(options.steps)
    factor = bundle.spread_factor(options.steps) if model is None else None
    return {"uncertainty": None if model is None else model.model_dump(), "spread_factor": factor}


@dataclass(frozen=True, slots=True)
class SrDetails:
    """What the report needs of one case."""

    series: Series
    plan: SrPlan
    shown: "Shown"
    device: str


class Shown(ShownFrames):
    """What the network was shown and what it made of it, (n_shown, h, w) each; std None without a spread."""

    def __init__(self, series: Series, plan: SrPlan) -> None:
        centre = (plan.heart[0] - plan.window[1], plan.heart[1] - plan.window[0])
        super().__init__(series.n_frames, series.shape[1], plan.shape_yx, centre)
        self.input, self.output = self.blank(), self.blank()
        self.std: Array | None = None

    def add(self, t: int, frame: SrFrame) -> None:
        row = self.row(t)
        if row is None:
            return
        self.input[row], self.output[row] = self.cut(frame.input), self.cut(frame.output)
        if frame.std is not None:
            if self.std is None:
                self.std = self.blank()
            self.std[row] = self.cut(frame.std)
