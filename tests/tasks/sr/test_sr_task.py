"""Super-resolution of a series in memory: the numbers against numpy, the geometry, and what may not change the bits."""

import math
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
from numpy.typing import NDArray

import cmrsr
from cmrsr.diffusion.ddim import ddim
from cmrsr.diffusion.noise import keyed_noise
from cmrsr.diffusion.schedule import Schedule
from cmrsr.errors import CmrsrWarning, UnusableError, UsageError
from cmrsr.io.series import Series
from cmrsr.io.survey import survey
from cmrsr.physics.fourier import fft1c
from cmrsr.runtime.bundle import Bundle, load
from cmrsr.runtime.choice import DeviceChoice
from cmrsr.tasks.sr.engine import load_step
from cmrsr.tasks.sr.plan import SrOptions, SrPlan, plan_sr
from cmrsr.tasks.sr.run import SrFrame, evaluations_per_image, realism_cost_db, run_sr, samples_share
from tests.conftest import oblique_affine, perfusion_frames
from tests.engines import RESIDUAL_STD, SEEN_LR, SEEN_X_T, acquired_frames

Array = NDArray[np.float32]
F32 = 2e-5  # of the largest value: float32 sums of a few dozen products


@pytest.fixture(scope="module")
def bundle(engine: Path) -> Bundle:
    return load(str(engine), "sr")


def plan_of(series: Series, bundle: Bundle, **options: Any) -> SrPlan:
    return plan_sr(series, survey(series), bundle, SrOptions(**options))


def restore(
    series: Series, bundle: Bundle, threads: int = 1, keep_samples: bool = False, **options: Any
) -> tuple[SrPlan, list[SrFrame]]:
    chosen = SrOptions(**options)
    plan = plan_sr(series, survey(series), bundle, chosen)
    choice = DeviceChoice(precision="f32", threads=threads)
    step = load_step(bundle, (chosen.batch_size, *plan.padded), choice)
    frames = list(run_sr(series, plan, bundle, step, chosen, keep_samples=keep_samples))
    step.close()
    return plan, frames


def outputs(series: Series, bundle: Bundle, **options: Any) -> Array:
    return np.stack([frame.output for frame in restore(series, bundle, **options)[1]])


def close(found: Array, wanted: Array, tolerance: float = F32) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * float(np.abs(wanted).max()))


def seen(image: NDArray[Any], kernel: Array) -> NDArray[Any]:
    return scipy.signal.correlate2d(image, kernel, "same")


# ---- the numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 32), (41, 35)], ids=["whole strides", "padded"])
@pytest.mark.parametrize("axis", ["y", "x"])
def test_one_step_is_the_input_plus_what_the_network_says(bundle: Bundle, shape: tuple[int, int], axis: str) -> None:
    """At t = 1 the step is x0 = -f, so the result is lr - residual_std conv(lr), the phase axis along the rows."""
    lr = acquired_frames(3, 2, *shape, axis=2 if axis == "y" else 3)
    plan, frames = restore(Series.from_array(lr), bundle)
    assert plan.axis == axis
    for t, frame in enumerate(frames):
        for z in range(2):
            image = lr[t, z] if axis == "y" else lr[t, z].T
            rows, columns = (-n % 4 for n in image.shape)
            shown = np.pad(image, ((0, rows), (0, columns)), mode="symmetric") / plan.scale
            wanted = (shown - RESIDUAL_STD * seen(shown, SEEN_LR))[: image.shape[0], : image.shape[1]] * plan.scale
            close(frame.output[z], np.maximum(wanted if axis == "y" else wanted.T, 0))
        np.testing.assert_array_equal(frame.input, lr[t])
        assert frame.std is None


def test_samples_are_ddim_from_keyed_noise_and_the_image_takes_its_share_of_them(bundle: Bundle) -> None:
    """Single samples, calibrated standard deviation and image of three five-step samples, against numpy."""
    series = Series.from_array(acquired_frames(2))
    plan, frames = restore(series, bundle, steps=5, samples=3, seed=11, keep_samples=True)
    singles = outputs(series, bundle, seed=11)
    for t, frame in enumerate(frames):
        shown = series.frame(t)[0].astype(np.float64) / plan.scale

        def denoise(x_t: NDArray[Any], condition: float, shown: NDArray[Any] = shown) -> NDArray[Any]:
            return seen((1 - condition) * x_t, SEEN_X_T) + seen(shown, SEEN_LR)

        noises = [keyed_noise(11, plan.digest, t, 0, k, shown.shape) for k in range(3)]
        images = [shown + RESIDUAL_STD * ddim(denoise, noise, Schedule(), 5) for noise in noises]
        for sample, image in zip(frame.samples, images, strict=True):
            close(sample[0], np.maximum(image * plan.scale, 0), 1e-4)
        share = 0.2 * 3 / 8
        mean = (1 - share) * singles[t, 0] / plan.scale + share * np.mean(images, 0)
        inside = singles[t, 0] > 0  # where the estimate was not cut at zero
        close(frame.output[0][inside], np.maximum(mean * plan.scale, 0)[inside], 1e-4)
        assert frame.std is not None
        close(frame.std[0], np.std(images, 0, ddof=1) * plan.scale * 1.5, 1e-3)  # 1.5: the bundle's calibration


def test_one_step_has_no_samples_and_says_so(bundle: Bundle) -> None:
    series = Series.from_array(acquired_frames(2))
    with pytest.warns(CmrsrWarning, match=r"--samples 3 has no effect, use --steps 5"):
        _, frames = restore(series, bundle, steps=1, samples=3)
    for frame, single in zip(frames, restore(series, bundle)[1], strict=True):
        assert frame.std is None
        np.testing.assert_array_equal(frame.output, single.output)


@pytest.mark.parametrize("realism", [0.3, 1.0])
def test_realism_moves_the_image_towards_the_first_sample(bundle: Bundle, realism: float) -> None:
    """mean + L (sample - mean); with L = 1 it is the sample."""
    series = Series.from_array(acquired_frames(3, 1, 64, 48) + 300)  # far from zero, where results are cut
    options: dict[str, Any] = {"steps": 4, "samples": 3, "seed": 7, "phase_axis": "y"}
    mean = restore(series, bundle, keep_samples=True, **options)[1]
    moved = restore(series, bundle, realism=realism, **options)[1]
    for one, other in zip(mean, moved, strict=True):
        first = one.samples[0]
        close(other.output, one.output + np.float32(realism) * (first - one.output))
        np.testing.assert_array_equal(one.std, other.std)
        assert np.abs(first - one.output).max() > 1


@pytest.mark.parametrize("realism", [0.0, 0.25, 0.5, 1.0])
def test_the_cost_of_realism_is_that_of_a_gaussian_posterior(realism: float) -> None:
    """Truth and sample drawn from one posterior: about the mean the mean squared error is 1."""
    truth, sample = np.random.default_rng(0).standard_normal((2, 1_000_000))
    cost = 10 * np.log10(np.mean((realism * sample - truth) ** 2))
    assert realism_cost_db(realism) == pytest.approx(cost, abs=0.02)


def test_more_samples_are_given_more_weight_up_to_a_fifth() -> None:
    shares = [samples_share(Schedule(), SrOptions(steps=5, samples=k)) for k in (1, 4, 8, 64)]
    assert shares == pytest.approx([0.025, 0.1, 0.2, 0.2])
    assert samples_share(Schedule(), SrOptions(steps=50)) == pytest.approx(0.02)
    assert samples_share(Schedule(), SrOptions()) == 0


def test_an_engine_whose_one_step_is_no_mean_has_the_samples_alone() -> None:
    """Signal is left in the starting noise of a linear schedule, so that one step is no posterior mean."""
    paper = Schedule(name="linear", prediction="eps")
    assert samples_share(paper, SrOptions(steps=5)) == 1
    assert evaluations_per_image(paper, SrOptions(steps=5)) == 40
    assert evaluations_per_image(Schedule(), SrOptions(steps=5)) == 41
    assert evaluations_per_image(Schedule(), SrOptions()) == 1


def test_the_intensity_scale_is_kept(bundle: Bundle) -> None:
    lr = acquired_frames()
    close(outputs(Series.from_array(7 * lr), bundle), 7 * outputs(Series.from_array(lr), bundle))


def test_the_result_is_never_negative(bundle: Bundle) -> None:
    """Beside a bright point the tiny network overshoots below zero."""
    lr = np.zeros((2, 1, 32, 32), np.float32)
    lr[:, 0, 16, 16] = 100, 200
    result = outputs(Series.from_array(lr), bundle, phase_axis="y")
    assert result.min() == 0
    assert result[0, 0, 17, 15] == 0
    assert result[0, 0, 16, 16] > 0


def test_a_transposed_series_gives_the_transposed_result(bundle: Bundle) -> None:
    lr = acquired_frames(4, 2, 40, 32)
    turned = outputs(Series.from_array(lr.swapaxes(2, 3)), bundle)
    np.testing.assert_array_equal(turned.swapaxes(2, 3), outputs(Series.from_array(lr), bundle))


def test_full_consistency_keeps_the_acquired_lines(bundle: Bundle) -> None:
    """Inside the taper of the low-pass the spectrum along the phase axis stays that of the input."""
    series = Series.from_array(acquired_frames(3, 1, 64, 48) + 300)  # far from zero, where the result is clipped
    options = {"phase_axis": "y"}
    free, bound = (restore(series, bundle, consistency=w, **options)[1] for w in (0.0, 1.0))
    plan = plan_of(series, bundle, consistency=1.0, **options)
    inner = np.abs(np.arange(64) - 32) < 0.8 * plan.band.lines / 2
    for one, other in zip(free, bound, strict=True):
        changed, kept = (np.abs(fft1c(f.output - f.input, 1))[:, inner] for f in (one, other))
        assert kept.max() < 1e-3 * changed.max()
        assert np.abs(other.output - other.input).max() > 1  # but outside something is added


def test_consistency_is_off_where_every_line_was_acquired(bundle: Bundle) -> None:
    series = Series.from_array(perfusion_frames(4), phase_axis="y")
    plan = plan_of(series, bundle, consistency=1.0)
    assert plan.consistency == 0
    assert not plan.low_pass.any()
    assert any("nothing is missing" in note for note in plan.notes)


# ---- what may not change the bits ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch_size", "threads"), [(1, 1), (8, 1), (8, 2), (5, 2)])
def test_batch_size_and_threads_do_not_change_a_bit(bundle: Bundle, batch_size: int, threads: int) -> None:
    series = Series.from_array(acquired_frames(3, 2))
    options: dict[str, Any] = {"steps": 3, "samples": 3, "seed": 5}
    wanted = restore(series, bundle, batch_size=4, **options)[1]
    found = restore(series, bundle, batch_size=batch_size, threads=threads, **options)[1]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.output, other.output)
        np.testing.assert_array_equal(one.std, other.std)


def test_the_seed_decides_the_noise(bundle: Bundle) -> None:
    series = Series.from_array(acquired_frames(2))
    first, again, other = (outputs(series, bundle, steps=3, samples=1, realism=1.0, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_noise_differs_between_series_frames_planes_and_samples() -> None:
    keys = [
        (0, "a", 0, 0, 0),
        (1, "a", 0, 0, 0),
        (0, "b", 0, 0, 0),
        (0, "a", 1, 0, 0),
        (0, "a", 0, 1, 0),
        (0, "a", 0, 0, 1),
    ]
    drawn = np.stack([keyed_noise(*key, (64, 64)).ravel() for key in keys])
    np.testing.assert_allclose(np.corrcoef(drawn), np.eye(len(keys)), atol=6 / math.sqrt(64 * 64))
    np.testing.assert_allclose(drawn.std(1), 1, atol=0.05)


def test_frames_come_one_by_one_and_evaluations_are_counted(bundle: Bundle) -> None:
    series = Series.from_array(acquired_frames(5, 2))
    options = SrOptions(steps=2, samples=3, batch_size=4)
    plan = plan_sr(series, survey(series), bundle, options)
    step = load_step(bundle, (4, *plan.padded), DeviceChoice())
    counts: list[int] = []
    assert sum(1 for _ in run_sr(series, plan, bundle, step, options, on_evaluation=counts.append)) == 5
    assert sum(counts) == 5 * 2 * (1 + 3 * 2) == 5 * 2 * evaluations_per_image(Schedule(), options)


def test_memory_does_not_grow_with_the_number_of_frames(bundle: Bundle) -> None:
    pattern = acquired_frames(5, 1, 32, 32)
    step = load_step(bundle, (4, 32, 32), DeviceChoice(threads=1))

    def peak(n_frames: int) -> int:
        series = Series(shape=(n_frames, 1, 32, 32), affine=np.eye(4), reader=lambda t: pattern[t % 5] + np.float32(t))
        options = SrOptions(batch_size=4, phase_axis="y")
        found = survey(series)
        tracemalloc.start()
        for _ in run_sr(series, plan_sr(series, found, bundle, options), bundle, step, options):
            pass
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(10)  # imports
    assert peak(1000) < 1.05 * peak(100) + 20_000


# ---- geometry --------------------------------------------------------------------------------------------------------


def at(affine: NDArray[np.float64], x: float, y: float) -> NDArray[np.float64]:
    return np.asarray(affine @ [x, y, 0, 1])[:3]


def test_the_whole_field_of_view_keeps_its_affine_and_times(engine: Path) -> None:
    series = Series.from_array(acquired_frames(4, 2, 41, 35), affine=oblique_affine(), times_ms=np.arange(4) * 700.0)
    result, std = cmrsr.super_resolve(series, engine=str(engine))
    assert std is None
    assert result.shape == series.shape
    np.testing.assert_array_equal(result.affine, series.affine)
    np.testing.assert_array_equal(result.times_ms, series.times_ms)


def test_a_window_lies_where_it_was_cut(bundle: Bundle) -> None:
    series = Series.from_array(acquired_frames(3, 2, 64, 48), affine=oblique_affine())
    whole, (plan, frames) = outputs(series, bundle), restore(series, bundle, roi=(8, 12, 24, 40))
    np.testing.assert_allclose(at(plan.affine, 0, 0), at(series.affine, 8, 12))
    np.testing.assert_array_equal(plan.affine[:3, :3], series.affine[:3, :3])
    inner = np.stack([frame.output for frame in frames])[:, :, 2:-2, 2:-2]
    close(inner, whole[:, :, 14:50, 10:30])


def test_the_heart_window_holds_the_heart(bundle: Bundle) -> None:
    """The synthetic heart's centre is at 0.45 of the rows and 0.55 of the columns."""
    series = Series.from_array(acquired_frames(30, 1, 128, 160), affine=oblique_affine())
    plan = plan_of(series, bundle, roi="heart")
    x, y, width, height = plan.window
    assert (width, height) == (96, 96)
    assert abs(x + 48 - 0.55 * 160) < 5
    assert abs(y + 48 - 0.45 * 128) < 5
    np.testing.assert_allclose(at(plan.affine, 0, 0), at(series.affine, x, y))
    assert any(f"window x {x}, y {y}, 96 x 96 pixels" in note for note in plan.notes)


@pytest.mark.parametrize("size", [40, 41])
@pytest.mark.parametrize("axis", ["x", "y"])
def test_long_pixels_are_zero_filled_in_place(bundle: Bundle, size: int, axis: str) -> None:
    """Pixels twice as long along the phase axis: twice the matrix, and a landmark keeps its place in the patient."""
    spacing = (3.0, 1.5, 8.0) if axis == "x" else (1.5, 3.0, 8.0)
    shape = (64, size) if axis == "x" else (size, 64)
    y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    spot = 1000 * np.exp(-(((x - 13) * spacing[0]) ** 2 + ((y - 21) * spacing[1]) ** 2) / (2 * 5.0**2))
    lr = (spot * np.array([0.5, 1.0])[:, None, None]).astype(np.float32)[:, None]
    series = Series.from_array(lr, affine=oblique_affine(spacing))
    plan, frames = restore(series, bundle, phase_axis=axis)
    assert plan.matrix == ((64, 2 * size) if axis == "x" else (2 * size, 64))
    np.testing.assert_allclose(plan.spacing_mm, (8.0, 1.5, 1.5))
    np.testing.assert_allclose(place(frames[1].input[0], plan.affine), at(series.affine, 13, 21), atol=0.01)
    assert frames[1].input.max() == pytest.approx(1000, rel=0.01)  # zero-filling keeps the intensity


def test_long_pixels_tell_the_phase_axis(bundle: Bundle) -> None:
    series = Series.from_array(perfusion_frames(4, 1, 40, 48), affine=oblique_affine((3.0, 1.5, 8.0)))
    plan = plan_of(series, bundle)
    assert (plan.axis, plan.axis_source) == ("x", "longer pixels")
    assert (plan.band.lines, plan.band.size) == (48, 96)


def place(image: Array, affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centre of mass in millimetres."""
    weight = image.astype(np.float64) / image.sum(dtype=np.float64)
    y, x = np.meshgrid(*(np.arange(n) for n in image.shape), indexing="ij")
    return at(affine, float((weight * x).sum()), float((weight * y).sum()))


def test_pixels_longer_across_the_phase_axis_stay(bundle: Bundle) -> None:
    series = Series.from_array(acquired_frames(axis=2), affine=oblique_affine((3.0, 1.5, 8.0)))
    plan = plan_of(series, bundle)
    assert (plan.axis, plan.zero_fill) == ("y", None)


def test_absurdly_long_pixels_are_refused(bundle: Bundle) -> None:
    series = Series.from_array(acquired_frames(), affine=oblique_affine((1.0, 50.0, 8.0)))
    with pytest.raises(UnusableError, match="pixels of 1 x 50 mm, expected nearly square"):
        plan_of(series, bundle)


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (1, 2, 9, 11), (2, 1, 16, 300)])
def test_small_and_narrow_images_work(bundle: Bundle, shape: tuple[int, int, int, int]) -> None:
    frames = np.random.default_rng(0).uniform(1, 2, shape)
    result = outputs(Series.from_array(frames), bundle, phase_axis="x", roi="heart" if shape[3] > 96 else "full")
    assert result.shape == (*shape[:3], min(shape[3], 96))
    assert np.isfinite(result).all()


# ---- the phase axis and the acquired band ----------------------------------------------------------------------------


@pytest.mark.parametrize(("asked", "axis"), [("row", "x"), ("col", "y"), ("x", "x"), ("y", "y")])
def test_the_user_has_the_last_word_on_the_axis(bundle: Bundle, asked: str, axis: str) -> None:
    plan = plan_of(Series.from_array(acquired_frames(), phase_axis="y"), bundle, phase_axis=asked)
    assert (plan.axis, plan.axis_source) == (axis, "--phase-axis")


def test_the_spectrum_overrules_the_header_and_says_so(bundle: Bundle) -> None:
    plan = plan_of(Series.from_array(acquired_frames(axis=2), phase_axis="x"), bundle)
    assert (plan.axis, plan.axis_source) == ("y", "spectrum")
    assert "the header says phase encoding along x, but the spectrum is truncated along y" in plan.notes[0]


def test_the_header_decides_where_the_spectrum_is_full(bundle: Bundle) -> None:
    series = replace(Series.from_array(perfusion_frames(4), phase_axis="x"), acquired_fraction=0.4)
    plan = plan_of(series, bundle)
    assert (plan.axis, plan.axis_source, plan.band.lines) == ("x", "header", 16)
    assert plan.notes == ("acquired lines taken from the header: 16 of 40",)


def test_two_truncated_axes_are_ambiguous(bundle: Bundle) -> None:
    from cmrsr.physics.kspace import degrade

    series = Series.from_array(degrade(acquired_frames(4, 1, 64, 64), 26, 3))
    with pytest.raises(UnusableError, match=r"truncated alike along x .* and y .*: give --phase-axis x or y"):
        plan_of(series, bundle)
    assert plan_of(series, bundle, phase_axis="x").axis == "x"


def test_an_assumed_axis_is_said(bundle: Bundle) -> None:
    plan = plan_of(Series.from_array(perfusion_frames(4)), bundle)
    assert (plan.axis, plan.axis_source) == ("y", "assumed")
    (note,) = plan.notes
    assert "nothing is missing" in note
    assert "y is assumed" in note


def test_an_input_unlike_the_training_is_said(bundle: Bundle) -> None:
    few = Series.from_array(acquired_frames(4, 1, 64, 64, fraction=0.2), kind="cine")
    coarse, kind = plan_of(few, bundle).notes
    assert "13 of 64 lines (20%) were acquired along y, but the engine was trained on 30% to 50%" in coarse
    assert "looks like a cine series" in kind


def test_the_python_call_warns_of_the_same(engine: Path) -> None:
    series = Series.from_array(acquired_frames(3), phase_axis="x")
    with pytest.warns(CmrsrWarning, match="the header says phase encoding along x"):
        result, std = cmrsr.super_resolve(series, engine=str(engine), options=SrOptions(steps=2, samples=2))
    assert std is not None
    assert std.shape == result.shape


# ---- requests that cannot be -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "--steps 0"),
        ({"steps": 1001}, "--steps 1001"),
        ({"samples": 0}, "--samples 0"),
        ({"batch_size": 0}, "--batch-size 0"),
        ({"batch_size": 10**6}, "--batch-size 1000000"),
        ({"realism": -0.1, "steps": 5}, "--realism -0.1: expected a number from 0"),
        ({"realism": 1.1, "steps": 5}, "--realism 1.1"),
        ({"realism": math.nan, "steps": 5}, "--realism nan"),
        ({"realism": 0.5}, "--realism 0.5 with --steps 1: .* add --steps 5"),
        ({"consistency": 2.0}, "--consistency 2"),
        ({"consistency": math.nan}, "--consistency nan"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SrOptions(**options)


@pytest.mark.parametrize("roi", [(0, 0, 33, 40), (20, 0, 16, 40), (0, 0, 15, 40), (0, 30, 16, 16)])
def test_a_window_outside_the_matrix_is_refused(bundle: Bundle, roi: tuple[int, int, int, int]) -> None:
    with pytest.raises(UsageError, match=r"expected X,Y,W,H of at least 16 pixels inside the matrix 32x40 of series"):
        plan_of(Series.from_array(acquired_frames()), bundle, roi=roi)
