"""TensorRT plans on disk: built once, found by what they were built for, and never trusted unread.

A plan lies beside an index that says what it is for and what its sha256 is: ``<key>.plan`` and ``<key>.json``. Both
appear whole or not at all, the index last. Readers take no lock. Who builds holds ``<key>.lock``, which the operating
system gives back when a process ends, however it ends.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from cmrsr.errors import EngineError, OutputError
from cmrsr.io.outputs import output_errors, remove_partials, replacing, write_text_atomic
from cmrsr.runtime.gpu.profiles import Profile, Shapes
from cmrsr.user_warnings import warn_user

FOLDER = "tensorrt"  # below the user's cache; another layout takes another name
Engine = TypeVar("Engine")
Say = Callable[[str], None]


class PlanFor(BaseModel):
    """What a plan depends on beside its sizes. source: digest of the graph and its weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    gpu: str
    capability: tuple[int, int]
    tensorrt: str
    source: str
    precision: str
    portable: bool


class PlanKey(PlanFor):
    """What a plan is for."""

    profile: Profile

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:32]


class PlanIndex(BaseModel):
    """``<key>.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    key: PlanKey
    sha256: str


class DamagedError(Exception):
    """A plan or its index is not what was stored."""


def find_key(folder: Path | None, wanted: PlanFor, shapes: Shapes) -> PlanKey | None:
    """The stored plan for the narrowest range of sizes that holds inputs of ``shapes``; None where there is none.

    An index that cannot be read is removed with its plan, with a warning.
    """
    found = []
    for path in sorted(folder.glob("*.json")) if folder else ():
        try:
            key = _read_index(path).key
        except DamagedError as error:
            _warn(f"{error}: removed, its plan is built anew when it is asked for")
            _remove(path, path.with_suffix(".plan"))
        except OSError:  # gone meanwhile, or not ours to read
            continue
        else:
            if key.model_dump(exclude={"profile"}) == wanted.model_dump() and key.profile.covers(shapes):
                found.append(key)
    return min(found, key=lambda key: key.profile.width, default=None)


def cached_plan(
    folder: Path | None, key: PlanKey, *, load: Callable[[bytes], Engine | None], build: Callable[[], bytes], say: Say
) -> tuple[Engine, bool]:
    """The plan for ``key`` as ``load`` makes an engine of it, and whether it had to be built.

    load: None where TensorRT refuses the plan. A plan that is damaged or refused is built anew; one that cannot be
    stored is used all the same; both with a warning. say: told when another process builds it already.
    """
    if folder is None:
        return _loaded(build(), load), True
    with suppress(DamagedError, OSError):  # perhaps another process replaces it just now: looked at again below
        engine = _stored(folder, key, load)
        if engine is not None:
            return engine, False
    waiting = f"another process builds the TensorRT plan for {key.profile}: waiting for it"
    with locked(folder / f"{key.digest}.lock", lambda: say(waiting)):
        try:
            engine = _stored(folder, key, load)
        except (DamagedError, OSError) as error:
            _warn(f"{error}: removed and built anew")
            _remove(*reversed(plan_paths(folder, key)))
            engine = None
        if engine is not None:
            return engine, False
        plan = build()
        engine = _loaded(plan, load)
        store_plan(folder, key, plan)
    return engine, True


def _stored(folder: Path, key: PlanKey, load: Callable[[bytes], Engine | None]) -> Engine | None:
    """None where nothing is stored. DamagedError: nothing that can be used."""
    plan = read_plan(folder, key)
    if plan is None:
        return None
    engine = load(plan)
    if engine is None:
        raise DamagedError(f"{plan_paths(folder, key)[0]} is refused by TensorRT {key.tensorrt} on this {key.gpu}")
    return engine


def _loaded(plan: bytes, load: Callable[[bytes], Engine | None]) -> Engine:
    engine = load(plan)
    if engine is None:
        raise EngineError("TensorRT refuses the plan that it has just built: install TensorRT and the driver anew")
    return engine


def read_plan(folder: Path, key: PlanKey) -> bytes | None:
    """The stored plan; None where there is none. DamagedError: it is not what was stored."""
    path, index_path = plan_paths(folder, key)
    if not index_path.exists():
        return None
    index = _read_index(index_path)
    if index.key != key:
        raise DamagedError(f"{index_path} is for another plan")
    try:
        plan = path.read_bytes()
    except FileNotFoundError as error:
        raise DamagedError(f"{path} is missing beside its index") from error
    if hashlib.sha256(plan).hexdigest() != index.sha256:
        raise DamagedError(f"{path} is damaged: its {len(plan)} bytes have another sha256 than its index says")
    return plan


def store_plan(folder: Path, key: PlanKey, plan: bytes) -> bool:
    """Write a plan and its index; False, with a warning, where that cannot be done."""
    path, index_path = plan_paths(folder, key)
    index = PlanIndex(key=key, sha256=hashlib.sha256(plan).hexdigest())
    try:
        remove_partials(folder)  # of builds that were killed
        with replacing(path) as partial, output_errors(path):
            partial.write_bytes(plan)
        write_text_atomic(index_path, index.model_dump_json(indent=2))
    except OutputError as error:
        _warn(
            f"{folder} cannot be written ({getattr(error.__cause__, 'strerror', error)}): the plan is used from memory "
            "and has to be built again next time; make room there, or name another folder in CMRSR_CACHE"
        )
        return False
    return True


def plan_paths(folder: Path, key: PlanKey) -> tuple[Path, Path]:
    """Paths of the plan and of its index."""
    return folder / f"{key.digest}.plan", folder / f"{key.digest}.json"


@contextmanager
def locked(path: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Only one process at a time is inside; without a lock where the system or the file system has none."""
    handle = _lock(path, on_wait)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)  # gives the lock back


def _lock(path: Path, on_wait: Callable[[], None]) -> int | None:
    try:
        import fcntl

        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except (ImportError, OSError):  # Windows; a folder that cannot be written
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        on_wait()
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:  # a network folder without locks
        pass
    return handle


def _read_index(path: Path) -> PlanIndex:
    try:
        return PlanIndex.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise DamagedError(f"{path} is damaged: {error.errors()[0]['msg']}") from error


def _remove(*paths: Path) -> None:
    for path in paths:
        with suppress(OSError):  # in a folder that cannot be written it stays, and is not used
            path.unlink(missing_ok=True)


def _warn(message: str) -> None:
    warn_user(message, stacklevel=4)
