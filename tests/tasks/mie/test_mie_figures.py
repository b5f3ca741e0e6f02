"""What the pictures of a synthetic enhancement show, and that all kinds of cases draw."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle, Wedge
from numpy.testing import assert_allclose

from cmrsr.physics.volumes import LV, MYOCARDIUM
from cmrsr.report import style
from cmrsr.report.bulls_eye import UNKNOWN
from cmrsr.tasks.mie.bulls_eyes import four_bulls_eyes
from cmrsr.tasks.mie.figures import (
    BLOOD,
    REST,
    SCAR,
    WALL,
    batch_figure,
    motion_figure,
    recovery_figure,
    strain_curves,
    strain_figure,
    tissues_of,
)
from cmrsr.tasks.mie.scales import STRAIN_LIMITS, t1_limits, wall_t1_limits
from cmrsr.tasks.mie.slices import (
    MOST_SLICES,
    WORDS,
    base_to_apex,
    enhancement_sheet,
    most_scarred,
    place_of,
    slice_sheet,
    source_sheet,
)
from tests.mie_slices import BLOOD_MS, E_CC, E_CC_SCAR, ES, N_FRAMES, SCAR_MS, WALL_MS
from tests.tasks.mie.mie_results import ANTERIOR, details, recovering, three

EMPTY = np.zeros_like(ANTERIOR, np.uint8)


def _marked(figure: Figure) -> int:
    """Pictures that carry the words."""
    said = [text.get_text().split() for axes in figure.axes for text in axes.texts]
    return sum(words == " ".join(WORDS).split() for words in said)


def _heads(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


# ---- slices ----------------------------------------------------------------------------------------------------------


def test_slices_go_from_base_to_apex_where_that_is_known() -> None:
    assert [one.z for one in base_to_apex(three())] == [2, 1, 0]
    unknown = tuple(replace(one, level=None) for one in three())
    assert [one.z for one in base_to_apex(unknown)] == [0, 1, 2]
    assert place_of(three()[0]) == ("slice 1", "apical")
    assert place_of(unknown[0]) == ("slice 1", "")


def test_of_many_slices_twelve_are_shown_with_both_ends() -> None:
    one = recovering()
    many = [replace(one, z=z, level=1 - z / 40) for z in range(30)]
    shown = base_to_apex(many)
    assert len(shown) == MOST_SLICES
    assert (shown[0].z, shown[-1].z) == (0, 29)


def test_the_slice_with_most_scar_stands_for_the_case() -> None:
    assert most_scarred([recovering(0), recovering(1), recovering(2, scar=ANTERIOR)]).z == 2
    assert most_scarred(three(None)).z == 1


def test_every_synthetic_image_says_that_it_is_synthetic() -> None:
    slices = three()
    assert _marked(enhancement_sheet(slices)) == 2 * len(slices)
    assert _marked(slice_sheet(slices, WALL_MS)) == len(slices)
    assert _marked(source_sheet(slices[0])) == 1


def test_the_words_are_among_the_pixels() -> None:
    figure = enhancement_sheet([recovering()])
    axes = figure.axes[0]
    with_words = _drawn(figure)
    for text in list(axes.texts):
        text.remove()
    box = axes.get_window_extent()
    rows = slice(int(figure.bbox.height - box.y0 - 0.15 * box.height), int(figure.bbox.height - box.y0))
    columns = slice(int(box.x0), int(box.x1))
    assert (with_words[rows, columns] != _drawn(figure)[rows, columns]).mean() > 0.05


def _drawn(figure: Figure) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())


def test_columns_have_one_scale_for_all_slices() -> None:
    slices = [recovering(0), recovering(1, image=3 * recovering().image)]
    images = [axes.images for axes in slice_sheet(slices, WALL_MS).axes if axes.images]
    limits = [found[-1].get_clim() for found in images]
    assert len(limits) == 14  # without the colour bars
    assert limits[0::2] == limits[1::2]  # a column's slices follow each other
    assert STRAIN_LIMITS in limits
    assert t1_limits(WALL_MS) in limits


def test_strain_is_drawn_in_the_wall_at_end_diastole_alone_and_in_percent() -> None:
    outer = recovering()
    labels_ed = np.where(np.arange(outer.labels_ed.shape[0])[:, None] < 60, outer.labels_ed, 0).astype(np.uint8)
    figure = slice_sheet([replace(outer, labels_ed=labels_ed)], WALL_MS)
    (strain,) = [i for axes in figure.axes for i in axes.images if i.get_clim() == STRAIN_LIMITS]
    shown = strain.get_array()
    assert (~np.ma.getmaskarray(shown)).sum() == (labels_ed == MYOCARDIUM).sum()
    assert_allclose(shown.compressed(), 100 * E_CC)


def test_one_sample_has_no_picture_of_uncertainty() -> None:
    assert "uncertainty" in _heads(slice_sheet(three(), WALL_MS))
    assert "uncertainty" not in _heads(slice_sheet(three(image_std=None), WALL_MS))


def test_the_grey_of_the_heart_is_not_that_of_fat() -> None:
    one = recovering()
    image = np.where(one.labels > 0, one.image, 50.0).astype(np.float32)  # the corners of the picture are brighter
    figure = enhancement_sheet([replace(one, image=image)])
    assert figure.axes[0].images[0].get_clim()[1] < 2


@pytest.mark.parametrize("n", [1, 5])
def test_any_number_of_slices_draws(n: int) -> None:
    one = recovering(scar=ANTERIOR)
    slices = [replace(one, z=z, level=1 - z / 20) for z in range(n)]
    assert style.png(enhancement_sheet(slices), 20).startswith(b"\x89PNG")
    assert style.png(slice_sheet(slices, WALL_MS), 20).startswith(b"\x89PNG")


def test_a_slice_without_heart_and_without_t1_draws() -> None:
    lost = recovering(
        labels=EMPTY, labels_ed=EMPTY, segments=EMPTY, level=None, septum=float("nan"),
        t1_ms=np.full(EMPTY.shape, np.nan), clusters=EMPTY,
    )  # fmt: skip
    for figure in (enhancement_sheet([lost]), slice_sheet([lost], float("nan")), source_sheet(lost)):
        assert style.png(figure, 20).startswith(b"\x89PNG")
    assert style.png(recovery_figure(lost), 20).startswith(b"\x89PNG")
    assert strain_curves([lost]) == {}


def test_seven_images_and_a_cine_of_thirty_phases_show_where_the_result_comes_from() -> None:
    one = recovering()
    cine = np.repeat(one.cine[:1], 30, 0)
    figure = source_sheet(
        replace(one, inversions=one.inversions[:7], inversion_ms=one.inversion_ms[:7], cine=cine)
    )  # fmt: skip
    heads = _heads(figure)
    assert [h for h in heads if h.endswith("ms")] == [f"{'TI ' * (t == 100)}{t} ms" for t in
        (100, 180, 900, 1000, 1700, 1900, 2600)]  # fmt: skip
    assert sum(h.endswith(" %") for h in heads) == 8
    assert {"→", "native T1", "cine", "computed"} <= set(heads)


# ---- bull's-eyes -----------------------------------------------------------------------------------------------------


def test_the_four_bulls_eyes_say_their_numbers_and_what_is_unknown() -> None:
    table = details(three()[:2]).measured.table  # no basal slice
    assert table is not None
    figure = four_bulls_eyes(table, WALL_MS)
    panels = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert len(panels) == 4
    for axes, values in zip(
        panels, (table.scar_percent, table.transmurality_percent, table.t1_ms, table.e_cc_percent), strict=True
    ):
        wedges = [patch for patch in axes.patches if isinstance(patch, Wedge)]
        assert [w.get_facecolor() == to_rgba(UNKNOWN) for w in wedges] == [True] * 6 + [False] * 10
        said = [text.get_text() for text in axes.texts[:16]]
        assert said == ["–" if np.isnan(v) else f"{v:.0f}".replace("-", "−") for v in values]


def test_t1_has_the_colours_of_its_field_strength() -> None:
    assert t1_limits(1000) == t1_limits(float("nan")) != t1_limits(1200)
    for wall, blood in ((980, 1550), (1200, 1850)):  # healthy, at 1.5 and 3 T
        assert t1_limits(wall)[0] < wall < blood < t1_limits(wall)[1]
        assert wall_t1_limits(wall)[0] < wall < wall + 150 < wall_t1_limits(wall)[1]


# ---- charts ----------------------------------------------------------------------------------------------------------


def test_strain_of_scar_and_rest_are_the_measured_ones() -> None:
    made = details(three())
    curves = strain_curves(made.slices)
    assert set(curves) == {SCAR, REST}
    assert curves[SCAR][ES] == pytest.approx(made.measured.e_cc_scar_percent)
    assert curves[REST][ES] == pytest.approx(made.measured.e_cc_rest_percent)
    assert_allclose([curves[SCAR][ES], curves[REST][ES]], [100 * E_CC_SCAR, 100 * E_CC], rtol=1e-5)
    axes = strain_figure(curves, ES).axes[0]
    lines = {str(line.get_label()): line for line in axes.lines}
    assert {"scar: −5 % at ES", "wall without scar: −20 % at ES"} <= set(lines)
    line = lines["scar: −5 % at ES"]
    assert len(line.get_xdata()) == N_FRAMES + 1  # the beat closes
    assert line.get_ydata()[-1] == line.get_ydata()[0]


def test_without_scar_there_is_one_strain_that_of_the_wall() -> None:
    assert set(strain_curves(three(None))) == {WALL}


def test_recovery_fits_every_tissue() -> None:
    one = recovering(scar=ANTERIOR)
    assert set(tissues_of(one)) == {BLOOD, REST, SCAR}
    axes = recovery_figure(one).axes[0]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert len(labels) == 3
    for label, name, t1 in zip(labels, (BLOOD, REST, SCAR), (BLOOD_MS, WALL_MS, SCAR_MS), strict=True):
        assert label.startswith(f"{name}, T1 ")
        assert float(label.split()[-2]) == pytest.approx(t1, rel=0.01)
    marks = [line for line in axes.lines if line.get_linestyle() == "None"]
    fits = [line for line in axes.lines if len(line.get_xdata()) > 100]
    for mark, fit in zip(marks, fits, strict=True):
        expected = np.interp(mark.get_xdata(), fit.get_xdata(), fit.get_ydata())
        assert_allclose(mark.get_ydata(), expected, atol=1.0)


def test_tissues_do_not_overlap_and_blood_keeps_off_the_wall() -> None:
    one = recovering(scar=ANTERIOR)
    masks = tissues_of(one)
    assert np.sum(list(masks.values()), 0).max() == 1
    assert masks[BLOOD].sum() < 0.8 * (one.labels == LV).sum()


def test_motion_that_could_not_be_corrected_is_a_cross_and_not_a_zero() -> None:
    shift = np.zeros((8, 2))
    shift[3] = (3.0, 4.0)
    found = np.arange(8) != 5
    figure = motion_figure([recovering(shift_mm=shift, registered=found), recovering(1)])
    said = [text.get_text() for text in figure.axes[0].texts]
    assert (said[3], said[5], said[6]) == ("5.0", "✕", "0.0")
    assert said.count("✕") == 1
    assert np.ma.getmaskarray(np.ma.masked_invalid(figure.axes[0].images[0].get_array()))[0, 5]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["slice 1", "slice 2"]


def test_the_batch_marks_cases_in_doubt() -> None:
    figure = batch_figure(["a", "b"], [12.0, 0.0], [-8.0, float("nan")], [True, False])
    style.png(figure, 20)
    bars = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    assert [bar.get_width() for bar in bars] == [12, 0]
    assert [bar.get_facecolor() == to_rgba("white") for bar in bars] == [True, False]
