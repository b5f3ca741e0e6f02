"""Plans on disk: built once, found by what they are for, and built anew when they are not what was stored."""

import errno
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cmrsr.errors import CmrsrWarning, EngineError
from cmrsr.runtime.gpu import plan_cache
from cmrsr.runtime.gpu.plan_cache import (
    PlanFor,
    PlanKey,
    cached_plan,
    find_key,
    locked,
    plan_paths,
    read_plan,
    store_plan,
)
from cmrsr.runtime.gpu.profiles import Profile

WANTED = PlanFor(
    gpu="NVIDIA H100", capability=(9, 0), tensorrt="11.4.0.106", source="ab12", precision="f16", portable=False
)
OTHERS: dict[str, Any] = {
    "gpu": "NVIDIA L4", "capability": (8, 9), "tensorrt": "11.4.1.0", "source": "ab13", "precision": "f32",
    "portable": True,
}  # fmt: skip
PLAN = b"a plan" * 100


def profile(low: int, high: int) -> Profile:
    return Profile({"x_t": ((low, 1, 96, 96), (high, 1, 96, 96), (high, 1, 96, 96))})


def key_of(low: int = 8, high: int = 8, **changes: Any) -> PlanKey:
    return PlanKey(**WANTED.model_dump() | changes, profile=profile(low, high))


class Builder:
    """Counts its builds; ``refuses``: plans that do not load."""

    def __init__(self, plan: bytes = PLAN) -> None:
        self.plan, self.builds, self.refuses = plan, 0, set[bytes]()
        self.said: list[str] = []

    def build(self) -> bytes:
        self.builds += 1
        return self.plan

    def load(self, plan: bytes) -> str | None:
        return None if plan in self.refuses else plan.decode()

    def get(self, folder: Path | None, key: PlanKey | None = None) -> tuple[str, bool]:
        return cached_plan(folder, key or key_of(), load=self.load, build=self.build, say=self.said.append)


def test_a_plan_is_built_once(tmp_path: Path) -> None:
    builder = Builder()
    assert builder.get(tmp_path) == (PLAN.decode(), True)
    assert builder.get(tmp_path) == (PLAN.decode(), False)
    assert builder.builds == 1
    assert builder.said == []


@pytest.mark.parametrize("field", OTHERS)
def test_a_plan_is_for_one_gpu_version_source_and_precision(tmp_path: Path, field: str) -> None:
    builder = Builder()
    builder.get(tmp_path)
    other = key_of(**{field: OTHERS[field]})
    assert other.digest != key_of().digest
    assert find_key(tmp_path, PlanFor(**other.model_dump(exclude={"profile"})), {"x_t": (8, 1, 96, 96)}) is None
    assert builder.get(tmp_path, other)[1]
    assert set(OTHERS) == set(PlanFor.model_fields)


def test_a_plan_is_for_its_sizes(tmp_path: Path) -> None:
    builder = Builder()
    builder.get(tmp_path)
    assert key_of(1, 8).digest != key_of().digest
    assert builder.get(tmp_path, key_of(1, 8))[1]


def test_the_narrowest_plan_that_takes_the_shapes_is_found(tmp_path: Path) -> None:
    for low, high in ((1, 8), (8, 8), (4, 8), (1, 1)):
        store_plan(tmp_path, key_of(low, high), PLAN)
    store_plan(tmp_path, key_of(6, 6, gpu="NVIDIA L4"), PLAN)

    def found(n: int) -> tuple[int, int] | None:
        key = find_key(tmp_path, WANTED, {"x_t": (n, 1, 96, 96)})
        return None if key is None else (key.profile.shapes["x_t"][0][0], key.profile.shapes["x_t"][2][0])

    assert [found(n) for n in (1, 2, 4, 6, 8, 9)] == [(1, 1), (1, 8), (4, 8), (4, 8), (8, 8), None]
    assert find_key(None, WANTED, {"x_t": (8, 1, 96, 96)}) is None


def test_what_is_found_is_what_was_stored(tmp_path: Path) -> None:
    store_plan(tmp_path, key_of(1, 8), PLAN)
    found = find_key(tmp_path, WANTED, {"x_t": (2, 1, 96, 96)})
    assert found == key_of(1, 8)
    assert found.digest == key_of(1, 8).digest
    assert read_plan(tmp_path, found) == PLAN


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path, Path], object]] = {
    "a flipped byte": lambda plan, index: flip(plan),
    "truncated": lambda plan, index: plan.write_bytes(PLAN[:-1]),
    "longer": lambda plan, index: plan.write_bytes(PLAN + b"x"),
    "empty": lambda plan, index: plan.write_bytes(b""),
    "gone": lambda plan, index: plan.unlink(),
    "index empty": lambda plan, index: index.write_bytes(b""),
    "index truncated": lambda plan, index: index.write_bytes(index.read_bytes()[:-20]),
    "index no json": lambda plan, index: index.write_bytes(b"\xff\xfe{"),
    "index of something else": lambda plan, index: index.write_text("[]"),
    "index with more": lambda plan, index: index.write_text(json.dumps(json.loads(index.read_text()) | {"more": 1})),
    "index of another gpu": lambda plan, index: index.write_text(index.read_text().replace("H100", "H200")),
    "index of another version": lambda plan, index: index.write_text(index.read_text().replace("11.4", "11.3")),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_plan_is_built_anew(tmp_path: Path, kind: str) -> None:
    builder = Builder()
    builder.get(tmp_path)
    DAMAGE[kind](*plan_paths(tmp_path, key_of()))
    with pytest.warns(CmrsrWarning, match=r"(damaged|missing|for another plan).*: removed and built anew") as caught:
        assert builder.get(tmp_path) == (PLAN.decode(), True)
    assert len(caught) == 1
    assert builder.get(tmp_path) == (PLAN.decode(), False)


@pytest.mark.parametrize("kind", ["index empty", "index no json", "index with more"])
def test_a_damaged_index_is_removed_while_looking(tmp_path: Path, kind: str) -> None:
    for low, high in ((1, 8), (8, 8)):
        store_plan(tmp_path, key_of(low, high), PLAN)
    paths = plan_paths(tmp_path, key_of())
    DAMAGE[kind](*paths)
    with pytest.warns(CmrsrWarning, match=r"\.json is damaged: .*: removed"):
        assert find_key(tmp_path, WANTED, {"x_t": (8, 1, 96, 96)}) == key_of(1, 8)
    assert not any(path.exists() for path in paths)


def test_a_plan_that_is_refused_is_built_anew(tmp_path: Path) -> None:
    Builder(b"of another driver").get(tmp_path)
    builder = Builder()
    builder.refuses = {b"of another driver"}
    with pytest.warns(CmrsrWarning, match=r"refused by TensorRT 11\.4\.0\.106 on this NVIDIA H100: removed and built"):
        assert builder.get(tmp_path) == (PLAN.decode(), True)
    assert builder.get(tmp_path) == (PLAN.decode(), False)


def test_a_new_plan_that_is_refused_is_an_error_and_not_stored(tmp_path: Path) -> None:
    builder = Builder()
    builder.refuses = {PLAN}
    with pytest.raises(EngineError, match="refuses the plan that it has just built"):
        builder.get(tmp_path)
    assert read_plan(tmp_path, key_of()) is None


def test_a_full_disk_costs_nothing_but_the_next_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_bytes(self: Path, data: bytes) -> int:
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    builder = Builder()
    with monkeypatch.context() as full:
        full.setattr(Path, "write_bytes", write_bytes)
        with pytest.warns(CmrsrWarning, match=r"cannot be written \(No space left on device\): the plan is used from"):
            assert builder.get(tmp_path) == (PLAN.decode(), True)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
    assert builder.get(tmp_path)[1]
    assert not builder.get(tmp_path)[1]


def test_a_disk_that_is_full_for_the_index_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_text(self: Path, *_: Any, **__: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    builder = Builder()
    with monkeypatch.context() as full:
        full.setattr(Path, "write_text", write_text)
        with pytest.warns(CmrsrWarning, match="used from memory"):
            builder.get(tmp_path)
    assert builder.get(tmp_path)[1]  # a plan without its index counts as none, without a word
    assert not builder.get(tmp_path)[1]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """Permission bits do not stop root: a file where the folder should be does."""
    (tmp_path / "file").touch()
    builder = Builder()
    with pytest.warns(CmrsrWarning, match=r"cannot be written.*CMRSR_CACHE"):
        assert builder.get(tmp_path / "file" / "tensorrt") == (PLAN.decode(), True)


def test_without_a_folder_every_process_builds() -> None:
    builder = Builder()
    assert [builder.get(None)[1] for _ in range(2)] == [True, True]


def test_what_a_killed_build_left_behind_is_in_nobodys_way(tmp_path: Path) -> None:
    plan, _ = plan_paths(tmp_path, key_of())
    own, old, fresh = (plan.with_name(f".{name}.partial") for name in (plan.name, "old.plan", "fresh.plan"))
    for path in (own, old, fresh):
        path.write_bytes(b"half a")
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(old, (two_days_ago, two_days_ago))
    builder = Builder()
    assert builder.get(tmp_path) == (PLAN.decode(), True)
    assert [path.exists() for path in (own, old, fresh)] == [False, False, True]  # another process may write the last
    assert not builder.get(tmp_path)[1]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), EngineError("no")])
def test_a_build_that_fails_gives_the_lock_back(tmp_path: Path, error: BaseException) -> None:
    def fails() -> bytes:
        raise error

    with pytest.raises(type(error)):
        cached_plan(tmp_path, key_of(), load=Builder().load, build=fails, say=pytest.fail)
    assert Builder().get(tmp_path)[1]


def test_a_plan_that_was_built_meanwhile_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the first look and the lock."""
    inside = locked

    def meanwhile(*arguments: Any) -> Any:
        store_plan(tmp_path, key_of(), PLAN)
        return inside(*arguments)

    monkeypatch.setattr(plan_cache, "locked", meanwhile)
    builder = Builder(b"another")
    assert builder.get(tmp_path) == (PLAN.decode(), False)
    assert builder.builds == 0


def test_without_locks_it_works_for_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def flock(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with monkeypatch.context() as network_folder:
        network_folder.setattr(fcntl, "flock", flock)
        assert Builder().get(tmp_path / "a")[1]
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert Builder().get(tmp_path / "a", key_of(1, 8))[1]


def test_nothing_is_said_where_nothing_is_wrong(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store_plan(tmp_path, key_of(), PLAN)
        Builder().get(tmp_path)
