"""``function`` on hearts of known size: volumes, phases and masks, whatever the pixels, slices and phases."""

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from cmrsr.errors import UnusableError
from cmrsr.heart.window import WINDOW
from cmrsr.io.series import Series
from cmrsr.io.survey import survey
from cmrsr.physics.volumes import LV, RV, disc_areas, volumes_ml
from cmrsr.runtime.bundle import Bundle, load
from cmrsr.runtime.choice import DeviceChoice
from cmrsr.tasks.function.plan import FunctionOptions, plan_function
from cmrsr.tasks.function.run import Engines, FunctionResult, FunctionRun, n_evaluations, run_function
from tests.beating_heart import UNIT, Heart
from tests.heart_engine import SHARPENING, TISSUE, heart_engine

__all__ = ["heart_engine"]

F32 = DeviceChoice(precision="f32", threads=1)
# Of the volume: a hair of the outline falls on either side. Pixels of 3 mm hold a cavity of 16 mm with less room.
WITHIN, WITHIN_COARSE, WITHIN_EF = 0.02, 0.04, 1.2
WITHIN_RV = 0.05  # its outline along the septum is read half a pixel short


@pytest.fixture(scope="module")
def bundle(heart_engine: Path) -> Bundle:
    return load(str(heart_engine), "function")


def run(bundle: Bundle, heart: Heart, **options: Any) -> FunctionResult:
    return run_function(heart.series(), bundle, FunctionOptions(**options), F32)


def check_volumes(result: FunctionResult, heart: Heart, within: float = WITHIN) -> None:
    """Of masks and regression, against the heart."""
    measured, true = result.measured, heart.volumes_ml
    assert measured.ed == 0
    assert true[measured.es, 2] == pytest.approx(true[:, 2].min())  # of an odd number of frames two are the smallest
    assert_allclose(measured.lv_ml, true[:, 2], rtol=within)
    assert_allclose(measured.myocardium_ml, true[:, 1], rtol=max(within, 0.05))
    assert_allclose(measured.rv_ml, true[:, 0], rtol=WITHIN_RV)
    assert_allclose(measured.regressed_lv_ml, true[:, 2], rtol=within)
    assert measured.lv.ef_percent == pytest.approx(heart.ef_percent(), abs=WITHIN_EF)
    assert measured.rv.ef_percent == pytest.approx(heart.ef_percent(RV), abs=2 * WITHIN_EF)


# ---- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heart", "within"),
    [
        (Heart(pixel_mm=(1.0, 1.0), matrix=(200, 193)), WITHIN),
        (Heart(n_t=3, n_z=4, gap_mm=25), WITHIN),
        (Heart(n_t=5, n_z=14, gap_mm=7, pixel_mm=(2.0, 2.0), matrix=(99, 101)), WITHIN),
        (Heart(n_t=2, n_z=3, gap_mm=30, pixel_mm=(1.2, 2.0), matrix=(161, 97)), WITHIN),
        (Heart(n_t=30, n_z=3, gap_mm=30, pixel_mm=(2.0, 1.2), matrix=(97, 161)), WITHIN),
        (Heart(n_z=7, pixel_mm=(3.0, 3.0), matrix=(65, 70)), WITHIN_COARSE),
        (Heart(contraction=0.05), WITHIN),
    ],
    ids=["fine", "four slices", "odd matrix", "two phases", "thirty phases", "coarse", "weak"],
)
def test_volumes_of_a_known_heart(bundle: Bundle, heart: Heart, within: float) -> None:
    result = run(bundle, heart)
    check_volumes(result, heart, within)
    abnormal = result.measured.abnormal_probability
    assert (abnormal > 0.5) == (heart.ef_percent() < 50)
    assert_allclose(result.alpha.sum(1), 1, rtol=1e-5)
    assert result.alpha.shape == (heart.n_t, heart.n_t)


@pytest.mark.parametrize(("n_t", "first"), [(2, 1), (9, 4)])
def test_the_series_may_begin_anywhere_in_the_beat(bundle: Bundle, n_t: int, first: int) -> None:
    heart = Heart(n_t=n_t, n_z=3)
    series = heart.series()
    turned = series.with_frames(np.roll(series.array(), first, axis=0))
    measured = run_function(turned, bundle, None, F32).measured
    volume = np.roll(heart.volumes_ml[:, 2], first)
    assert measured.ed == first
    assert volume[measured.es] == pytest.approx(volume.min())
    assert measured.lv.ef_percent == pytest.approx(heart.ef_percent(), abs=WITHIN_EF)


def test_the_apex_may_come_first(bundle: Bundle) -> None:
    heart = Heart(n_t=4)
    series = heart.series()
    forward = run_function(series, bundle, None, F32)
    backward = run_function(series.with_frames(series.array()[:, ::-1]), bundle, None, F32)
    assert (forward.measured.base_first, backward.measured.base_first) == (True, False)
    assert_allclose(backward.measured.lv_ml, forward.measured.lv_ml, rtol=1e-2)  # windows lie a little apart


def test_a_whole_stack_raises_no_flag_and_a_cut_one_does(bundle: Bundle) -> None:
    heart = Heart(n_t=4, n_z=8)
    assert run(bundle, heart).measured.flags == ()
    series = heart.series()
    cut = series.with_frames(series.array()[:, 3:])
    codes = {flag.code for flag in run_function(cut, bundle, None, F32).measured.flags}
    assert "base_missing" in codes


# ---- images ----------------------------------------------------------------------------------------------------------


def test_masks_are_what_is_measured(bundle: Bundle) -> None:
    heart = Heart(n_t=4, pixel_mm=(1.2, 1.7), matrix=(150, 110))
    result = run(bundle, heart)
    areas = np.stack([disc_areas(frame, 1.2 * 1.7) for frame in result.labels])
    assert_allclose(result.measured.areas_mm2, areas)
    assert_allclose(result.measured.lv_ml, volumes_ml(areas, heart.gap_mm)[:, 2])
    centre = np.argwhere(result.labels == LV)[:, 2:].mean(0)
    assert_allclose(centre, heart.middle, atol=0.2)


def test_frames_that_need_no_restoring_are_passed_on(bundle: Bundle) -> None:
    heart = Heart(n_t=2, n_z=3)
    assert_array_equal(run(bundle, heart).frames, heart.frames())


def test_one_step_adds_what_the_network_says(bundle: Bundle) -> None:
    """In units of the brightness around the heart, on a matrix that has to be filled up to whole strides."""
    heart = Heart(n_t=2, n_z=3, matrix=(122, 131))
    images = heart.frames()
    around = np.stack([np.roll(images, (i, j), (2, 3)) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]).mean(0)
    expected = np.maximum(images + SHARPENING * (images - around), 0)
    restored = run(bundle, heart, super_resolve=True).frames
    assert_allclose(restored[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=1e-3 * UNIT)
    assert not np.allclose(restored, images, atol=1e-2 * UNIT)


def test_a_doubled_matrix_keeps_its_place_and_its_volumes(bundle: Bundle) -> None:
    heart = Heart(n_t=2, n_z=3, pixel_mm=(2.0, 2.0), matrix=(97, 90))
    one, two = (run(bundle, heart, scale=scale) for scale in (1, 2))
    assert two.frames.shape == two.labels.shape == (2, 3, 194, 180)
    check_volumes(two, heart, WITHIN)

    def place(result: FunctionResult) -> NDArray[np.float64]:
        y, x = np.argwhere(result.labels[0, 1] == LV).mean(0)
        return result.affine @ [x, y, 1, 1]

    assert_allclose(place(two), place(one), atol=0.2)
    y, x = heart.middle
    assert_allclose(place(two), heart.affine @ [x, y, 1, 1], atol=0.2)


# ---- the search ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("centre_mm", [(-100.0, 110.0), (95.0, -60.0)])
def test_a_heart_far_from_the_middle(bundle: Bundle, centre_mm: tuple[float, float]) -> None:
    heart = Heart(n_t=2, n_z=4, matrix=(220, 240), centre_mm=centre_mm)
    check_volumes(run(bundle, heart), heart)


def test_a_vessel_that_moves_more_is_not_the_heart(bundle: Bundle) -> None:
    heart = Heart(n_t=4, n_z=4, matrix=(240, 240), centre_mm=(115, 20))  # and too far off to be seen from the middle
    frames = heart.frames()
    y, x = np.mgrid[:240, :240]
    for t in range(4):
        frames[t][:, np.hypot(y - 30, x - 30) < 8 + 4 * t] = 2.5 * UNIT
    series = heart.series().with_frames(frames)
    check_volumes(run_function(series, bundle, None, F32), heart)


def test_a_heart_near_the_edge_of_the_image(bundle: Bundle) -> None:
    """The window then holds mirrored tissue: nothing of it is in the masks."""
    heart = Heart(n_t=2, n_z=4, centre_mm=(50, 0))
    result = run(bundle, heart)
    assert_allclose(result.measured.lv_ml, heart.volumes_ml[:, 2], rtol=WITHIN)
    assert_allclose(result.measured.rv_ml, heart.volumes_ml[:, 0], rtol=WITHIN_RV)


def no_heart(name: str) -> NDArray[np.float64]:
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:128, :128]
    frames = 1 + 0.01 * rng.random((4, 5, 128, 128))
    if name == "noise":
        return np.hypot(*rng.normal(size=(2, *frames.shape)))
    if name == "ramp":
        return frames + 0.02 * x + 0.03 * y
    for t in range(4):
        for cy, cx, r in ((40, 40, 12 + t), (80, 90, 15 - t), (64, 64, 10 + t)):
            frames[t][:, np.hypot(y - cy, x - cx) < r] = 1 / TISSUE[0]
    return frames


@pytest.mark.parametrize("name", ["noise", "ramp", "discs"])
def test_no_heart(bundle: Bundle, name: str) -> None:
    series = Series.from_array(no_heart(name).astype(np.float32), affine=Heart().affine, kind="cine")
    with pytest.raises(UnusableError, match="no left ventricle was found"):
        run_function(series, bundle, None, F32)


# ---- how the work is done --------------------------------------------------------------------------------------------

NOISY = {"super_resolve": True, "steps": 3, "samples": 2}


def same(a: FunctionResult, b: FunctionResult) -> bool:
    return (
        a.frames.tobytes() == b.frames.tobytes()
        and a.labels.tobytes() == b.labels.tobytes()
        and a.alpha.tobytes() == b.alpha.tobytes()
        and a.measured.regressed_mm2.tobytes() == b.measured.regressed_mm2.tobytes()
    )


def test_seeds_and_batches(bundle: Bundle) -> None:
    heart = Heart(n_t=2, n_z=5)
    first = run(bundle, heart, **NOISY)
    assert same(run(bundle, heart, **NOISY), first)
    for batch_size in (1, 2, 64):
        assert same(run(bundle, heart, batch_size=batch_size, **NOISY), first)
    assert not same(run(bundle, heart, seed=1, **NOISY), first)


@pytest.mark.parametrize("options", [{}, NOISY], ids=str)
def test_progress_adds_up(bundle: Bundle, options: dict[str, Any]) -> None:
    series, heard = Heart(n_t=3, n_z=4).series(), []
    run_function(series, bundle, FunctionOptions(**options), F32, on_evaluation=heard.append)
    plan = plan_function(series, survey(series), bundle, FunctionOptions(**options))
    assert sum(heard) == n_evaluations(series, plan, FunctionOptions(**options))


def test_memory_does_not_grow_with_the_frames(bundle: Bundle) -> None:
    """But for the report's small windows, two bytes a pixel."""
    heart = Heart(n_t=10, n_z=3, pixel_mm=(0.8, 0.8), matrix=(300, 300))
    series, options = heart.series(), FunctionOptions()

    def peak(n_t: int) -> int:
        long = replace(series, shape=(n_t, *series.shape[1:]), times_ms=None, reader=lambda t: series.frame(t % 10))
        found = survey(long)
        plan = plan_function(long, found, bundle, options)
        engines = Engines(bundle, plan, 3, options.batch_size, F32)
        tracemalloc.start()
        FunctionRun(long, found, plan, engines, options).run(lambda frame: None)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        engines.close()
        return most

    windows = 2 * 3 * WINDOW**2
    frame = 3 * 300 * 300 * 4
    assert peak(40) - peak(10) < 30 * windows + frame / 2
