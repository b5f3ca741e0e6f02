"""The survey of a series against plain numpy on the whole array."""

import hashlib

import numpy as np
import pytest
from numpy.typing import NDArray

from cmrsr.errors import UnusableError
from cmrsr.io.series import Series
from cmrsr.io.survey import survey

EXACT = 1e-12  # float64 against float64


def power(frames: NDArray[np.float32], axis: int) -> NDArray[np.float64]:
    spectrum = np.fft.fftshift(np.fft.fft(frames.astype(np.float64), axis=axis, norm="ortho"), axes=axis)
    return (np.abs(spectrum) ** 2).mean(axis=tuple(a for a in range(4) if a != axis))


@pytest.mark.parametrize("shape", [(12, 2, 48, 40), (1, 1, 8, 9), (70, 1, 11, 16), (3, 5, 33, 17)])
def test_statistics_and_spectra_equal_those_of_the_whole_array(shape: tuple[int, ...]) -> None:
    frames = np.random.default_rng(1).gamma(2.0, 100.0, shape).astype(np.float32)
    found = survey(Series.from_array(frames))
    whole = frames.astype(np.float64)
    np.testing.assert_allclose(found.mean, whole.mean(axis=0), rtol=EXACT)
    np.testing.assert_allclose(found.variance, whole.var(axis=0), rtol=1e-10, atol=1e-8)
    assert (found.minimum, found.maximum) == (whole.min(), whole.max())
    chosen = frames[np.unique(np.linspace(0, shape[0] - 1, 64).round().astype(int))]
    np.testing.assert_allclose(found.power_x, power(chosen, 3), rtol=1e-10)
    np.testing.assert_allclose(found.power_y, power(chosen, 2), rtol=1e-10)


def test_spectra_show_a_zero_filled_band_at_its_place() -> None:
    """Zero frequency is at n // 2, and a phase axis filled to 50 % has nothing outside the middle half."""
    k = np.fft.fftshift(np.fft.fft2(np.random.default_rng(2).random((4, 1, 32, 48)) + 1), axes=(2, 3))
    k[:, :, :8] = k[:, :, 25:] = 0  # 8 .. 24: symmetric about 16, so that the image stays real
    found = survey(Series.from_array(np.fft.ifft2(np.fft.ifftshift(k, axes=(2, 3))).real))
    assert np.argmax(found.power_y) == 16
    assert np.argmax(found.power_x) == 24
    outside = np.r_[found.power_y[:8], found.power_y[25:]]
    assert outside.max() < 1e-10 * found.power_y[8:25].min()


@pytest.mark.parametrize("n_t", [3, 400])
def test_scale_is_the_upper_quantile_of_the_positive_values(n_t: int) -> None:
    frames = np.random.default_rng(3).gamma(2.0, 100.0, (n_t, 1, 96, 96)).astype(np.float32)
    frames[:, :, :48] = 0
    whole = float(np.quantile(frames[frames > 0], 0.995))
    assert survey(Series.from_array(frames)).scale == pytest.approx(whole, rel=0.02)


def test_scale_where_the_sample_misses_the_only_positive_value() -> None:
    frames = -1 - np.random.default_rng(4).random((60, 1, 96, 96)).astype(np.float32)
    frames[0, 0, 0, 1] = 5  # the sample starts at 0 and goes on in steps above 1
    assert survey(Series.from_array(frames)).scale == 5


def test_digest_depends_on_voxels_geometry_and_times_only(tiny_series: Series) -> None:
    frames, affine, times = tiny_series.array(), tiny_series.affine, tiny_series.times_ms
    assert times is not None
    digest = survey(tiny_series).digest

    def of(**changes: object) -> str:
        record = {"affine": affine, "times_ms": times, **changes}
        return survey(Series.from_array(record.pop("frames", frames), **record)).digest  # type: ignore[arg-type]

    assert of() == digest
    assert of(kind="cine") == digest
    other = frames.copy()
    other[3, 1, 20, 20] = np.nextafter(other[3, 1, 20, 20], np.float32(np.inf))
    moved = affine.copy()
    moved[0, 3] += 0.5
    changed = [of(frames=other), of(affine=moved), of(times_ms=times + 1), of(times_ms=None)]
    changed.append(of(frames=frames.reshape(12, 1, 96, 40)))
    assert len({digest, *changed}) == 6
    assert len(digest) == hashlib.sha256().digest_size * 2


def test_same_result_for_a_series_read_lazily(tiny_series: Series) -> None:
    frames = tiny_series.array()
    lazy = Series(shape=tiny_series.shape, affine=tiny_series.affine, reader=lambda t: frames[t, :, ::-1][:, ::-1])
    held = Series.from_array(frames, affine=tiny_series.affine)
    assert survey(lazy).digest == survey(held).digest  # also for frames that are not contiguous


def test_every_frame_is_read_once_and_reported(tiny_series: Series) -> None:
    read: list[int] = []
    done: list[int] = []

    def reader(t: int) -> NDArray[np.float32]:
        read.append(t)
        return tiny_series.frame(t)

    survey(Series(shape=tiny_series.shape, affine=np.eye(4), reader=reader), on_frame=done.append)
    assert read == done == list(range(12))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_names_frame_and_count(tiny_series: Series, bad: float) -> None:
    frames = tiny_series.array()
    frames[4, 0, 2, :3] = bad
    with pytest.raises(UnusableError, match=r"3 NaN or infinite of 3840 voxels in frame 5 of 12"):
        survey(Series.from_array(frames))


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.full((5, 1, 16, 16), 7.0), "every voxel is 7"),
        (np.zeros((1, 1, 16, 16)), "every voxel is 0"),
        (-1 - np.random.default_rng(0).random((5, 1, 16, 16)), "no positive value"),
        (np.random.default_rng(0).random((5, 3, 7, 16)), "16x7 voxels, expected at least 8x8"),
        (np.ones((1, 1, 1, 1)), "1x1 voxels"),
    ],
)
def test_unusable_series(frames: NDArray[np.float64], message: str) -> None:
    with pytest.raises(UnusableError, match=message):
        survey(Series.from_array(frames))


def test_constant_frames_are_named(tiny_series: Series) -> None:
    frames = tiny_series.array()
    frames[[2, 9]] = 5.0
    with pytest.raises(UnusableError, match=r"2 of 12 frames hold one value only \(frame 3, 10\)"):
        survey(Series.from_array(frames))
