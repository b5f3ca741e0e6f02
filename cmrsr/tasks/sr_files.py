"""One series of ``cmrsr sr`` from files to files: survey, plan, frames, outputs, sidecar, and what the report shows."""

import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cmrsr import __version__
from cmrsr.io.derivation import Derivation
from cmrsr.io.discover import Candidate
from cmrsr.io.outputs import sha256_file, write_json_atomic
from cmrsr.io.series import Series
from cmrsr.io.survey import survey
from cmrsr.runtime.bundle import Bundle
from cmrsr.runtime.choice import DeviceChoice, Engine
from cmrsr.tasks.batch import CaseResult, Listener, already_done, case_key, remove_stale
from cmrsr.tasks.sr import SrFrame, SrOptions, SrPlan, load_sr_engine, plan_sr, run_sr, window_around
from cmrsr.tasks.sr_sinks import dicom_sink, nifti_sink

Array = NDArray[np.float32]
Format = Literal["same", "nifti", "dicom"]
SHOWN_FRAMES = 240  # frames kept for the report, evenly chosen: its memory is bounded whatever the series' length
SHOWN_WINDOW = 112  # pixels around the heart


@dataclass(slots=True)
class SrFiles:
    """The settings of a run and the engine of the last matrix, kept for the next series of the same size.

    command: how the run was started, for the sidecars.
    """

    bundle: Bundle
    options: SrOptions
    choice: DeviceChoice
    out: Path
    format: Format = "same"
    force: bool = False
    command: str = ""
    _engine: tuple[tuple[int, int], Engine, list[str]] | None = field(default=None, repr=False)

    def process(self, candidate: Candidate, series: Series, listener: Listener) -> CaseResult:
        """Super-resolve one series into the output folder, or find that it was done before."""
        started = time.monotonic()
        n_images = series.n_frames * series.shape[1] * self.options.samples
        listener.case_started(candidate.name, n_images * self.options.steps)
        found = survey(series)
        target = self._target(candidate)
        sidecar = target.with_name(f"{target.name}.json")
        parameters = self.parameters()
        key = case_key(found.digest, self.bundle.digest, __version__, {**parameters, **self._requested()})
        if not self.force and (done := already_done(sidecar, key)):
            return CaseResult(
                name=candidate.name, status="skipped", outputs=(*_listed(done, target), sidecar), message="done before"
            )
        plan = plan_sr(series, found, self.bundle, self.options)
        manifest, samples = self.bundle.manifest, self.options.samples
        surveyed = time.monotonic()
        engine, said = self._engine_for(plan)
        loaded = time.monotonic()
        shown = Shown(series, plan)
        kind = series.source.format if self.format == "same" else self.format
        open_sink = dicom_sink if kind == "dicom" else nifti_sink
        derivation = self._derivation({**parameters, "precision": engine.precision})
        with _noting(said), open_sink(target, series, plan, derivation, samples > 1) as sink:
            frames = run_sr(series, plan, self.bundle, engine, self.options, on_evaluation=listener.evaluated)
            for t, frame in enumerate(frames):
                sink.write(frame)
                shown.add(t, frame)
        outputs = sink.outputs()
        remove_stale(sidecar, outputs)
        finished = time.monotonic()
        lines = f"{plan.band.lines} of {plan.band.size} lines acquired"
        notes = (*series.source.notes, f"phase encoding along {plan.axis} ({plan.axis_source}), {lines}", *sink.notes)
        warned = (*plan.notes, *dict.fromkeys(said))
        write_json_atomic(
            sidecar,
            {
                "software": f"cmrsr {__version__}",
                "notice": "Research use only, not a medical device.",
                "task": "sr",
                "command": self.command,
                "input": {
                    "name": candidate.name, "digest": found.digest, "files": [p.name for p in series.source.paths],
                    "shape_tzyx": series.shape, "spacing_mm_zyx": series.spacing_mm, "times_ms": series.times_ms,
                    "kind": series.kind,
                },
                "engine": {
                    "name": manifest.name, "version": manifest.version, "digest": self.bundle.digest,
                },
                "parameters": parameters,
                "requested": self._requested(),
                "plan": {
                    "phase_axis": plan.axis, "phase_axis_from": plan.axis_source, "acquired_lines": plan.band.lines,
                    "matrix_lines": plan.band.size, "window_xywh": plan.window, "heart_xy": plan.heart[::-1],
                    "scale": plan.scale, "consistency": plan.consistency, "affine": plan.affine,
                    "spread_factor": self.bundle.spread_factor(self.options.steps) if samples > 1 else None,
                },
                "device": {"backend": engine.backend, "device": engine.device, "precision": engine.precision},
                "seconds": {
                    "survey": surveyed - started, "engine": loaded - surveyed, "frames": finished - loaded,
                    "total": finished - started,
                },
                "notes": notes,
                "warnings": warned,
                "key": key,
                "outputs": {str(p.relative_to(sidecar.parent)): sha256_file(p) for p in outputs},
            },
        )  # fmt: skip
        device = f"{engine.backend} {engine.device} {engine.precision}"
        return CaseResult(
            name=candidate.name, status="ok", outputs=(*_listed(outputs, target), sidecar), notes=(*notes, device),
            warnings=warned, details=SrDetails(series=series, plan=plan, shown=shown, device=device),
        )  # fmt: skip

    def planned(self, candidate: Candidate) -> list[Path]:
        """Every file that this run may write for a series, but those inside its own DICOM folder."""
        target = self._target(candidate)
        return [target.with_name(target.name + end) for end in (".nii.gz", "_std.nii.gz", "_std.dcm", ".json")]

    def parameters(self) -> dict[str, Any]:
        """The options as they enter sidecars, keys and identifiers; how the work is cut up is not one of them."""
        options = asdict(self.options)
        del options["batch_size"]
        options["roi"] = options["roi"] if isinstance(options["roi"], str) else ",".join(map(str, options["roi"]))
        return options

    def _requested(self) -> dict[str, str]:
        """What else was asked for and changes the bytes of the result."""
        choice = self.choice
        return {
            "format": self.format, "device": choice.device, "backend": choice.backend, "precision": choice.precision,
        }  # fmt: skip

    def _derivation(self, parameters: dict[str, Any]) -> Derivation:
        manifest = self.bundle.manifest
        return Derivation(
            task="sr", engine=manifest.name, engine_version=manifest.version, engine_digest=self.bundle.digest,
            software_version=__version__, parameters=parameters,
        )  # fmt: skip

    def _target(self, candidate: Candidate) -> Path:
        """``OUT/<name>_sr``: the stem of the outputs, below the folders that the input lies in."""
        return self.out / f"{candidate.name}_sr"

    def _engine_for(self, plan: SrPlan) -> tuple[Engine, list[str]]:
        """The engine for the plan's matrix, and what there was to say about its choice."""
        if self._engine is None or self._engine[0] != plan.padded:
            if self._engine:
                self._engine[1].close()
                self._engine = None
            said: list[str] = []
            with _noting(said):
                engine = load_sr_engine(self.bundle, plan, self.options, self.choice)
            self._engine = (plan.padded, engine, said)
        return self._engine[1], list(self._engine[2])


@contextmanager
def _noting(said: list[str]) -> Iterator[None]:
    """Warnings raised inside are added to ``said``, for the sidecar, the report and the console."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    said += [str(warning.message) for warning in caught]


def _listed(outputs: Iterable[Path], target: Path) -> list[Path]:
    """Outputs as a person counts them: a folder of DICOM images is one."""
    return list(dict.fromkeys(target if path.parent == target else path for path in outputs))


@dataclass(frozen=True, slots=True)
class SrDetails:
    """What the report needs of one case."""

    series: Series
    plan: SrPlan
    shown: "Shown"
    device: str


class Shown:
    """The bounded part of a case that its report shows: frames around the heart at the middle slice."""

    def __init__(self, series: Series, plan: SrPlan) -> None:
        n = series.n_frames
        self.plane = series.shape[1] // 2
        self.frames = np.unique(np.linspace(0, n - 1, min(n, SHOWN_FRAMES)).round().astype(int))
        self._row = {int(t): i for i, t in enumerate(self.frames)}
        self.window = window_around(
            (plan.heart[0] - plan.window[1], plan.heart[1] - plan.window[0]), plan.shape_yx, SHOWN_WINDOW
        )
        _, _, w, h = self.window
        self.input = np.zeros((len(self.frames), h, w), np.float32)
        self.output = np.zeros_like(self.input)
        self.std: Array | None = None

    def add(self, t: int, frame: SrFrame) -> None:
        row = self._row.get(t)
        if row is None:
            return
        left, top, w, h = self.window
        cut = (self.plane, slice(top, top + h), slice(left, left + w))
        self.input[row], self.output[row] = frame.input[cut], frame.output[cut]
        if frame.std is not None:
            if self.std is None:
                self.std = np.zeros_like(self.input)
            self.std[row] = frame.std[cut]
