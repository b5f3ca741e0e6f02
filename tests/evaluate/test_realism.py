"""Image statistics against closed forms, and distances between groups that were made to differ in a known way."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.ndimage import gaussian_filter

from cmrsr.errors import UnusableError
from cmrsr.evaluate import realism
from cmrsr.evaluate.realism import ImageStatistics, collect, distance, gaps, realism_report, widest_gap
from cmrsr.io.discover import discover
from cmrsr.io.series import Series

# Shared measurements of 40 patients' perfusion images, 96x96 heart crops: radius to dB.
REAL_PERFUSION = {
    4: -5.9, 8: -12.8, 12: -18.0, 16: -21.0, 20: -23.5, 24: -25.5, 30: -28.4, 36: -31.7, 42: -37.6, 47: -43.7
}  # fmt: skip


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def hump(centre: float) -> np.ndarray:
    """Shares over 64 bins."""
    shares = np.exp(-(((np.arange(64) - centre) / 8) ** 2))
    return shares / shares.sum()


def statistics(name: str = "p1", **changes: object) -> ImageStatistics:
    """A made-up series: a falling spectrum, grey values and gradients in a broad hump."""
    made = ImageStatistics(
        name=name, patient=name.split("_")[0], kind="perfusion", n_images=10, pixel_mm=(2.0, 2.0),
        spectrum_db=-20 * np.log10(realism.RADII), grey=hump(30), gradients=hump(30),
        temporal_db=np.full(47, -10.0), kurtosis=4.0, edge_px=2.0, black=5.0, noise=3.0, temporal_noise=4.0,
    )  # fmt: skip
    return replace(made, **changes)


def group(n: int, seed: int, *, roll: int = 0, **changes: object) -> list[ImageStatistics]:
    """Patients whose statistics scatter about those of ``statistics``, the grey values ``roll`` bins higher."""
    rng = np.random.default_rng(seed)
    plain = statistics(**changes)
    return [
        replace(
            plain, name=f"s{seed}p{i}", patient=f"s{seed}p{i}",
            spectrum_db=plain.spectrum_db + rng.normal(0, 1, 47), temporal_db=plain.temporal_db + rng.normal(0, 1, 47),
            grey=np.roll(hump(30 + 3 * rng.normal()), roll), gradients=hump(30 + 3 * rng.normal()),
            kurtosis=plain.kurtosis + rng.normal(), edge_px=plain.edge_px + 0.2 * rng.normal(),
            black=plain.black + rng.normal(), noise=plain.noise + rng.normal(),
            temporal_noise=plain.temporal_noise + rng.normal(),
        )
        for i in range(n)
    ]  # fmt: skip


# --- one image --------------------------------------------------------------------------------------------------------


def test_white_noise_has_a_flat_spectrum() -> None:
    mean = np.mean([realism.spectrum_db(image) for image in noise(60, 96, 96)], axis=0)
    assert_allclose(mean[5:], 0, atol=0.5)


def test_the_spectrum_falls_as_the_power_law_it_was_made_with() -> None:
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(96), np.fft.fftfreq(96)))
    f[0, 0] = 1
    images = np.fft.ifft2(np.fft.fft2(noise(60, 96, 96)) / f**1.5).real
    mean = np.mean([realism.spectrum_db(image) for image in images], axis=0)
    assert mean[40 - 1] - mean[8 - 1] == pytest.approx(-30 * np.log10(40 / 8), abs=0.7)
    assert 10 * np.log10(np.mean(10 ** (mean[:5] / 10))) == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("shape", [(96, 96), (192, 144)])
def test_a_wave_appears_at_its_frequency_per_pixel_in_any_window(shape: tuple[int, int]) -> None:
    y, x = np.indices(shape)
    wave = np.cos(2 * np.pi * (12 * y + 16 * x) / 96)
    assert realism.RADII[np.argmax(realism.spectrum_db(wave))] == 20


def test_temporal_change_of_independent_still_and_noisy_frames() -> None:
    frames = noise(30, 96, 96)
    assert_allclose(realism.temporal_db(frames)[5:], 0, atol=0.5)
    assert realism.temporal_db(np.stack([frames[0]] * 3)).max() == -120
    noisy = 10 * noise(1, 96, 96, seed=1) + frames
    assert realism.temporal_db(noisy)[10:].mean() == pytest.approx(-10 * np.log10(101), abs=0.3)


def test_kurtosis_of_differences_is_half_that_of_independent_pixels() -> None:
    rng = np.random.default_rng(0)
    assert realism.derivative_kurtosis(rng.normal(size=(600, 600))) == pytest.approx(0, abs=0.05)
    assert realism.derivative_kurtosis(rng.laplace(size=(600, 600))) == pytest.approx(1.5, abs=0.15)


@pytest.mark.parametrize("sigma", [1.0, 1.5])
def test_edge_width_is_that_of_a_blurred_jump(sigma: float) -> None:
    stripes = np.tile((np.arange(96) // 24 % 2).astype(float), (96, 1))
    assert realism.edge_width(stripes) == 1
    blurred = gaussian_filter(stripes, (0, sigma), mode="wrap")
    assert realism.edge_width(blurred) == pytest.approx(np.sqrt(2 * np.pi) * sigma, rel=0.05)


def test_noise_is_measured_apart_from_structure_and_drift() -> None:
    y, x = np.mgrid[:96, :96]
    still = 0.5 + 0.2 * np.sin(y / 9) * np.cos(x / 11)
    frames = still + 0.01 * np.arange(20)[:, None, None] + 0.03 * noise(20, 96, 96)
    assert realism.temporal_noise(frames) == pytest.approx(0.03, rel=0.03)
    assert realism.spatial_noise(frames[0]) == pytest.approx(0.03, rel=0.06)
    assert realism.spatial_noise(gaussian_filter(frames[0], 0.7)) < 0.02
    assert realism.spatial_noise(0.01 * frames[0]) == 0  # nothing bright enough to tell


def test_gradients_of_a_ramp_are_its_slope() -> None:
    ramp = np.add.outer(3 * np.arange(96), 4 * np.arange(96)) / 100
    assert_allclose(realism.log_gradients(ramp), np.log10(0.05))
    assert_allclose(realism.log_gradients(np.ones((9, 9))), realism.GRADIENT_EDGES[0] - 1)


def test_scaled_frames_reach_one_and_empty_ones_are_left_out() -> None:
    frames = np.stack([np.zeros((96, 96)), np.abs(noise(96, 96)), np.full((96, 96), 7.0), 50 * np.abs(noise(96, 96))])
    scaled = realism.scaled(frames)
    assert_allclose(scaled[0], scaled[1])
    assert len(scaled) == 2
    assert np.mean(scaled > 1) == pytest.approx(0.005, abs=0.001)


# --- one series -------------------------------------------------------------------------------------------------------


def series_of(frames: np.ndarray, **changes: object) -> Series:
    return Series.from_array(frames[:, None] if frames.ndim == 3 else frames, **changes)


def test_statistics_do_not_depend_on_gain_or_transposition() -> None:
    frames = gaussian_filter(np.random.default_rng(3).gamma(2.0, size=(4, 1, 100, 110)), (0, 0, 0.6, 0.6))
    plain = collect(series_of(frames), window=None)
    for other in (series_of(40 * frames), series_of(frames.swapaxes(-1, -2))):
        found = collect(other, window=None)
        for statistic in realism.STATISTICS:
            assert_allclose(getattr(found, statistic.key), getattr(plain, statistic.key), rtol=1e-4, atol=1e-5)


def test_histograms_are_shares_and_uniform_grey_is_flat() -> None:
    frames = np.random.default_rng(0).uniform(0, 1, (6, 1, 128, 128))
    found = collect(series_of(frames))
    assert_allclose([found.grey.sum(), found.gradients.sum()], 1)
    assert_allclose(found.grey[:-1], 1 / 64, rtol=0.12)
    assert found.black == pytest.approx(2, abs=0.3)
    assert found.n_images == 6


def test_the_window_lies_about_what_varies_over_time() -> None:
    frames = np.abs(noise(12, 200, 240)) + 1
    y, x = np.ogrid[:200, :240]
    beating = np.hypot(y - 55, x - 100) < 15
    frames[:, beating] += 20 * (np.arange(12) % 2)[:, None]
    found = collect(series_of(frames))
    assert_allclose(found.grey, collect(series_of(frames), centre=(55, 100)).grey, atol=0.002)
    assert found.kurtosis > 10 + collect(series_of(frames), centre=(150, 190)).kurtosis


def test_the_patient_kind_and_pixel_size_are_kept() -> None:
    affine = np.diag([1.5, 2.5, 8, 1])
    found = collect(series_of(np.abs(noise(3, 96, 96)), affine=affine), name="p07_stress", kind="lge")
    assert (found.name, found.patient, found.kind, found.pixel_mm) == ("p07_stress", "p07", "lge", (2.5, 1.5))


def test_two_phases_are_no_sequence() -> None:
    frames = np.abs(noise(3, 96, 96))
    pair = collect(series_of(frames[:2]))
    assert (pair.temporal_db, pair.temporal_noise) == (None, None)
    assert collect(series_of(frames)).temporal_db is not None


@pytest.mark.parametrize(("size", "window"), [(80, 96), (80, None), (128, 64)])
def test_images_and_windows_below_96_pixels_are_refused(size: int, window: int | None) -> None:
    with pytest.raises(UnusableError, match="at least 96"):
        collect(series_of(np.abs(noise(3, size, size))), window=window)


def test_a_window_without_an_image_is_refused() -> None:
    frames = np.zeros((3, 300, 300))
    frames[:, :20, :20] = np.abs(noise(3, 20, 20))
    with pytest.raises(UnusableError, match="constant"):
        collect(series_of(frames), centre=(250, 250))


def test_real_perfusion_has_the_spectrum_of_the_shared_table(real_data: Path) -> None:
    found = [collect(c.open(), name=c.name) for c in discover([real_data / "perfusion-nifti"])[0] if "rest" in c.name]
    mean = realism.average(found, "spectrum_db")
    error = [mean[radius - 1] - level for radius, level in REAL_PERFUSION.items()]
    assert np.sqrt(np.mean(np.square(error))) < 1.5  # three of the forty patients


# --- two groups -------------------------------------------------------------------------------------------------------


def test_groups_of_one_population_are_one_spread_apart() -> None:
    for one in distance(group(150, 1), group(150, 2)).values():
        assert one.ratio == pytest.approx(1, abs=0.35), one.statistic.key
        assert one.spread is not None
        assert one.gap < one.spread
        assert one.covered > 0.85
    assert all(abs(gap.spreads) < 1 for gap in gaps(group(150, 1), group(150, 2)))


def test_distances_of_known_shifts() -> None:
    real = [statistics("p1"), statistics("p2")]
    virtual = [
        statistics(
            spectrum_db=real[0].spectrum_db + 5, kurtosis=1.0,
            grey=np.roll(real[0].grey, 4), gradients=np.roll(real[0].gradients, -4),
        )
    ]  # fmt: skip
    found = distance(real, virtual)
    assert found["spectrum_db"].gap == pytest.approx(5)
    assert found["grey"].gap == pytest.approx(4 / 64, rel=0.01)  # of the grey scale
    assert found["gradients"].gap == pytest.approx(4 * 2 / 64, rel=0.01)  # decades
    assert found["kurtosis"].gap == pytest.approx(3)
    assert found["noise"].gap == 0
    assert found["spectrum_db"].covered == 0
    assert found["noise"].covered == 1
    assert (found["spectrum_db"].spread, found["spectrum_db"].ratio) == (0, None)


def test_the_spread_leaves_out_all_series_of_the_patient() -> None:
    rest, stress, other = statistics("p1_rest"), statistics("p1_stress"), statistics("p2_rest", noise=7.0)
    assert distance([rest, stress, other], [rest])["noise"].spread == pytest.approx(4)
    assert distance([rest, stress], [rest])["noise"].spread is None
    with pytest.raises(UnusableError, match="only p1"):
        gaps([rest, stress], [rest])


def test_patients_count_equally_however_many_series_they_have() -> None:
    one, other = statistics("p1"), statistics("p2", noise=9.0)
    assert_allclose(realism.average([one] * 5 + [other], "noise"), realism.average([one, other], "noise"))


def test_the_covered_share_grows_with_the_range_of_the_virtual() -> None:
    real = group(20, 1)
    narrow, wide = [statistics(noise=v) for v in (2.9, 3.1)], [statistics(noise=v) for v in (0.0, 8.0)]
    assert distance(real, narrow)["noise"].covered < 0.3
    assert distance(real, wide)["noise"].covered == 1


@pytest.mark.parametrize(
    ("changes", "key", "band", "sign"),
    [
        ({"spectrum_db": -20 * np.log10(realism.RADII) + 12.0 * (np.abs(realism.RADII - 27.5) < 4)},
         "spectrum_db", "radii 24-31", 1),
        ({"black": -6.0}, "black", "", -1),
        ({"temporal_db": -10 - 30.0 * (realism.RADII >= 40)}, "temporal_db", "radii 40-47", -1),
        ({"roll": 32}, "grey", "87.5 to 100 % of the grey scale", 1),
    ],
)  # fmt: skip
def test_the_widest_gap_is_the_one_that_was_made(changes: dict[str, object], key: str, band: str, sign: int) -> None:
    odd_scanner = statistics("odd", spectrum_db=np.linspace(0, -80, 47), black=60.0)
    found = widest_gap([*group(12, 1), odd_scanner], group(12, 2, **changes))
    assert (found.statistic.key, found.band) == (key, band)
    assert np.sign(found.spreads) == sign
    assert np.sign(found.virtual - found.real) == sign
    assert found.statistic.title in str(found)


def test_bands_begin_and_end_at_the_radii_of_their_names() -> None:
    real = group(4, 1)
    for low, high in realism.RADIUS_BANDS:
        for edge in (low, high):
            virtual = [replace(s, spectrum_db=s.spectrum_db + 100.0 * (edge == realism.RADII)) for s in real]
            moved = {gap.band for gap in gaps(real, virtual) if abs(gap.spreads) > 1}
            assert moved == {f"radii {low}-{high}"}


def test_statistics_that_a_group_lacks_are_left_out() -> None:
    still = [replace(one, temporal_db=None, temporal_noise=None) for one in group(3, 1)]
    assert not {"temporal_db", "temporal_noise"} & set(distance(group(3, 2), still))
    assert "temporal_db" not in {gap.statistic.key for gap in gaps(still, group(3, 2))}
    for real, virtual in (([], still), (still, [])):
        with pytest.raises(UnusableError, match=r"no (real|virtual) series"):
            distance(real, virtual)


def test_the_report_is_plain_values_and_a_picture_of_the_kinds_in_both() -> None:
    real = [*group(4, 1), *group(2, 2, kind="cine"), *group(1, 3, kind="t1")]
    virtual = [*group(4, 4, noise=9.0), *group(2, 5, kind="t1")]
    record, pictures = realism_report(real, virtual)
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert list(record["kinds"]) == ["perfusion", "t1"]
    perfusion, t1 = record["kinds"].values()
    assert perfusion["real"]["patients"] == 4
    assert perfusion["widest_gaps"][0]["statistic"] == "noise"
    assert perfusion["distances"]["noise"]["ratio"] > 2
    assert t1["widest_gaps"] == []  # one real patient: no spread
    assert t1["distances"]["noise"]["ratio"] is None
    assert pictures[0].data.startswith(b"\x89PNG")
    with pytest.raises(UnusableError, match="real perfusion, virtual cine"):
        realism_report(group(2, 1), group(2, 2, kind="cine"))


def test_by_kind_keeps_the_order() -> None:
    ordered = [statistics("a"), statistics("b", kind="cine"), statistics("c")]
    assert {kind: [s.name for s in found] for kind, found in realism.by_kind(ordered).items()} == {
        "perfusion": ["a", "c"],
        "cine": ["b"],
    }
