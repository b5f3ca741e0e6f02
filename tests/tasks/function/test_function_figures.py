"""What the pictures of a heart's function show, and that all kinds of hearts draw."""

from io import BytesIO

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.patches import Wedge
from numpy.testing import assert_allclose

from cmrsr.physics.volumes import LV, MYOCARDIUM
from cmrsr.report import style
from cmrsr.report.bulls_eye import UNKNOWN, bulls_eye, segment_places
from cmrsr.report.contours import (
    CONTOURS,
    MARGIN_MM,
    _with_contours,
    contour_movie,
    contour_sheet,
    crop_to_heart,
    heart_window,
    inside_field,
    slices_shown,
)
from cmrsr.report.movies import Timeline
from cmrsr.tasks.function.figures import causal_figure, describe_links, strong_links, volume_curves
from tests.tasks.function.function_results import PIXEL_MM, N, beating_labels, details


def _timeline(n: int, unit: str = "ms") -> Timeline:
    times = np.arange(n) * (40.0 if unit == "ms" else 1.0)
    return Timeline(frames=times, acquired=times, end=float(n), cyclic=True, unit=unit)  # type: ignore[arg-type]


# ---- contours --------------------------------------------------------------------------------------------------------


def test_slices_go_from_base_to_apex() -> None:
    labels = np.ones((2, 5, 4, 4), np.uint8)
    assert slices_shown(labels, base_first=True) == [0, 1, 2, 3, 4]
    assert slices_shown(labels, base_first=False) == [4, 3, 2, 1, 0]


def test_of_many_slices_twelve_are_shown_around_the_heart() -> None:
    labels = np.zeros((1, 40, 4, 4), np.uint8)
    labels[:, 10:31] = 1
    shown = slices_shown(labels, base_first=True)
    assert len(shown) == 12
    assert (shown[0], shown[-1]) == (9, 31)  # one without the heart at each end
    assert np.ptp(np.diff(shown)) <= 1
    assert len(slices_shown(np.zeros_like(labels), base_first=True)) == 12


def test_the_crop_is_square_and_holds_the_heart_with_its_margin() -> None:
    labels = np.zeros((2, 60, 80), np.uint8)
    labels[0, 20:30, 35:55] = LV
    labels[1, 25:35, 40:50] = MYOCARDIUM
    y, x = crop_to_heart(labels, PIXEL_MM)
    margin = round(MARGIN_MM / PIXEL_MM)
    assert y.stop - y.start == x.stop - x.start == 20 + 2 * margin
    assert x.start == 35 - margin
    assert y.start <= 20
    assert y.stop >= 35
    assert crop_to_heart(np.zeros((2, 60, 80), np.uint8), PIXEL_MM) == (slice(0, 60), slice(0, 80))


def test_the_window_is_that_of_the_heart_and_not_of_fat() -> None:
    labels = np.zeros((20, 20), np.uint8)
    labels[5:10, 5:10] = LV
    image = np.where(labels > 0, 100, 250).astype(np.uint8)
    assert heart_window(image, labels)[1] == pytest.approx(110)
    assert heart_window(image, np.zeros_like(labels))[1] == 250


def test_a_contour_encloses_the_area_that_was_measured() -> None:
    labels = beating_labels(8, 1)[0, 0]
    for _, inside in CONTOURS.values():
        field = inside_field(labels, inside)
        assert field is not None
        assert (field > 0.5).sum() == pytest.approx(np.isin(labels, inside).sum(), rel=0.02)
    outer = inside_field(labels, CONTOURS["LV outer wall"][1])
    assert outer is not None
    assert outer[N // 2, N // 2] > 0.99  # the wall's outer contour encloses the cavity too


def test_the_smallest_structure_keeps_its_contour() -> None:
    labels = np.zeros((9, 9), np.uint8)
    labels[4, 4] = LV
    field = inside_field(labels, (LV,))
    assert field is not None
    assert field.max() > 0.5
    assert inside_field(np.zeros_like(labels), (LV,)) is None
    assert inside_field(np.full_like(labels, LV), (LV,)) is None


def test_a_movie_draws_the_contour_where_the_label_ends() -> None:
    radius, zoom = 10.0, 8
    y, x = np.mgrid[:N, :N] - (N - 1) / 2
    labels = np.where(np.hypot(y, x) < radius, LV, 0).astype(np.uint8)
    plain = np.full((N * zoom, N * zoom, 3), 100, np.uint8)
    drawn = _with_contours(plain, labels)
    at = np.argwhere((drawn != plain).any(-1))
    away = np.hypot(*(at - (N * zoom - 1) / 2).T) / zoom
    assert len(at) > 100
    assert_allclose(away, radius, atol=1.0)  # pixels of the label
    assert_allclose(away.mean(), radius, atol=0.2)


def test_sheet_and_movie_draw() -> None:
    from PIL import Image

    made = details()
    sheet = contour_sheet(made.images, made.labels, {"ED": 0, "ES": 4}, [0, 1, 2], PIXEL_MM)
    assert sheet.startswith(b"\x89PNG")
    movie = contour_movie(made.images[:, 1], made.labels[:, 1], ["a"] * 8, [40] * 8, PIXEL_MM)
    assert Image.open(BytesIO(movie)).n_frames == 8


def test_a_heart_without_labels_draws() -> None:
    made = details(1, 1)
    nothing = np.zeros_like(made.labels)
    assert contour_sheet(made.images, nothing, {"ED = ES": 0}, [0], PIXEL_MM).startswith(b"\x89PNG")
    assert contour_movie(made.images[:, 0], nothing[:, 0], ["a"], [40], PIXEL_MM).startswith(b"RIFF")


# ---- the bull's-eye --------------------------------------------------------------------------------------------------


def test_segments_lie_where_the_heart_association_puts_them() -> None:
    places = list(segment_places())
    assert len(places) == 16
    directions = {}
    for number, (inner, outer, first, last) in enumerate(places, start=1):
        assert inner < outer
        angle = np.deg2rad((first + last) / 2)
        directions[number] = (round(np.cos(angle), 6), round(np.sin(angle), 6))
    for top, bottom in ((1, 4), (7, 10), (13, 15)):
        assert directions[top] == (0, 1)  # anterior
        assert directions[bottom] == (0, -1)  # inferior
    for septal, lateral in ((2, 6), (3, 5), (8, 12), (9, 11), (14, 16)):
        assert directions[septal][0] < -0.8
        assert directions[lateral][0] > 0.8
    assert directions[2][1] > 0 > directions[3][1]  # anteroseptal above inferoseptal
    assert [inner for inner, *_ in places] == [0.75] * 6 + [0.5] * 6 + [0.25] * 4  # the base outside


def test_a_segment_that_was_not_covered_is_grey_and_a_thinning_one_has_its_minus() -> None:
    values, small = np.full(16, 40.0), np.full(16, 8.0)
    values[3] = small[3] = np.nan
    values[5] = -12
    figure = bulls_eye(values, name="wall thickening", unit="%", limits=(0, 80), below=small, below_unit="mm")
    figure.canvas.draw()
    wedges = [patch for patch in figure.axes[0].patches if isinstance(patch, Wedge)]
    assert [wedge.get_facecolor() == to_rgba(UNKNOWN) for wedge in wedges] == [i == 3 for i in range(16)]
    said = [text.get_text() for text in figure.axes[0].texts]
    assert said.count("40") == 14
    assert said.count("–") == said.count("−12") == 1
    assert said.count("8 mm") == 15


# ---- volumes ---------------------------------------------------------------------------------------------------------


def test_the_phases_are_marked_with_their_volumes() -> None:
    lv = np.array([120.0, 100, 60, 50, 80, 110])
    axes = volume_curves(_timeline(6), lv, lv + 5, lv - 3, 0, 3).axes[0]
    assert [text.get_text() for text in axes.texts] == ["ED  120 mL", "ES  50 mL"]
    assert axes.get_xlabel() == "time (ms)"
    assert axes.get_ylabel() == "volume (mL)"
    drawn = {line.get_label(): line for line in axes.lines}
    assert_allclose(drawn["left ventricle"].get_ydata(), lv)
    assert_allclose(drawn["left ventricle"].get_xdata(), np.arange(6) * 40)
    assert_allclose(drawn["right ventricle"].get_ydata(), lv + 5)
    assert_allclose(drawn["left ventricle, direct estimate"].get_ydata(), lv - 3)
    assert axes.get_ylim()[0] == 0


@pytest.mark.parametrize("n", [1, 2, 9])
def test_volumes_that_are_missing_draw(n: int) -> None:
    unknown = np.full(n, np.nan)
    figure = volume_curves(_timeline(n, "frames"), unknown, None, unknown, 0, n - 1)
    style.png(figure, dpi=30)
    (axes,) = figure.axes
    assert axes.get_xlabel() == "frame"
    assert axes.lines[0].get_xdata()[0] == 1  # frames count from 1
    assert "right ventricle" not in {line.get_label() for line in axes.lines}


# ---- the causal graph ------------------------------------------------------------------------------------------------


def test_the_shares_of_known_graphs() -> None:
    own = describe_links(np.eye(6))
    assert (own.own, own.neighbours, own.strongest) == (1, 0, 0)
    even = describe_links(np.full((6, 6), 1 / 6))
    assert_allclose([even.own, even.neighbours, even.even, even.strongest], [1 / 6, 2 / 6, 1 / 6, 1 / 6])
    two = describe_links(np.array([[0.7, 0.3], [0.4, 0.6]]))
    assert_allclose([two.own, two.neighbours, two.strongest], [0.65, 0.35, 0.4])  # one neighbour, not two
    seam = describe_links(np.roll(np.eye(6), 1, axis=1))  # each step rests on the next, the last on the first
    assert seam.neighbours == pytest.approx(1)


def test_links_that_stand_out_lie_beyond_the_neighbours() -> None:
    n = 10
    alpha = np.eye(n) + 0.5 * np.roll(np.eye(n), 1, axis=1)
    alpha[:, 4] += 0.4
    found = strong_links(alpha / alpha.sum(1, keepdims=True))
    assert {source for _, source, _ in found} == {4}
    assert {step for step, *_ in found} == set(range(n)) - {3, 4, 5}
    weights = [weight for *_, weight in found]
    assert weights == sorted(weights)
    assert strong_links(np.full((n, n), 1 / n)) == []


@pytest.mark.parametrize(("n", "circle"), [(2, False), (4, False), (5, True), (30, True)])
def test_a_graph_draws_as_a_map_and_from_five_steps_on_as_a_circle(n: int, circle: bool) -> None:
    figure = causal_figure(np.full((n, n), 1 / n), _timeline(n), {"ED": 0, "ES": n // 2})
    style.png(figure, dpi=30)
    said = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert any("stands out" in text for text in said) == circle
    assert said.count("ED") == said.count("ES") == 1 + circle
    assert (f"{100 / n:.0f} %" in said) == (n <= 6)
    (image,) = figure.axes[0].images
    assert_allclose(np.asarray(image.get_array()), 100 / n)
