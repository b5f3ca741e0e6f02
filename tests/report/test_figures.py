from io import BytesIO

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cmrsr.physics.kspace import degrade
from cmrsr.report import figures, style

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def series() -> tuple[np.ndarray, np.ndarray]:
    """A ring under a contrast bolus, 8 frames of 24 x 32, and its truncation along y."""
    y, x = np.mgrid[:24, :32]
    ring = np.abs(np.hypot(y - 12, x - 16) - 7) < 2
    signal = 50 + 200 * np.exp(-((np.arange(8) - 4) ** 2) / 4)
    noise = np.random.default_rng(0).normal(0, 5, (8, 24, 32))
    hr = np.abs(20 + signal[:, None, None] * ring + noise).astype(np.float32)
    return degrade(hr, 9, axis=1), hr


def _image(figure) -> np.ndarray:
    from PIL import Image

    data = style.png(figure, dpi=50)
    assert data.startswith(PNG_MAGIC)
    return np.asarray(Image.open(BytesIO(data)).convert("RGB"))


def test_key_frames_are_the_baseline_and_the_peaks_in_time_order() -> None:
    t = np.arange(30)
    bump = {name: 100 + 50 * np.exp(-((t - peak) ** 2) / 8) for name, peak in (("LV", 14), ("RV", 8), ("myo", 20))}
    bump["RV"][3] = 90
    found = figures.key_frames(bump)
    assert found == {"baseline": 3, "peak RV": 8, "peak LV": 14, "peak myo": 20}
    assert list(found) == ["baseline", "peak RV", "peak LV", "peak myo"]


def test_key_frames_take_the_first_passage_not_the_recirculation() -> None:
    t = np.arange(60)
    curve = 100 + 80 * np.exp(-((t - 12) ** 2) / 18) + 100 / (1 + np.exp(-(t - 30) / 3.0))
    assert np.argmax(curve) > 40
    assert figures.key_frames({"RV": curve})["peak RV"] == 12


def test_key_frames_of_a_constant_series() -> None:
    assert figures.key_frames({"LV": np.full(5, 7.0)}) == {"baseline": 0, "peak LV": 0}


def test_before_after_shows_both_under_one_window(series) -> None:
    lr, hr = series
    figure = figures.before_after(lr, hr, frames={"baseline": 0, "peak": 4}, roi=(6, 4, 16, 16))
    images = [axes.images[0] for axes in figure.axes]
    assert len(images) == 2 * 4  # two frames; input and result, whole and close
    assert len({image.get_clim() for image in images}) == 1
    assert_allclose(images[0].get_array(), lr[0])
    assert_allclose(images[3].get_array(), hr[0][4:20, 6:22])


def test_uncertainty_adds_a_row_with_its_own_scale(series) -> None:
    lr, hr = series
    plain = figures.before_after(lr, hr, frames={"peak": 4})
    with_std = figures.before_after(lr, hr, np.abs(hr - lr), frames={"peak": 4})
    assert with_std.get_size_inches()[1] > plain.get_size_inches()[1]
    assert [axes.get_ylabel() for axes in with_std.axes if axes.get_ylabel()] == ["std. deviation (a.u.)"]
    assert _image(figures.before_after(lr, hr, np.zeros_like(hr), frames={"peak": 4})).std() > 10  # no spread at all


@pytest.mark.parametrize("aspect", [0.5, 2.0])
def test_cells_keep_the_proportions_of_anisotropic_pixels(series, aspect: float) -> None:
    lr, hr = series
    figure = figures.before_after(lr, hr, frames={"peak": 4}, aspect=aspect)
    across, up = figure.get_size_inches()
    box = figure.axes[0].get_position()
    assert_allclose(box.height * up / (box.width * across), aspect * 24 / 32)


def test_comparison_shows_errors_in_percent_of_the_range(series) -> None:
    lr, hr = series
    methods = {"zero-filling": lr[4], "the reference itself": hr[4]}
    figure = figures.comparison(hr[4], methods)
    assert_allclose(figure.axes[2].images[0].get_array(), 100 * np.abs(lr[4] - hr[4]) / np.ptp(hr[4]), rtol=1e-5)
    assert not np.any(figure.axes[4].images[0].get_array())
    assert "inf dB · 1.000" in [text.get_text() for text in figure.texts]


@pytest.mark.parametrize("n_methods", [1, 4, 5, 8])
def test_comparison_places_every_method_without_overlap(series, n_methods: int) -> None:
    _, hr = series
    figure = figures.comparison(hr[4], {f"method {i}": hr[4] + i + 1 for i in range(n_methods)})
    places = [axes.get_position() for axes in figure.axes]
    assert len(places) == 1 + 2 * n_methods + 1  # the reference, image and error of each, the colour bar
    for i, a in enumerate(places):
        assert min(a.x0, a.y0) >= 0
        assert max(a.x1, a.y1) <= 1
        for b in places[:i]:
            assert a.x0 >= b.x1 or b.x0 >= a.x1 or a.y0 >= b.y1 or b.y0 >= a.y1


def test_phase_power_sees_the_truncation(series) -> None:
    _, hr = series
    power = figures.phase_power(hr, 1)
    assert_allclose(power.sum(), (hr.astype(float) ** 2).mean(axis=(0, 2)).sum(), rtol=1e-4)  # Parseval
    assert np.argmax(power) == 12


def test_spectrum_marks_the_acquired_lines() -> None:
    axes = figures.spectrum({"input": np.ones(24)}, 9).axes[0]
    band = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    assert_allclose((band.x0, band.x1), (-4, 4), atol=1e-9)


def test_boxplots_print_p_values_and_one_colour_per_method() -> None:
    rng = np.random.default_rng(0)
    values = {"zero-filling": rng.normal(30, 1, 20), "ours": rng.normal(31, 1, 300)}
    p_values = {"PSNR (dB)": {"zero-filling": None, "ours": 2e-5}}
    figure = figures.boxplots({"PSNR (dB)": values}, p_values, against="zero-filling")
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["p < 0.001"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["zero-filling", "ours"]
    assert axes.get_xlabel() == "PSNR (dB)"
    assert _image(figure).std() > 10


def test_curve_charts_have_units_and_every_line(series) -> None:
    lr, hr = series
    before, after = {"ring": lr.mean(axis=(1, 2))}, {"ring": hr.mean(axis=(1, 2))}
    axes = figures.curves(np.arange(8) * 0.8, after, before).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("time (s)", "signal (a.u.)")
    assert_allclose(axes.lines[0].get_ydata(), after["ring"])
    assert_allclose(axes.lines[1].get_ydata(), before["ring"])
    methods = {"reference": after["ring"], "zero-filling": before["ring"]}
    panel = figures.curve_comparison(None, {"ring": methods}).axes[0]
    assert panel.get_xlabel() == "frame"
    assert [line.get_color() for line in panel.lines] == [style.REFERENCE, style.INPUT]


def test_xt_profile_runs_time_across(series) -> None:
    lr, hr = series
    figure = figures.xt_profile({"input": lr[:, :, 16], "super-resolved": hr[:, :, 16]}, frame_s=0.8, pixel_mm=2.0)
    first, last = figure.axes
    assert_allclose(first.images[0].get_array(), lr[:, :, 16].T)
    assert_allclose(first.images[0].get_extent(), (0, 6.4, 48, 0))
    assert (last.get_xlabel(), last.get_ylabel()) == ("time (s)", "position (mm)")


@pytest.mark.parametrize("n_frames", [1, 8, 200])
def test_movie_is_short_small_and_animated(series, n_frames: int) -> None:
    from PIL import Image

    lr, hr = (np.resize(stack, (n_frames, 24, 32)) for stack in series)
    data = figures.movie(lr, hr, fps=10)
    movie = Image.open(BytesIO(data))
    assert movie.format == "WEBP"
    assert getattr(movie, "n_frames", 1) == min(n_frames, figures.MOVIE_FRAMES)
    assert len(data) <= figures.MOVIE_BYTES


def test_figures_leave_no_global_state_and_equal_bytes(series) -> None:
    import sys

    lr, hr = series
    frames = {"peak": 4}
    first, second = (style.png(figures.before_after(lr, hr, frames=frames)) for _ in range(2))
    assert first == second
    if "matplotlib.pyplot" in sys.modules:  # another test may have loaded it; it must not hold our figures
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []


def test_known_methods_keep_their_colours() -> None:
    alone = style.colours(["ours"])["ours"]
    among = style.colours(["Reference", "zero-filling", "bicubic", "Lanczos", "ours"])
    assert among["ours"] == alone
    assert len(set(among.values())) == 5
