"""Files as another program names them, one a line, on an open file such as standard input."""

import os
import queue
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from cmrsr.tasks.sr.stream.arrivals import MISSING, Arrival, Version, look

_CHUNK = 65536


@dataclass(slots=True)
class _Listed:
    """looked_at: ``time.time()`` of the last look, at first when its line was read."""

    version: Version | None
    looked_at: float


class ListedArrivals:
    """The files that the lines of an open file name. One is reported when its line is read and, until it is released,
    whenever it has changed; one that is not there is reported too, as ``MISSING``.

    Relative names keep their folders, absolute ones lose the root.
    """

    def __init__(self, descriptor: int) -> None:
        self.left_out: Counter[str] = Counter()
        self._lines: queue.SimpleQueue[tuple[str, float] | None] = queue.SimpleQueue()
        self._files: dict[Path, _Listed] = {}
        self._closed = False
        # Not through a buffered stream: its lock, held by a thread that waits for a line, would stop the interpreter.
        threading.Thread(target=self._read, args=(descriptor,), daemon=True, name="names").start()

    @property
    def ended(self) -> bool:
        return self._closed and self._lines.empty()

    def poll(self) -> list[Arrival]:
        while not self._lines.empty():
            line = self._lines.get()
            if line is None:
                self._closed = True
            elif line[0]:
                self._files[Path(line[0]).expanduser()] = _Listed(None, line[1])
        return [arrival for path, file in self._files.items() if (arrival := _look_at(path, file))]

    def release(self, path: Path) -> None:
        self._files.pop(path, None)

    def _read(self, descriptor: int) -> None:
        rest = b""
        while chunk := _read_some(descriptor):
            *lines, rest = (rest + chunk).split(b"\n")
            now = time.time()
            for line in lines:
                self._lines.put((os.fsdecode(line).strip(), now))
        self._lines.put((os.fsdecode(rest).strip(), time.time()))
        self._lines.put(None)


def _read_some(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _CHUNK)
    except OSError:  # closed behind our back: no more will come
        return b""


def _look_at(path: Path, file: _Listed) -> Arrival | None:
    looked_at = time.time()
    try:
        version, changed_at = look(path, file.looked_at)
    except OSError:
        version, changed_at = MISSING, looked_at
    file.looked_at = looked_at
    if version == file.version:
        return None
    file.version = version
    whole = path.resolve() if ".." in path.parts else path
    return Arrival(
        path=path, name=whole.relative_to(whole.anchor), version=version, changed_at=changed_at, explicit=True
    )
