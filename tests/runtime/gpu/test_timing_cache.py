"""Timings of kernels, kept from build to build."""

import json
from pathlib import Path

import pytest

from cmrsr.errors import CmrsrWarning
from cmrsr.runtime.bundle import Bundle
from tests.fake_tensorrt import FakeTensorRt
from tests.plans import (
    OTHER_BATCH,
    bundle,
    cache,
    fake_gpu,
    newly_opened,
    opened,
    stored,
    tensorrt,
)

__all__ = ["bundle", "cache", "fake_gpu", "stored", "tensorrt"]


def timings(cache: Path) -> set[str]:
    (path,) = cache.glob("*.timing")
    return set(json.loads(path.read_bytes().partition(b"\n")[2])[1])


def test_timings_of_all_builds_are_kept(stored: Bundle, cache: Path) -> None:
    first = timings(cache)
    newly_opened(stored, **OTHER_BATCH)
    assert len(first) == 1
    assert timings(cache) > first


def test_timings_of_a_build_beside_this_one_are_not_lost(bundle: Bundle, tensorrt: FakeTensorRt, cache: Path) -> None:
    def beside() -> None:
        tensorrt.on_build = lambda: None
        newly_opened(bundle, **OTHER_BATCH)

    tensorrt.on_build = beside
    newly_opened(bundle)
    assert len(timings(cache)) == 2


@pytest.mark.parametrize("found", [b"", b"nonsense", b'FAKE TIMING\n["TensorRT 9 on a toaster", ["a"]]'])
def test_timings_that_do_not_load_are_left_aside(stored: Bundle, cache: Path, found: bytes) -> None:
    (path,) = cache.glob("*.timing")
    path.write_bytes(found)
    with pytest.warns(CmrsrWarning) as caught:
        opened(stored, **OTHER_BATCH)
    assert len(caught) == 1  # of the build alone
    assert len(timings(cache)) == 1
