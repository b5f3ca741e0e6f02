"""What ``function`` decides before the first evaluation."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cmrsr.errors import UnusableError, UsageError
from cmrsr.io.series import Series
from cmrsr.io.survey import survey
from cmrsr.physics.kspace import degrade
from cmrsr.runtime.bundle import Bundle, load
from cmrsr.tasks.function.plan import FunctionOptions, FunctionPlan, plan_function
from tests.conftest import oblique_affine
from tests.heart_engine import STRIDE, heart_engine

__all__ = ["heart_engine"]


@pytest.fixture
def bundle(heart_engine: Path) -> Bundle:
    return load(str(heart_engine), "function")


def noisy(
    n_t: int = 8, n_z: int = 3, n_y: int = 64, n_x: int = 60, spacing: tuple[float, float, float] = (1.5, 1.5, 8.0),
    **changes: Any,
) -> Series:  # fmt: skip
    """spacing: (x, y, z)."""
    frames = 100 + 10 * np.random.default_rng(n_t).normal(size=(n_t, n_z, n_y, n_x)).astype(np.float32)
    return replace(Series.from_array(frames, affine=oblique_affine(spacing), kind="cine"), **changes)


def plan(series: Series, bundle: Bundle, **options: Any) -> FunctionPlan:
    return plan_function(series, survey(series), bundle, FunctionOptions(**options))


@pytest.mark.parametrize(
    ("series", "words"),
    [
        (noisy(n_t=1), "one phase .* at least two"),
        (noisy(n_z=1), "one slice, expected a short-axis stack"),
        (
            noisy(origins_mm=np.array([[0, 0, 0], [0, 0, 8], [0, 0, 24.0]])),
            "gaps of 8.0, 16.0 mm, expected equal ones: volumes are sums over slices; find the missing slices",
        ),
        (noisy(spacing=(0.9, 1.5, 8.0)), "54 x 96 mm, expected at least 60 mm"),
        (noisy(n_t=2, n_z=2, n_y=16, n_x=600, spacing=(3.0, 6.0, 8.0)), "600x16 pixels x 2, expected at most 1024"),
    ],
)
def test_what_cannot_be_measured(bundle: Bundle, series: Series, words: str) -> None:
    with pytest.raises(UnusableError, match=words) as caught:
        plan(series, bundle)
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scale": 3}, "--scale 3"), ({"steps": 0}, "--steps 0"), ({"samples": 257}, "--samples 257"),
        ({"batch_size": 0}, "--batch-size 0"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense(options: dict[str, int], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        FunctionOptions(**options)


@pytest.mark.parametrize(("pixel_mm", "scale"), [((1.5, 1.5), 1), ((2.4, 2.4), 1), ((1.5, 2.5), 2), ((3.6, 3.6), 2)])
def test_coarse_pixels_are_doubled(bundle: Bundle, pixel_mm: tuple[float, float], scale: int) -> None:
    series = noisy(spacing=(*pixel_mm, 8.0))
    found = plan(series, bundle)
    assert (found.scale, found.matrix) == (scale, (scale * 64, scale * 60))
    assert_allclose(found.spacing_mm, (8.0, pixel_mm[1] / scale, pixel_mm[0] / scale))
    assert plan(series, bundle, scale=1).matrix == (64, 60)
    assert plan(series, bundle, scale=2).matrix == (128, 120)


@pytest.mark.parametrize("size", [(64, 60), (63, 61)])
def test_the_centre_of_kspace_stays_in_place(bundle: Bundle, size: tuple[int, int]) -> None:
    """Voxel n // 2 of the series is voxel n of the doubled matrix."""
    series = noisy(n_y=size[0], n_x=size[1])
    found = plan(series, bundle, scale=2)
    old = series.affine @ [size[1] // 2, size[0] // 2, 2, 1]
    assert_allclose(found.affine @ [size[1], size[0], 2, 1], old, atol=1e-9)
    assert not found.mirrored
    mirrored = series.affine @ np.diag([-1.0, 1, 1, 1])
    assert plan(replace(series, affine=mirrored), bundle).mirrored


def test_only_missing_kspace_is_restored(bundle: Bundle) -> None:
    """Unless the user wants it otherwise."""
    full = noisy()
    cut = full.with_frames(degrade(degrade(full.array(), 36, -1), 38, -2))
    one_axis = full.with_frames(degrade(full.array(), 36, -1))
    assert [plan(s, bundle).super_resolved for s in (full, cut, one_axis)] == [False, True, True]
    assert_allclose(plan(cut, bundle).acquired, (38 / 64, 36 / 60), atol=0.03)
    assert plan(full, bundle, scale=2).super_resolved  # half of the new k-space is empty
    assert_allclose(plan(full, bundle, scale=2).acquired, (0.5, 0.5))
    assert plan(full, bundle, super_resolve=True).super_resolved
    assert not plan(cut, bundle, super_resolve=False).super_resolved
    assert "its k-space is filled" in plan(full, bundle).notes[0]
    assert "--no-super-resolve" in plan(cut, bundle, super_resolve=False).notes[0]


def test_the_denoiser_gets_whole_strides(bundle: Bundle) -> None:
    found = plan(noisy(n_y=61, n_x=64), bundle)
    assert found.padded == (64, 64)
    assert [n % STRIDE for n in found.padded] == [0, 0]


def test_heart_rate(bundle: Bundle) -> None:
    """Only from the times of a whole beat."""
    times = 100.0 * np.arange(8)
    assert plan(noisy(times_ms=times), bundle).heart_rate_bpm == pytest.approx(75)
    each = times[:, None] + np.array([0.0, 5.0, 10.0])  # slices with delays of their own
    assert plan(noisy(times_ms=each), bundle).heart_rate_bpm == pytest.approx(75)
    assert plan(noisy(), bundle).heart_rate_bpm is None
    assert plan(noisy(n_t=4, times_ms=times[:4]), bundle).heart_rate_bpm is None
    for unit in (10.0, 0.01):
        assert plan(noisy(times_ms=unit * times), bundle).heart_rate_bpm is None


def test_doubts_are_said(bundle: Bundle) -> None:
    assert "two phases" in plan(noisy(n_t=2), bundle).notes[-1]
    assert "a perfusion series" in plan(noisy(kind="perfusion"), bundle).notes[-1]
    assert "trained on 1 to 2.5 mm" in plan(noisy(), bundle, scale=2).notes[0]
    assert plan(noisy(kind="unknown"), bundle, super_resolve=True).notes == ()
