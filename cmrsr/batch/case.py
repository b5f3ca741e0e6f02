"""One series of a batch from files to files: what every task does around its own work on it."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cmrsr.batch.run import CaseResult, Listener, already_done, case_key, remove_stale
from cmrsr.batch.work import Prepared, device_of
from cmrsr.batch.writing import written
from cmrsr.io.derivation import Derivation
from cmrsr.io.discover import Candidate
from cmrsr.io.outputs import sha256_file, write_json_atomic
from cmrsr.io.series import Kind, Series
from cmrsr.io.survey import Survey, survey
from cmrsr.runtime.bundle import Bundle, Task
from cmrsr.runtime.choice import DeviceChoice
from cmrsr.user_warnings import user_warnings, warn_user
from cmrsr.version import __version__

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Format = Literal["same", "nifti", "dicom"]
Options = TypeVar("Options", bound="DataclassInstance")
Case = TypeVar("Case", bound=Candidate)
SECONDS_DECIMALS = 9


@dataclass(slots=True, kw_only=True)
class CaseFiles(ABC, Generic[Options, Case]):
    """The settings of a run, which a task's own class says how to ``prepare`` a case with.

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
    def prepare(self, case: Case, series: Series, found: Survey) -> Prepared:
        """Read what else belongs to a case, whose series and its survey are given."""

    def process(self, candidate: Case, series: Series, listener: Listener) -> CaseResult:
        """Do one series into the output folder, or find that it was done before."""
        started = time.monotonic()
        found = survey(series)
        target = self._target(candidate)
        sidecar = target.with_name(f"{target.name}.json")
        parameters, requested = self.parameters(), self._requested()
        prepared = self.prepare(candidate, series, found)
        others = prepared.others
        key = case_key(found.digest, self.bundle.digest, __version__, {**parameters, **requested, **others})
        if not self.force and (done := already_done(sidecar, key)):
            return CaseResult(
                name=candidate.name, status="skipped", outputs=(*_listed(done, target), sidecar), message="done before"
            )
        work = prepared.begin()
        listener.case_started(candidate.name, work.n_evaluations)
        surveyed = time.monotonic()
        with user_warnings() as texts:
            loaded = work.load()
            engine, loaded_at = loaded.engine, time.monotonic()
            kind = series.source.format if self.format == "same" else self.format
            derivation = self._derivation({**parameters, **others, "precision": engine.precision})
            with written(work.sink(kind, target, derivation), target) as sink:
                outcome = loaded.run(sink, listener.evaluated)
        outputs = sink.outputs()
        remove_stale(sidecar, outputs)
        finished = time.monotonic()
        notes = (*series.source.notes, *work.notes, *sink.notes)
        warned = (*outcome.warnings, *dict.fromkeys(texts))
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
                "plan": outcome.plan,
                "device": {"backend": engine.backend, "device": engine.device, "precision": engine.precision},
                "seconds": {
                    "survey": surveyed - started, "engine": loaded_at - surveyed, "frames": finished - loaded_at,
                    "total": finished - started,
                },
                "notes": notes,
                "warnings": warned,
                "key": key,
                "outputs": {str(p.relative_to(sidecar.parent)): sha256_file(p) for p in outputs},
                **outcome.results,
                **_bids_times(series.kind, work.layout.times_ms),
            },
        )  # fmt: skip
        return CaseResult(
            name=candidate.name, status="ok", outputs=(*_listed(outputs, target), sidecar),
            notes=(*notes, device_of(engine)), warnings=warned, details=outcome.details,
        )  # fmt: skip

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
            with user_warnings() as texts:
                engine = load()
            self._kept = (key, engine, texts)
        for text in self._kept[2]:
            warn_user(text, stacklevel=2)
        return self._kept[1]


def _bids_times(kind: Kind, times_ms: NDArray[np.float64] | None) -> dict[str, Any]:
    """The times of a result as a BIDS sidecar has them, in seconds: a NIfTI header holds one step only."""
    if times_ms is None or len(times_ms) == 1:
        return {}
    return {"InversionTime" if kind == "t1" else "FrameTimes": np.round(times_ms / 1000, SECONDS_DECIMALS)}


def _listed(outputs: Iterable[Path], target: Path) -> list[Path]:
    """Outputs as a person counts them: a folder of DICOM images is one."""
    return list(dict.fromkeys(target if path.parent == target else path for path in outputs))
