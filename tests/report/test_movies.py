from io import BytesIO

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from cmrsr.report import figures, movies
from cmrsr.report.movies import Line, Timeline


def _timeline(n: int = 4, factor: int = 3, *, cyclic: bool = True, unit="ms", step: float = 60.0) -> Timeline:
    """``n`` acquired frames every ``step``, ``factor`` output frames for each."""
    n_out = n * factor if cyclic else (n - 1) * factor + 1
    return Timeline(
        frames=np.arange(n_out) * step / factor, acquired=np.arange(n) * step,
        end=n * step if cyclic else n_out * step / factor, cyclic=cyclic, unit=unit,
    )  # fmt: skip


def _frames(n: int, n_y: int = 20, n_x: int = 24) -> NDArray[np.float32]:
    """No two frames and no two lines are equal."""
    return np.random.default_rng(0).uniform(0, 100, (n, n_y, n_x)).astype(np.float32)


def _decoded(data: bytes) -> tuple[list[NDArray[np.uint8]], list[int]]:
    from PIL import Image, ImageSequence

    assert data.startswith(b"RIFF")
    movie = Image.open(BytesIO(data))
    pages, ends = [], []
    for page in ImageSequence.Iterator(movie):
        pages.append(np.asarray(page.convert("RGB")))
        ends.append(page.info["timestamp"] + page.info["duration"])
    return pages, list(np.diff([0, *ends]))


# ---- movie -----------------------------------------------------------------------------------------------------------


def test_the_movie_plays_every_frame_and_marks_the_acquired_ones() -> None:
    n = 6
    blue = np.zeros((n, 20, 24), np.float32)
    blue[:, :, ::2] = 1
    marks = [(i % 3 == 0, f"{i} ms") for i in range(n)]
    pages, _ = _decoded(movies.movie(blue, blue, marks, [40] * n))
    assert len(pages) == n
    for page, (acquired, _) in zip(pages, marks, strict=True):
        corner = page[movies.HEADING + 14, -14].astype(int)
        assert (corner[0] - corner[2] > 80) == acquired  # the only colour of the movie
        left = page[movies.HEADING + 14, movies.PANE - 14].astype(int)
        assert np.ptp(left) < 40


def test_the_movie_keeps_the_pace_of_the_scan() -> None:
    timeline = _timeline(4, 3, step=100.0)
    shown = np.arange(12)
    kept, durations = movies.playing(timeline, shown, 1.0)
    assert len(shown[kept]) == 12
    assert sum(durations) == 400
    frames = _frames(12)
    _, played = _decoded(movies.movie(frames, frames, [(False, str(i)) for i in range(12)], durations))
    assert played == durations
    assert sum(movies.playing(timeline, shown, 2.5)[1]) == 1000


@pytest.mark.parametrize(("n", "factor", "step"), [(30, 8, 30.0), (25, 8, 1000.0), (2, 60, 20.0)])
def test_a_movie_of_too_many_frames_leaves_some_out_and_keeps_its_pace(n: int, factor: int, step: float) -> None:
    timeline = _timeline(n, factor, step=step)
    kept, durations = movies.playing(timeline, np.arange(n * factor), 1.0)
    assert len(np.arange(n * factor)[kept]) == len(durations) <= figures.MOVIE_FRAMES
    assert min(durations) >= movies.PICTURE_MS
    assert_allclose(sum(durations), n * step, rtol=0.1)


def test_uneven_frames_are_held_as_long_as_they_last() -> None:
    timeline = Timeline(
        frames=np.array([0.0, 50.0, 200.0]), acquired=np.array([0.0, 200.0]), end=300.0, cyclic=True, unit="ms"
    )
    assert movies.playing(timeline, np.arange(3), 1.0)[1] == [50, 150, 100]


def test_a_large_noisy_movie_stays_small() -> None:
    noise = np.random.default_rng(0).normal(0, 1, (40, 112, 112)).astype(np.float32)
    data = movies.movie(noise, noise, [(False, "")] * 40, [40] * 40)
    assert len(data) <= figures.MOVIE_BYTES


# ---- profile ---------------------------------------------------------------------------------------------------------


def _strips(timeline: Timeline, shown: NDArray[np.int_], line: Line, pixel_mm: tuple[float, float] = (2.0, 1.5)):
    after = _frames(len(shown))
    before = after[np.searchsorted(shown, shown)]
    figure = movies.profile(before, after, line, timeline, shown, pixel_mm=pixel_mm)
    top, bottom = figure.axes[:2]
    return after, top, bottom


def test_a_cyclic_profile_shows_the_beat_twice() -> None:
    timeline = _timeline()
    after, top, bottom = _strips(timeline, np.arange(12), Line("x", 7))
    strip = bottom.collections[0].get_array()
    assert strip.shape == (20, 24)
    assert_allclose(strip[:, :12], strip[:, 12:])
    assert_allclose(strip[:, :12], after[:, :, 7].T)
    assert_allclose(bottom.get_xlim(), (0, 2 * 240))
    for axes in (top, bottom):
        ticks = [path.vertices[0, 0] for path in axes.collections[1].get_paths()]
        assert_allclose(ticks, np.arange(8) * 60)


def test_an_open_profile_is_shown_once() -> None:
    timeline = _timeline(cyclic=False)
    after, _, bottom = _strips(timeline, np.arange(10), Line("y", 3))
    assert_allclose(bottom.collections[0].get_array(), after[:, 3].T)
    assert_allclose(bottom.get_xlim(), (0, 200))


def test_a_profile_is_in_millimetres_and_milliseconds() -> None:
    for line, size in ((Line("x", 7), 20 * 2.0), (Line("y", 7), 24 * 1.5)):
        _, top, bottom = _strips(_timeline(), np.arange(12), line)
        assert (top.get_xlabel(), bottom.get_xlabel()) == ("", "time (ms)")
        assert {axes.get_ylabel() for axes in (top, bottom)} == {"position (mm)"}
        assert_allclose(bottom.get_ylim(), (size, 0))


def test_without_times_frames_are_counted_from_one_in_both_beats() -> None:
    timeline = _timeline(unit="frames", step=1.0)
    _, _, bottom = _strips(timeline, np.arange(12), Line("x", 0))
    assert bottom.get_xlabel() == "acquired frame"
    words = bottom.xaxis.get_major_formatter()
    assert [words(t, 0) for t in (0.0, 3.0, 4.0, 7.5)] == ["1", "4", "1", "4.5"]
    assert (timeline.at(0.0), timeline.at(4 / 3), _timeline().at(66.7)) == ("frame 1", "frame 2.33", "67 ms")


def test_before_steps_at_the_acquired_frames_even_where_the_output_has_none() -> None:
    """5 output frames of 3 acquired ones: only the first is acquired."""
    timeline = Timeline(
        frames=np.arange(5) * 36.0, acquired=np.arange(3) * 60.0, end=180.0, cyclic=False, unit="ms"
    )  # fmt: skip
    frames = _frames(5)
    before = frames[[0, 0, 2, 2, 4]]
    figure = movies.profile(before, frames, Line("y", 0), timeline, np.arange(5), pixel_mm=(1, 1))
    mesh = figure.axes[0].collections[0]
    assert_allclose(mesh.get_coordinates()[0, :, 0], [0, 60, 120, 180])
    assert_allclose(mesh.get_array(), frames[[0, 2, 4], 0].T)


def test_the_line_crosses_what_moves() -> None:
    frames = np.zeros((5, 40, 30), np.float32)
    frames[::2, 16:18, 5:25] = 1
    assert movies.busiest_line(frames) in (Line("y", 16), Line("y", 17))
    assert movies.busiest_line(frames.swapaxes(1, 2)) in (Line("x", 16), Line("x", 17))
    frames[::2, 0, :] = 5  # the chest at the edge of the window
    assert movies.busiest_line(frames).index in (16, 17)
    image = np.arange(12).reshape(3, 4)
    assert_allclose(Line("y", 1).of(image), [4, 5, 6, 7])
    assert_allclose(Line("x", 1).of(image), [1, 5, 9])


# ---- charts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cyclic", [True, False])
def test_uncertainty_over_time_has_units_and_rests_on_the_acquired_frames(cyclic: bool) -> None:
    timeline = _timeline(cyclic=cyclic)
    acquired = np.isin(timeline.frames, timeline.acquired)
    std = np.where(acquired, 0, 1 + np.arange(len(timeline.frames)))
    (axes,) = movies.uncertainty(timeline, {"expected error": std}, acquired).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("time (ms)", "std. deviation (% of bright signal)")
    drawn = axes.lines[0].get_xydata()
    assert_allclose(drawn[: len(std), 1], std)
    assert_allclose(drawn[len(std) :], [[240, 0]] if cyclic else np.empty((0, 2)))  # back at the first frame
    assert_allclose(axes.collections[1].get_offsets(), [(t, 0) for t in timeline.acquired])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["expected error", "acquired frame"]


def test_two_uncertainties_share_one_chart_and_are_told_apart() -> None:
    timeline = _timeline()
    acquired = np.isin(timeline.frames, timeline.acquired)
    expected, spread = (np.where(acquired, 0, height) for height in (2.0, 5.0))
    curves = {"expected error": expected, "spread of 8 samples": spread}
    (axes,) = movies.uncertainty(timeline, curves, acquired).axes
    legend = axes.get_legend()
    names = [text.get_text() for text in legend.get_texts()]
    assert names == [*curves, "acquired frame"]
    for name, drawn, key in zip(curves, axes.lines, legend.legend_handles, strict=False):
        assert_allclose(drawn.get_ydata()[:12], curves[name])
        assert drawn.get_color() == key.get_color()
    assert axes.lines[0].get_color() != axes.lines[1].get_color()
    assert axes.get_ylim()[1] > 5


def test_without_samples_the_differences_are_drawn() -> None:
    timeline = _timeline()
    acquired = np.isin(timeline.frames, timeline.acquired)
    change = np.repeat([4.0, 8.0, 2.0, 1.0], 3) * ~acquired
    refinement = 0.1 * np.arange(12) * ~acquired
    top, bottom = movies.unsampled(timeline, change, refinement, acquired).axes
    assert_allclose(top.patches[0].get_data().values, [4, 8, 2, 1])
    assert_allclose(top.patches[0].get_data().edges, [0, 60, 120, 180, 240])
    assert_allclose(bottom.lines[0].get_ydata()[:12], refinement)
    assert (top.get_ylabel(), bottom.get_ylabel()) == ("% of bright signal",) * 2
    assert (top.get_xlabel(), bottom.get_xlabel()) == ("", "time (ms)")
    assert_allclose(top.get_xlim(), bottom.get_xlim())


def test_an_interval_shows_maps_below_the_new_frames_only() -> None:
    a, b, c = _frames(3)
    columns = [("acquired 1", "0 ms", a, None), ("new", "30 ms", b, np.abs(b)), ("acquired 2", "60 ms", c, None)]
    figure = movies.interval(columns, "uncertainty", "% of bright signal", aspect=1.2)
    images = [axes.images[0] for axes in figure.axes if axes.images]
    assert [image.get_cmap().name for image in images] == ["gray", "gray", "inferno", "gray"]
    assert len({image.get_clim() for image in images if image.get_cmap().name == "gray"}) == 1
    assert "% of bright signal" in [axes.get_ylabel() for axes in figure.axes]
    assert {"acquired 1", "new", "30 ms", "uncertainty"} <= {text.get_text() for text in figure.texts}
