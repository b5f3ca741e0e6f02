"""Writing a result in one place: whatever a library makes of it that is no error of ours is an error of the output."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cmrsr.batch.sinks import Frame, Sink
from cmrsr.errors import CmrsrError, OutputError, debugging


@contextmanager
def written(sink: AbstractContextManager[Sink], target: Path) -> Iterator[Sink]:
    """The sink, opened, whose errors are OutputErrors; what is raised while it is open and is not its own goes through.

    target: the stem of the outputs, for the message.
    """
    with _library_errors(target):
        opened = sink.__enter__()
    try:
        yield _Guarded(opened, target)
    except BaseException:
        if not sink.__exit__(*sys.exc_info()):
            raise
    else:
        with _library_errors(target):
            sink.__exit__(None, None, None)


@dataclass(slots=True)
class _Guarded:
    _sink: Sink
    _target: Path

    @property
    def notes(self) -> list[str]:
        return self._sink.notes

    @notes.setter
    def notes(self, notes: list[str]) -> None:
        self._sink.notes = notes

    def write(self, frame: Frame) -> None:
        with _library_errors(self._target):
            self._sink.write(frame)

    def conclude(self, findings: object) -> None:
        with _library_errors(self._target):
            self._sink.conclude(findings)

    def outputs(self) -> list[Path]:
        return self._sink.outputs()


@contextmanager
def _library_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except (CmrsrError, MemoryError):
        raise
    except Exception as error:
        if debugging():
            raise
        raise OutputError(
            f"{target}: the result cannot be written ({type(error).__name__}: {error}); write the other format with "
            "--format, and report this"
        ) from error
