"""One series of a batch from files to files: what every task does around its own work on it."""

import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cmrsr.batch.run import CaseResult, Listener, already_done, case_key, remove_stale
from cmrsr.batch.sinks import Frame, Layout, Sink, dicom_sink, nifti_sink
from cmrsr.batch.writing import written
from cmrsr.errors import CmrsrWarning
from cmrsr.io.derivation import Derivation
from cmrsr.io.discover import Candidate
from cmrsr.io.outputs import sha256_file, write_json_atomic
from cmrsr.io.series import Kind, Series
from cmrsr.io.survey import Survey, survey
from cmrsr.runtime.bundle import Bundle, Task
from cmrsr.runtime.choice import DeviceChoice, Engine
from cmrsr.version import __version__

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Format = Literal["same", "nifti", "dicom"]
Options = TypeVar("Options", bound="DataclassInstance")
SECONDS_DECIMALS = 9


class Work(ABC):
    """What a task has decided about one series.

    n_evaluations: of the network, the unit of progress. plan: for the sidecar. notes: what was decided, for who asks;
    warnings: what everybody should read; both may grow until the last frame. results: what the sidecar says on its own
    level beside the images, once all frames are done.
    """

    layout: Layout
    n_evaluations: int
    plan: Mapping[str, Any]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    results: Mapping[str, Any] = MappingProxyType({})

    @abstractmethod
    def load(self) -> Engine:
        """Compile the engine, or the first of several: what it runs on."""

    @abstractmethod
    def frames(self, on_evaluation: Callable[[int], None]) -> Iterator[Frame]:
        """The result, frame by frame; of each is kept what the report shows."""

    @abstractmethod
    def details(self, device: str) -> Any:
        """What the report needs, once all frames are done."""


@dataclass(slots=True, kw_only=True)
class CaseFiles(ABC, Generic[Options]):
    """The settings of a run, which a task's own class says how to ``begin`` a series with.

    resampled, number: see ``Derivation``. command: how the run was started, for the sidecars. notice: what these say
    first.
    """

    task: ClassVar[Task]
    resampled: ClassVar[bool] = False
    number: ClassVar[int] = 0
    notice: ClassVar[str] = "Research use only, not a medical device."
    bundle: Bundle
    options: Options
    choice: DeviceChoice
    out: Path
    format: Format = "same"
    force: bool = False
    command: str = ""

    @abstractmethod
    def begin(self, name: str, series: Series, found: Survey) -> Work:
        """Decide everything about a series, ``name`` in the batch; UnusableError where it cannot be worked on."""

    def others(self, candidate: Candidate) -> Mapping[str, str]:
        """Digests, by name, of what a result depends on besides the series and the engine; read before it begins."""
        return {}

    def process(self, candidate: Candidate, series: Series, listener: Listener) -> CaseResult:
        """Do one series into the output folder, or find that it was done before."""
        started = time.monotonic()
        found = survey(series)
        target = self._target(candidate)
        sidecar = target.with_name(f"{target.name}.json")
        parameters, requested, others = self.parameters(), self._requested(), self.others(candidate)
        key = case_key(found.digest, self.bundle.digest, __version__, {**parameters, **requested, **others})
        if not self.force and (done := already_done(sidecar, key)):
            return CaseResult(
                name=candidate.name, status="skipped", outputs=(*_listed(done, target), sidecar), message="done before"
            )
        work = self.begin(candidate.name, series, found)
        listener.case_started(candidate.name, work.n_evaluations)
        surveyed = time.monotonic()
        said: list[str] = []
        with _noting(said):
            engine = work.load()
        loaded = time.monotonic()
        kind = series.source.format if self.format == "same" else self.format
        derivation = self._derivation({**parameters, **others, "precision": engine.precision})
        with _noting(said), written(self.sink(kind, target, series, work, derivation), target) as sink:
            for frame in work.frames(listener.evaluated):
                sink.write(frame)
        outputs = sink.outputs()
        remove_stale(sidecar, outputs)
        finished = time.monotonic()
        notes = (*series.source.notes, *work.notes, *sink.notes)
        warned = (*work.warnings, *dict.fromkeys(said))
        manifest = self.bundle.manifest
        write_json_atomic(
            sidecar,
            {
                "software": f"cmrsr {__version__}",
                "notice": self.notice,
                "task": self.task,
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
                "requested": requested,
                **others,
                "plan": work.plan,
                "device": {"backend": engine.backend, "device": engine.device, "precision": engine.precision},
                "seconds": {
                    "survey": surveyed - started, "engine": loaded - surveyed, "frames": finished - loaded,
                    "total": finished - started,
                },
                "notes": notes,
                "warnings": warned,
                "key": key,
                "outputs": {str(p.relative_to(sidecar.parent)): sha256_file(p) for p in outputs},
                **work.results,
                **_bids_times(series.kind, work.layout.times_ms),
            },
        )  # fmt: skip
        device = f"{engine.backend} {engine.device} {engine.precision}"
        return CaseResult(
            name=candidate.name, status="ok", outputs=(*_listed(outputs, target), sidecar), notes=(*notes, device),
            warnings=warned, details=work.details(device),
        )  # fmt: skip

    def sink(
        self, kind: str, target: Path, series: Series, work: Work, derivation: Derivation
    ) -> AbstractContextManager[Sink]:
        """Where the frames go: "nifti" or "dicom" files named after ``target``."""
        open_sink = dicom_sink if kind == "dicom" else nifti_sink
        return open_sink(target, series, work.layout, derivation, self.parameters()["samples"] > 1)

    def planned(self, candidate: Candidate) -> list[Path]:
        """Every file that this run may write for a series, but those inside its own DICOM folder."""
        target = self._target(candidate)
        return [target.with_name(target.name + end) for end in (".nii.gz", "_std.nii.gz", "_std.dcm", ".json")]

    def parameters(self) -> dict[str, Any]:
        """The options as they enter sidecars, keys and identifiers; how the work is cut up is not one of them."""
        options = asdict(self.options)
        del options["batch_size"]
        return {k: ",".join(map(str, v)) if isinstance(v, tuple) else v for k, v in options.items()}

    def _requested(self) -> dict[str, Any]:
        """What else was asked for and changes the bytes of the result."""
        choice = self.choice
        return {
            "format": self.format, "device": choice.device, "backend": choice.backend, "precision": choice.precision,
        }  # fmt: skip

    def _derivation(self, parameters: dict[str, Any]) -> Derivation:
        manifest = self.bundle.manifest
        return Derivation(
            task=self.task, engine=manifest.name, engine_version=manifest.version, engine_digest=self.bundle.digest,
            software_version=__version__, parameters=parameters, resampled=self.resampled, number=self.number,
        )  # fmt: skip

    def _target(self, candidate: Candidate) -> Path:
        """``OUT/<name>_<task>``: the stem of the outputs, below the folders that the input lies in."""
        return self.out / f"{candidate.name}_{self.task}"


class Closable(Protocol):
    """Something that holds a device or memory until it is closed."""

    def close(self) -> None: ...


E = TypeVar("E", bound=Closable)


class Kept(Generic[E]):
    """The engine of the last series, for the next one that needs the same."""

    def __init__(self) -> None:
        self._kept: tuple[Hashable, E, list[str]] | None = None

    def get(self, key: Hashable, load: Callable[[], E]) -> E:
        """The engine for ``key``; every time with the warnings that its choice gave rise to."""
        if self._kept is None or self._kept[0] != key:
            if self._kept:
                self._kept[1].close()
                self._kept = None
            said: list[str] = []
            with _noting(said):
                engine = load()
            self._kept = (key, engine, said)
        for text in self._kept[2]:
            warnings.warn(text, CmrsrWarning, stacklevel=2)
        return self._kept[1]


@contextmanager
def _noting(said: list[str]) -> Iterator[None]:
    """Warnings raised inside are added to ``said``, for the sidecar, the report and the console."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    said += [str(warning.message) for warning in caught if issubclass(warning.category, CmrsrWarning)]


def _bids_times(kind: Kind, times_ms: NDArray[np.float64] | None) -> dict[str, Any]:
    """The times of a result as a BIDS sidecar has them, in seconds: a NIfTI header holds one step only."""
    if times_ms is None or len(times_ms) == 1:
        return {}
    return {"InversionTime" if kind == "t1" else "FrameTimes": np.round(times_ms / 1000, SECONDS_DECIMALS)}


def _listed(outputs: Iterable[Path], target: Path) -> list[Path]:
    """Outputs as a person counts them: a folder of DICOM images is one."""
    return list(dict.fromkeys(target if path.parent == target else path for path in outputs))
