"""Files as they appear in a folder, found by looking again and again: network shares send no notice of a change."""

import itertools
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cmrsr.io.inputs import natural_key
from cmrsr.io.own_results import OwnResults, is_result_folder, is_truth_folder
from cmrsr.io.walk import file_kind

Version = tuple[int, int]  # size in bytes and time of the last change in ns: what tells two states of a file apart
MISSING: Version = (-1, 0)
UNFINISHED = re.compile(r"^\.|~$|\.(partial|part|tmp|temp)$", re.IGNORECASE)  # names that are still to change
# A folder's time says that names have changed. It ticks every few ms, and some network shares do not keep it.
TICK_S, RELIST_S, RELIST_SHARE = 0.05, 0.25, 20
YOUNG_S = 5.0  # a file that changed so lately may be growing and is looked at every time
IN_TURN = 16  # of the other files, looked at each time


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A file that is new, or another than when it was last looked at.

    name: a relative path for what is made of it. early: it was there before anybody looked.
    changed_at: when it last changed, seconds of ``time.time()``: the later of the file system's times of content and of
    name or place, between the last look that did not find it so and the one that did, whatever clock a server has.
    """

    path: Path
    name: Path
    version: Version
    changed_at: float
    early: bool = False
    explicit: bool = False


class Arrivals(Protocol):
    """Where files come from. ``ended``: no more will; ``left_out``: what was passed over, in words."""

    left_out: Counter[str]

    @property
    def ended(self) -> bool: ...
    def poll(self) -> list[Arrival]:
        """What is new since the last call, in order of time."""
        ...

    def release(self, path: Path) -> None:
        """Nothing more is expected of this file."""
        ...


def look(path: Path, since: float) -> tuple[Version, float]:
    """The state of a file, and when it came about, not before ``since``. OSError where it cannot be looked at."""
    found = path.stat()
    changed = found.st_mtime if os.name == "nt" else max(found.st_mtime, found.st_ctime)  # elsewhere: of creation
    return (found.st_size, found.st_mtime_ns), min(max(changed, since), time.time())


@dataclass(slots=True)
class _File:
    """looked_at: ``time.time()`` of the last look; young_until: ``time.monotonic()``."""

    version: Version
    looked_at: float
    young_until: float


@dataclass(slots=True)
class _Folder:
    """changed_ns: its own time; listed_at: ``time.time()`` of the last look at its names; the rest ``monotonic``."""

    path: Path
    real: str
    listed_at: float
    changed_ns: int = -1
    settles_at: float = 0.0
    next_listing: float = 0.0
    files: dict[str, _File] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)


class FolderArrivals:
    """New and changed files of a folder and of all folders in it, those that appear later as well.

    Left out are hidden and temporary names, results of ours, and what is no image by its name (see ``find_files``);
    label maps are left out by who reads them, once they are whole.
    Cheap to ask: the names of a folder are read where its time has changed and now and then besides, and of files that
    are at rest a few are looked at each time, all of them in turn.
    """

    ended = False

    def __init__(self, folder: Path) -> None:
        self.left_out: Counter[str] = Counter()
        self._root = folder
        self._first = True
        real = os.path.realpath(folder)
        self._folders = {folder: _Folder(folder, real, time.time())}
        self._real = {real}
        self._young: dict[Path, _File] = {}
        self._turn: Iterator[tuple[_Folder, str]] = iter(())
        self._own = OwnResults()

    def poll(self) -> list[Arrival]:
        found: list[Arrival] = []
        waiting = list(self._folders.values())
        while waiting:
            folder = waiting.pop()
            if self._is_due(folder):
                waiting += self._list(folder, found)
        for path, file in list(self._young.items()):
            if time.monotonic() > file.young_until:
                del self._young[path]
            else:
                self._look_again(path, file, found)
        for folder, name in self._next_in_turn():
            if name in folder.files:
                self._look_again(folder.path / name, folder.files[name], found)
        self._first = False
        return sorted(found, key=lambda a: (a.version[1], natural_key(a.name)))

    def release(self, path: Path) -> None:
        pass

    def _is_due(self, folder: _Folder) -> bool:
        try:
            changed = folder.path.stat().st_mtime_ns
        except OSError:
            if folder.path != self._root:
                self._forget(folder)
            return False  # a share that is away for a while comes back
        now = time.monotonic()
        if changed != folder.changed_ns:
            folder.changed_ns, folder.settles_at = changed, now + TICK_S
        return now < folder.settles_at or now >= folder.next_listing

    def _list(self, folder: _Folder, found: list[Arrival]) -> list[_Folder]:
        """Take note of the names in a folder; returns the folders that are new in it."""
        before, started = folder.listed_at, time.monotonic()
        listed_at = time.time()
        there: set[str] = set()
        new = []
        try:
            with os.scandir(folder.path) as some:
                entries = list(some)
            self._own.learn(folder.path, [e.name for e in entries if e.name not in folder.files])
            for entry in entries:
                there.add(entry.name)
                if entry.name in folder.files or entry.name in folder.folders or UNFINISHED.search(entry.name):
                    continue
                if entry.is_dir():
                    new += self._enter(folder, entry, before)
                elif entry.is_file():
                    self._take(folder, entry, before, found)
        except OSError:
            return new
        for name in folder.files.keys() - there:
            del folder.files[name]
        folder.folders &= there
        folder.listed_at = listed_at
        now = time.monotonic()
        folder.next_listing = now + max(RELIST_S, RELIST_SHARE * (now - started))
        return new

    def _enter(self, folder: _Folder, entry: os.DirEntry[str], before: float) -> list[_Folder]:
        folder.folders.add(entry.name)
        real = os.path.realpath(entry.path)
        if real in self._real:  # a link to a folder above
            return []
        path = Path(entry.path)
        if is_result_folder(path) or is_truth_folder(path):
            self.left_out["folder of earlier results of cmrsr, or of a virtual patient's truth"] += 1
            return []
        self._real.add(real)
        one = self._folders[path] = _Folder(path, real, before)
        return [one]

    def _forget(self, folder: _Folder) -> None:
        del self._folders[folder.path]
        self._real.discard(folder.real)
        if parent := self._folders.get(folder.path.parent):
            parent.folders.discard(folder.path.name)

    def _take(self, folder: _Folder, entry: os.DirEntry[str], before: float, found: list[Arrival]) -> None:
        path = Path(entry.path)
        try:
            version, changed_at = look(path, before)
        except OSError:
            return
        now = time.time()
        file = folder.files[entry.name] = _File(version, now, time.monotonic() + YOUNG_S)
        if not self._first or version[1] > (now - YOUNG_S) * 1e9:  # a folder may hold many that are long complete
            self._young[path] = file
        if kind := self._add(path, version, changed_at, found):
            self.left_out[kind] += 1

    def _look_again(self, path: Path, file: _File, found: list[Arrival]) -> None:
        looked_at = time.time()
        try:
            version, changed_at = look(path, file.looked_at)
        except OSError:
            return
        file.looked_at = looked_at
        if version != file.version:
            file.version, file.young_until = version, time.monotonic() + YOUNG_S
            self._young[path] = file
            self._add(path, version, changed_at, found)

    def _add(self, path: Path, version: Version, changed_at: float, found: list[Arrival]) -> str | None:
        """Report a file; or say what it is that is no image."""
        if path in self._own:
            return "earlier result of cmrsr"
        kind = file_kind(path, explicit=False)
        if kind not in ("nifti", "dicom"):
            return kind
        name = path.relative_to(self._root)
        found.append(Arrival(path=path, name=name, version=version, changed_at=changed_at, early=self._first))
        return None

    def _next_in_turn(self) -> list[tuple[_Folder, str]]:
        some = list(itertools.islice(self._turn, IN_TURN))
        if len(some) < IN_TURN:
            self._turn = iter([(folder, name) for folder in self._folders.values() for name in folder.files])
        return some
