"""One series on its way through a task: what is decided, what is loaded for it, what comes of it. Each is complete."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cmrsr.batch.sinks import Layout, Sink
from cmrsr.io.derivation import Derivation
from cmrsr.runtime.choice import Engine

OnEvaluation = Callable[[int], None]  # receives how many images went through one evaluation of the network


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a series, besides its frames.

    plan: for the sidecar, with what was found on the way. results: what the sidecar says on its own level beside the
    images. warnings: what everybody should read. details: what the case's page in the report is made of.
    """

    plan: Mapping[str, Any]
    warnings: tuple[str, ...]
    details: Any
    results: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A series with its engine, ready to be computed. engine: what it runs on, or the first of several.

    run: gives every frame to the sink, in order, once it is done.
    """

    engine: Engine
    run: Callable[[Sink, OnEvaluation], Outcome]


def device_of(engine: Engine) -> str:
    """Backend, device and precision, for the report."""
    return f"{engine.backend} {engine.device} {engine.precision}"


class Work(ABC):
    """What a task has decided about one series.

    n_evaluations: of the network, the unit of progress. notes: what was decided, for who asks.
    """

    layout: Layout
    n_evaluations: int
    notes: tuple[str, ...]

    @abstractmethod
    def load(self) -> Loaded:
        """Compile the engines, or take those of the last series where they fit."""

    @abstractmethod
    def sink(self, kind: str, target: Path, derivation: Derivation) -> AbstractContextManager[Sink]:
        """Where the frames go: "nifti" or "dicom" files named after ``target``."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A series that has been read. others: digests, by name, of what its result depends on besides it and the engine.

    begin: decides everything about the series; UnusableError where it cannot be worked on.
    """

    begin: Callable[[], Work]
    others: Mapping[str, str] = field(default_factory=dict)
