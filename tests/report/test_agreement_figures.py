"""Bland-Altman plots say the bias, limits and correlation of the pairs that can be compared."""

import numpy as np
import pytest

from cmrsr.errors import UnusableError
from cmrsr.report.agreement_figures import agreement_pictures, agreement_sheet, bland_altman_figure

TRUTH = np.array([40.0, 50, 60, 70])
OURS = TRUTH + np.array([1, 3, 1, 3])  # bias 2, standard deviation 2 / sqrt(3)
LIMIT = 1.96 * 2 / np.sqrt(3)


def test_bias_limits_and_correlation_are_printed() -> None:
    figure = bland_altman_figure(OURS, TRUTH, "LV EF", "%")
    identity, difference = figure.axes
    said = [text.get_text() for text in difference.texts]
    assert said == [f"+1.96 SD  +{2 + LIMIT:.1f}", "bias  +2.0", f"−1.96 SD  −{LIMIT - 2:.1f}"]
    r = np.corrcoef(OURS, TRUTH)[0, 1]
    assert identity.texts[0].get_text() == f"n = 4\nr = {r:.3f}\nmean absolute error = 2.0 %"
    assert identity.get_xlim() == identity.get_ylim()
    assert identity.get_xlabel() == "reference (%)"
    np.testing.assert_allclose(difference.collections[0].get_offsets(), np.stack([(OURS + TRUTH) / 2, OURS - TRUTH], 1))


def test_pairs_that_are_not_finite_are_left_out() -> None:
    with_gaps = bland_altman_figure([*OURS, np.nan, 7], [*TRUTH, 50, np.inf], "LV EF", "%")
    assert "n = 4" in with_gaps.axes[0].texts[0].get_text()


@pytest.mark.parametrize(
    ("ours", "truth"), [([1.0, 2], [1.0, 2]), ([1.0, 2, np.nan], [1.0, 2, 3]), ([1.0, 2, 3], [1.0, 2, 3, 4])]
)
def test_too_few_pairs_are_refused(ours: list[float], truth: list[float]) -> None:
    with pytest.raises(UnusableError, match="LV EDV: found"):
        bland_altman_figure(ours, truth, "LV EDV", "mL")


def test_equal_values_draw_without_a_correlation() -> None:
    figure = bland_altman_figure([5, 5, 5, 5], [5, 5, 5, 5], "LV EF", "%")
    figure.canvas.draw()
    assert "\nr =" not in figure.axes[0].texts[0].get_text()


def test_names_of_lines_that_nearly_coincide_stay_apart() -> None:
    axes = bland_altman_figure(TRUTH + np.array([20, 20.1, 20, 20.1]), TRUTH, "LV EDV", "mL").axes[1]
    heights = sorted(text.xy[1] for text in axes.texts)  # type: ignore[attr-defined]
    assert min(np.diff(heights)) > 0.07 * np.ptp(axes.get_ylim())


def test_a_sheet_has_a_panel_for_each_quantity() -> None:
    pairs = (OURS.tolist(), TRUTH.tolist())
    figure = agreement_sheet({(name, "mL"): pairs for name in ("EDV", "ESV", "SV", "mass")})
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.axison]
    assert [title.split(":")[0] for title in titles] == ["EDV", "ESV", "SV", "mass"]
    with pytest.raises(UnusableError, match="no measured"):
        agreement_sheet({})


def test_pictures_for_a_page_need_three_cases_that_can_be_compared() -> None:
    pairs = list(zip(OURS.tolist(), TRUTH.tolist(), strict=True))
    unknown = (float("nan"), 50.0)
    assert agreement_pictures({}) == []
    assert agreement_pictures({("LV EF", "%"): [*pairs[:2], unknown]}) == []
    (picture,) = agreement_pictures({("LV EF", "%"): [*pairs, unknown], ("RV EF", "%"): pairs[:2]})
    assert picture.data.startswith(b"\x89PNG")
