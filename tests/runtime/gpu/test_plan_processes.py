"""Processes that want the same plan at the same time, or are killed while they build it."""

import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest

from cmrsr.errors import CmrsrWarning
from cmrsr.runtime.bundle import Bundle, load
from cmrsr.runtime.gpu.cuda import gpus
from cmrsr.runtime.gpu.plan import open_plan, plan_source
from tests.fake_cuda import FakeCuda
from tests.fake_gpu import install
from tests.fake_tensorrt import FakeTensorRt
from tests.plans import SHAPES, bundle, cache, fake_gpu, opened, silently, stored, tensorrt

__all__ = ["bundle", "cache", "fake_gpu", "stored", "tensorrt"]
PATIENCE_S = 60.0  # for a process to start, on a machine that does other things


def in_another_process(engine: Path, role: str, building: Event, waiting: Event, told: Any) -> None:
    """Opens the plan: "builder" builds until "waiter" waits for it, "killed" is killed while it builds."""
    cuda = FakeCuda()
    fake = FakeTensorRt(cuda)
    install(pytest.MonkeyPatch(), cuda, fake)

    def on_build() -> None:
        building.set()
        if role == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        assert waiting.wait(PATIENCE_S)

    def say(text: str) -> None:
        if "waiting for it" in text:
            waiting.set()

    fake.on_build = on_build
    if role == "waiter":
        assert building.wait(PATIENCE_S)
    bundle = load(str(engine))
    step = bundle.manifest.step
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        plan, _ = open_plan(plan_source(bundle, step, "f32"), step, SHAPES, gpu=gpus()[0], say=say)
    told.put((role, len(fake.builds), len(caught), plan.num_io_tensors))


@pytest.fixture
def processes() -> Iterator[Any]:
    """Starts ``in_another_process``; none is left at the end."""
    context = multiprocessing.get_context("spawn")
    building, waiting, told = context.Event(), context.Event(), context.Queue()
    started = []

    def start(engine: Path, role: str) -> Any:
        started.append(
            context.Process(target=in_another_process, args=(engine, role, building, waiting, told), daemon=True)
        )
        started[-1].start()
        return started[-1], told

    yield start
    for process in started:
        process.kill()
        process.join()
    told.close()


@pytest.mark.skipif(sys.platform == "win32", reason="no locks between processes there")
def test_two_processes_that_want_a_plan_at_once_build_it_once(engine: Path, cache: Path, processes: Any) -> None:
    for role in ("builder", "waiter"):
        _, told = processes(engine, role)
    found = sorted(told.get(timeout=PATIENCE_S) for _ in range(2))
    assert found == [("builder", 1, 1, 6), ("waiter", 0, 0, 6)]
    assert len(list(cache.glob("*.plan"))) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal there")
def test_a_process_killed_while_it_builds_is_in_nobodys_way(
    engine: Path, bundle: Bundle, tensorrt: FakeTensorRt, cache: Path, processes: Any
) -> None:
    process, _ = processes(engine, "killed")
    process.join(PATIENCE_S)
    assert process.exitcode == -signal.SIGKILL
    assert list(cache.glob("*.lock"))
    with pytest.warns(CmrsrWarning, match="is built now") as caught:
        opened(bundle)
    assert len(caught) == 1
    silently(bundle)
