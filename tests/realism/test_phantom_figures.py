"""What is drawn is what was measured, and what is shaded is what is defined."""

from collections.abc import Sequence

import numpy as np
import pytest
from matplotlib.text import Text
from numpy.testing import assert_allclose

from cmrsr.errors import UnusableError
from cmrsr.realism import figures as phantom_figures
from cmrsr.realism.distance import average, distance
from cmrsr.realism.figures import disease_figure, population_figure, realism_figure
from cmrsr.realism.image_statistics import RADII
from cmrsr.realism.population import GROUPS, NORMAL_VALUES, Group, HeartMeasures, acdc_group, confusion
from cmrsr.report import style
from tests.realism.test_population import TYPICAL, heart
from tests.realism.test_realism import group


def population() -> list[HeartMeasures]:
    rng = np.random.default_rng(0)
    return [
        heart("mf"[i % 2], asked, **{**TYPICAL[asked], "rv_ef_percent": rng.normal(58, 3)})
        for asked in GROUPS
        for i in range(6)
    ]


def texts(artists: Sequence[Text]) -> str:
    return " | ".join(artist.get_text() for artist in artists)


def test_realism_rows_are_the_kinds_in_both_groups() -> None:
    real = {"perfusion": group(4, 1), "cine": group(4, 2, kind="cine"), "lge": group(2, 3, kind="lge")}
    virtual = {"cine": group(3, 4, kind="cine"), "perfusion": group(3, 5, noise=9.0), "t1": group(2, 6, kind="t1")}
    figure = realism_figure(real, virtual)
    assert len(figure.axes) == 2 * 3
    assert "Perfusion | real: 4 patients, 2.0 mm | virtual: 3 patients, 2.0 mm" in texts(figure.axes[0].texts)
    for row, kind in enumerate(("perfusion", "cine")):
        spectrum, grey, gradients = figure.axes[3 * row : 3 * row + 3]
        for line, found, colour in (
            (0, real[kind], style.REFERENCE), (1, virtual[kind], phantom_figures.VIRTUAL)
        ):  # fmt: skip
            assert_allclose(spectrum.lines[line].get_xydata().T, (RADII, average(found, "spectrum_db")))
            assert_allclose(grey.lines[line].get_ydata(), 100 * average(found, "grey"))
            assert_allclose(gradients.lines[line].get_ydata(), 100 * average(found, "gradients"))
            assert spectrum.lines[line].get_color() == colour
        ratio = distance(real[kind], virtual[kind])["gradients"].ratio
        assert gradients.get_title(loc="left") == f"Gradients: {ratio:.1f} × real spread"


def test_the_band_holds_four_fifths_of_the_series() -> None:
    real = group(101, 1)
    band = realism_figure({"perfusion": real}, {"perfusion": group(3, 2)}).axes[0].collections[0]
    edges = band.get_paths()[0].vertices
    at_20 = edges[edges[:, 0] == 20, 1]
    inside = [at_20.min() <= s.spectrum_db[20 - 1] <= at_20.max() for s in real]
    assert np.mean(inside) == pytest.approx(0.8, abs=0.02)


def test_one_real_patient_gives_no_yardstick() -> None:
    axes = realism_figure({"t1": group(1, 1, kind="t1")}, {"t1": group(3, 2, kind="t1")}).axes[0]
    assert axes.get_title(loc="left") == "Spectrum"


def test_no_common_kind_is_refused() -> None:
    with pytest.raises(UnusableError, match="real nothing, virtual cine"):
        realism_figure({}, {"cine": group(2, 1, kind="cine")})


def test_every_subject_is_a_dot_beside_the_published_interval() -> None:
    subjects = [heart("m", lv_edv_ml=150.0 + i) for i in range(7)] + [heart("f") for _ in range(3)]
    figure = population_figure(subjects)
    assert len(figure.axes) == 4
    men, women = figure.axes[0].collections
    assert_allclose(np.asarray(men.get_offsets())[:, 1], [150.0 + i for i in range(7)])
    assert len(women.get_offsets()) == 3
    published = next(n for n in NORMAL_VALUES if n.measure == "lv_edv_ml" and n.sex == "m")
    bar = figure.axes[0].lines[0]
    assert bar.get_color() == phantom_figures.PUBLISHED
    assert_allclose(bar.get_ydata(), (published.mean - 2 * published.sd, published.mean + 2 * published.sd))
    assert [axes.get_ylabel() for axes in figure.axes] == ["mL", "mL", "%", "g"]


def test_a_sex_without_subjects_has_only_its_published_interval() -> None:
    figure = population_figure([heart("f")])
    assert [len(axes.collections) for axes in figure.axes] == [1] * 4


def test_every_heart_is_in_every_plane_of_the_disease_figure() -> None:
    measures = [*population(), heart(lv_edv_ml=500.0), heart(group=None, max_wall_mm=3.0)]
    figure = disease_figure(measures)
    for axes, key in zip(figure.axes, ("lv_edv_index", "max_wall_mm", "rv_edv_index"), strict=True):
        drawn = np.concatenate([np.asarray(dots.get_offsets()) for dots in axes.collections])
        assert_allclose(np.sort(drawn[:, 0]), sorted(getattr(m, key) for m in measures))
        low, high = axes.get_xlim()
        assert low < drawn[:, 0].min()
        assert drawn[:, 0].max() < high
    legend = texts(figure.legends[0].get_texts())
    for asked, shares in confusion(measures).items():
        assert f"{asked} {100 * shares[asked]:.0f} % of 6" in legend


def test_hearts_without_groups_need_no_legend() -> None:
    assert disease_figure([heart(), heart("f")]).legends == []


def test_shaded_regions_are_those_of_the_definitions() -> None:
    """Of men, in every plane: a heart that meets a definition lies in a region of it, and nowhere if there is none."""
    rng = np.random.default_rng(1)
    planes = (
        ("lv_edv_index", "lv_ef_percent"), ("max_wall_mm", "lv_ef_percent"), ("rv_edv_index", "rv_ef_percent")
    )  # fmt: skip
    met = dict.fromkeys(GROUPS, 0)
    for _ in range(3000):
        one = heart(
            lv_edv_ml=rng.uniform(80, 300), lv_ef_percent=rng.uniform(10, 80), max_wall_mm=rng.uniform(5, 25),
            rv_edv_ml=rng.uniform(100, 260), rv_ef_percent=rng.uniform(20, 70), n_abnormal_segments=rng.integers(0, 4),
        )  # fmt: skip
        for found in acdc_group(one):
            met[found] += 1
            for across, up in planes:
                regions = [r for r in phantom_figures.REGIONS[across] if found in r[1]]
                x, y = getattr(one, across), getattr(one, up)
                inside = [left <= x <= right and bottom <= y <= top for _, _, left, right, bottom, top in regions]
                assert any(inside) or not regions, (found, across, one)
    assert min(met.values()) > 5


@pytest.mark.parametrize("asked", ["NOR", "DCM", "HCM"])
def test_a_typical_heart_leaves_its_group_where_it_leaves_its_region(asked: Group) -> None:
    """Each edge of each region (for men), from half a unit inside to half a unit outside."""
    typical = {**TYPICAL[asked], "bsa_m2": 1.0, "lv_edv_ml": 120.0 if asked == "DCM" else 75.0, "rv_edv_ml": 85.0}
    keys = {"lv_edv_index": "lv_edv_ml", "max_wall_mm": "max_wall_mm", "rv_edv_index": "rv_edv_ml"}
    n_edges = 0
    for across, key in keys.items():
        up = "rv_ef_percent" if across == "rv_edv_index" else "lv_ef_percent"
        for left, right, bottom, top in (r[2:] for r in phantom_figures.REGIONS[across] if r[0] == asked):
            for changed, edge, inwards in ((key, left, 1), (key, right, -1), (up, bottom, 1), (up, top, -1)):
                if np.isfinite(edge):
                    n_edges += 1
                    assert asked in acdc_group(heart(**{**typical, changed: edge + 0.5 * inwards})), (changed, edge)
                    assert asked not in acdc_group(heart(**{**typical, changed: edge - 0.5 * inwards})), (changed, edge)
    assert n_edges >= 2


def test_equal_figures_are_equal_bytes() -> None:
    measures = population()
    assert style.png(disease_figure(measures)) == style.png(disease_figure(measures))
