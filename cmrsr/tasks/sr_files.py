"""One series of ``cmrsr sr`` from files to files: survey, plan, frames, outputs, sidecar, and what the report shows."""

import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from cmrsr import __version__
from cmrsr.errors import CmrsrWarning
from cmrsr.io.derivation import Derivation
from cmrsr.io.discover import Candidate
from cmrsr.io.outputs import output_errors, refuse_overwriting, sha256_file, write_json_atomic
from cmrsr.io.series import Series
from cmrsr.io.survey import survey
from cmrsr.runtime.bundle import Bundle
from cmrsr.runtime.engine import DeviceChoice, StepEngine
from cmrsr.tasks.batch import CaseResult, Listener, already_done, case_key
from cmrsr.tasks.sr import SrFrame, SrOptions, SrPlan, load_sr_engine, plan_sr, run_sr, window_around

Array = NDArray[np.float32]
Format = Literal["same", "nifti", "dicom"]
SHOWN_FRAMES = 96  # frames kept for the report, evenly chosen: its memory is bounded whatever the series' length
SHOWN_WINDOW = 112  # pixels around the heart


@dataclass(slots=True)
class SrFiles:
    """The settings of a run and the engine of the last matrix, kept for the next series of the same size."""

    bundle: Bundle
    options: SrOptions
    choice: DeviceChoice
    out: Path
    format: Format = "same"
    force: bool = False
    _engine: tuple[tuple[int, int], StepEngine] | None = field(default=None, repr=False)

    def process(self, candidate: Candidate, series: Series, listener: Listener) -> CaseResult:
        """Super-resolve one series into the output folder, or find that it was done before."""
        started = time.monotonic()
        listener.case_started(candidate.name, series.shape[0] * series.shape[1] * self.options.samples * self.options.steps)
        found = survey(series)
        target = self._target(candidate, series)
        sidecar = target.with_name(f"{target.name}.json")
        parameters = self.parameters()
        key = case_key(found.digest, self.bundle.digest, __version__, {**parameters, "format": self.format})
        if not self.force and (done := already_done(sidecar, key)):
            return CaseResult(name=candidate.name, status="skipped", outputs=tuple(done), message="done before")
        plan = plan_sr(series, found, self.bundle, self.options)
        for note in plan.notes:
            warnings.warn(note, CmrsrWarning, stacklevel=2)
        surveyed = time.monotonic()
        engine = self._engine_for(plan)
        loaded = time.monotonic()
        shown = Shown(series, plan)
        derivation = self.derivation(parameters)
        refuse_overwriting([Path(f"{target}.nii.gz")], candidate.paths)
        with ExitStack() as stack:
            sink = stack.enter_context(self._sink(target, series, plan, derivation))
            for t, frame in enumerate(run_sr(series, plan, self.bundle, engine, self.options, on_evaluation=listener.evaluated)):
                sink.write(frame)
                shown.add(t, frame)
        outputs = sink.outputs()
        finished = time.monotonic()
        write_json_atomic(
            sidecar,
            {
                "software": f"cmrsr {__version__}",
                "notice": "Research use only, not a medical device.",
                "task": "sr",
                "input": {
                    "name": candidate.name, "digest": found.digest, "files": [p.name for p in series.source.paths],
                    "shape_tzyx": series.shape, "spacing_mm_zyx": series.spacing_mm, "times_ms": series.times_ms,
                    "kind": series.kind,
                },
                "engine": {
                    "name": self.bundle.manifest.name, "version": self.bundle.manifest.version, "digest": self.bundle.digest,
                },
                "parameters": parameters,
                "plan": {
                    "phase_axis": plan.axis, "phase_axis_from": plan.axis_source, "acquired_lines": plan.band.lines,
                    "matrix_lines": plan.band.size, "window_xywh": plan.window, "scale": plan.scale,
                    "consistency": plan.consistency, "affine": plan.affine,
                    "spread_factor": self.bundle.spread_factor(self.options.steps) if self.options.samples > 1 else None,
                },
                "device": {"backend": engine.backend, "device": engine.device, "precision": engine.precision},
                "seconds": {
                    "survey": surveyed - started, "engine": loaded - surveyed, "frames": finished - loaded,
                    "total": finished - started,
                },
                "notes": [*series.source.notes, *sink.notes],
                "warnings": list(plan.notes),
                "key": key,
                "outputs": {str(p.relative_to(sidecar.parent)): sha256_file(p) for p in outputs},
            },
        )  # fmt: skip
        folders = sorted({p if p.suffix != ".dcm" or p.parent == sidecar.parent else p.parent for p in outputs})
        return CaseResult(
            name=candidate.name, status="ok", outputs=(*folders, sidecar), warnings=plan.notes,
            details=SrDetails(series=series, plan=plan, shown=shown, engine=engine),
        )  # fmt: skip

    def parameters(self) -> dict[str, Any]:
        """The options as they enter sidecars, keys and identifiers; how the work is cut up is not one of them."""
        options = asdict(self.options)
        del options["batch_size"]
        options["roi"] = options["roi"] if isinstance(options["roi"], str) else ",".join(map(str, options["roi"]))
        return options

    def derivation(self, parameters: dict[str, Any]) -> Derivation:
        manifest = self.bundle.manifest
        return Derivation(
            task="sr", engine=manifest.name, engine_version=manifest.version, engine_digest=self.bundle.digest,
            software_version=__version__, parameters=parameters,
        )  # fmt: skip

    def _target(self, candidate: Candidate, series: Series) -> Path:
        """``OUT/<name>_sr``: the stem of the outputs, below the folders that the input lies in."""
        return self.out / f"{candidate.name}_sr"

    def _engine_for(self, plan: SrPlan) -> StepEngine:
        if self._engine and self._engine[0] == plan.padded:
            return self._engine[1]
        if self._engine:
            self._engine[1].close()
        engine = load_sr_engine(self.bundle, plan, self.options, self.choice)
        self._engine = (plan.padded, engine)
        return engine

    @contextmanager
    def _sink(self, target: Path, series: Series, plan: SrPlan, derivation: Derivation) -> Iterator["Sink"]:
        wanted = series.source.format if self.format == "same" else self.format
        make = _dicom_sink if wanted == "dicom" else _nifti_sink
        with make(target, series, plan, derivation, self.options.samples > 1) as sink:
            yield sink


@dataclass(frozen=True, slots=True)
class SrDetails:
    """What the report needs of one case."""

    series: Series
    plan: SrPlan
    shown: "Shown"
    engine: StepEngine


class Sink(Protocol):
    """Where the frames of one case go."""

    notes: list[str]

    def write(self, frame: SrFrame) -> None: ...
    def outputs(self) -> list[Path]: ...


@dataclass(slots=True)
class _NiftiSink:
    image: Any
    std: Any
    paths: list[Path]
    notes: list[str] = field(default_factory=list)

    def write(self, frame: SrFrame) -> None:
        self.image.write(frame.output)
        if self.std is not None:
            self.std.write(frame.std)

    def outputs(self) -> list[Path]:
        return self.paths


@contextmanager
def _nifti_sink(target: Path, series: Series, plan: SrPlan, derivation: Derivation, with_std: bool) -> Iterator[Sink]:
    from cmrsr.io.nifti import nifti_writer

    shape = (series.shape[0], series.shape[1], *plan.shape_yx)
    paths = [target.with_name(f"{target.name}.nii.gz")]
    description = derivation.describe()
    with ExitStack() as stack:
        image = stack.enter_context(
            nifti_writer(
                paths[0], series, shape=shape, affine=plan.affine, times_ms=series.times_ms, description=description
            )
        )
        std = None
        if with_std:
            paths.append(target.with_name(f"{target.name}_std.nii.gz"))
            std = stack.enter_context(
                nifti_writer(
                    paths[1], series, shape=shape, affine=plan.affine, times_ms=series.times_ms, dtype="float32",
                    description=description,
                )  # fmt: skip
            )
        yield _NiftiSink(image, std, paths)


@dataclass(slots=True)
class _DicomSink:
    writer: Any
    std: NDArray[np.float32] | None
    folder: Path
    map_path: Path | None
    notes: list[str] = field(default_factory=list)
    written: int = 0

    def write(self, frame: SrFrame) -> None:
        self.writer.write(frame.output)
        if self.std is not None and frame.std is not None:
            self.std[self.written] = frame.std
        self.written += 1

    def outputs(self) -> list[Path]:
        return sorted(self.folder.glob("*.dcm")) + ([self.map_path] if self.map_path else [])


@contextmanager
def _dicom_sink(target: Path, series: Series, plan: SrPlan, derivation: Derivation, with_std: bool) -> Iterator[Sink]:
    from cmrsr.io.dicom_write import dicom_writer

    shape = (series.shape[0], series.shape[1], *plan.shape_yx)
    map_path = target.with_name(f"{target.name}_std.dcm") if with_std else None
    scratch = target.with_name(f".{target.name}_std.npy.partial")
    try:
        std = None
        if with_std:
            with output_errors(scratch):
                scratch.parent.mkdir(parents=True, exist_ok=True)
                std = np.lib.format.open_memmap(scratch, mode="w+", dtype=np.float32, shape=shape)
        with dicom_writer(
            target, series, derivation, shape=shape, affine=plan.affine, times_ms=series.times_ms, description_suffix="SR"
        ) as writer:
            sink = _DicomSink(writer, std, target, map_path)
            yield sink
        sink.notes.extend(writer.notes)
        if map_path and std is not None:
            from cmrsr.io.dicom_parametric import write_parametric_map

            write_parametric_map(
                map_path, series, derivation, std, affine=plan.affine, shape=shape, label="standard deviation"
            )
    finally:
        scratch.unlink(missing_ok=True)


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
