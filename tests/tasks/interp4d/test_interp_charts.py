"""The pictures of an evaluation: which there are, and that they show what was measured."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cmrsr.tasks.interp4d.evaluation.charts import (
    ERROR_GAIN,
    boxes,
    example,
    gap_figure,
    pictures,
    published_figure,
    tau_figure,
)
from cmrsr.tasks.interp4d.evaluation.protocol import Protocol
from cmrsr.tasks.interp4d.evaluation.published import PADDED_PSNR, STANDARDS
from cmrsr.tasks.interp4d.evaluation.score import PSNR
from cmrsr.tasks.interp4d.evaluation.summary import compare, gap_means
from tests.tasks.interp4d.interp_results import GAINS, OURS, result

SEVEN = [result(i) for i in range(1, 8)]


def test_every_chart_that_has_something_to_show() -> None:
    gaps = {2: [result(1, keep=2)], 4: SEVEN}
    found = pictures(SEVEN, compare(SEVEN), Protocol(), gaps)
    titles = [picture.title for picture in found]
    assert titles[:3] == ["By patient", "Larger gaps, larger motion", "Within the gap"]
    assert titles[3:] == [f"p{i}/sa: frame 3, slice 2" for i in (1, 2, 3, 4)]
    assert all(picture.data.startswith(b"\x89PNG") for picture in found)
    alone = [result(1, keep=2)]
    assert [p.title for p in pictures(alone, compare(alone), Protocol(keep=2), {})] == ["p1/sa: frame 4, slice 2"]


def test_published_figures_are_drawn_open_beside_ours() -> None:
    results = [result(i, first=PADDED_PSNR) for i in (1, 2)]
    comparisons = compare(results)
    assert pictures(results, comparisons, Protocol(name="uvi"), {})[0].title == "Beside published figures"
    (axes,) = published_figure(comparisons, STANDARDS["uvi"].rows, PADDED_PSNR).axes
    shown = {label.get_text(): line for label, line in zip(axes.get_yticklabels(), axes.lines, strict=True)}
    assert shown["UVI-Net (published)"].get_xdata()[0] == 33.55
    assert shown["UVI-Net (published)"].get_markerfacecolor() == "white"
    mean = np.mean([r.metrics[OURS][PADDED_PSNR] for r in results])
    assert_allclose(shown[OURS].get_xdata()[0], mean)


def test_errors_are_shown_four_times_as_bright() -> None:
    one = SEVEN[0]
    figure = example(one)
    maps = [axes.images[0] for axes in figure.axes if axes.images and axes.images[0].get_cmap().name == "inferno"]
    greys = [axes.images[0] for axes in figure.axes if axes.images and axes.images[0].get_cmap().name == "gray"]
    assert (len(maps), len(greys)) == (len(GAINS), len(GAINS) + 1)
    low, high = greys[0].get_clim()
    assert_allclose(maps[-1].get_clim(), (0, (high - low) / ERROR_GAIN))
    assert_allclose(maps[-1].get_array(), np.abs(one.shown[OURS] - one.shown["truth"]))
    texts = [text.get_text() for text in figure.texts]
    assert f"{one.metrics[OURS][PSNR][1]:.2f} dB" in texts


def test_an_example_without_a_score_is_still_shown() -> None:
    one = result(1)
    one.shown_frame = 0
    assert not any("dB" in text.get_text() for text in example(one).texts)


def test_lines_are_means() -> None:
    (axes,) = tau_figure(SEVEN).axes
    line = next(line for line in axes.lines if line.get_label() == OURS)
    assert_allclose(line.get_xdata(), [0.25, 0.5, 0.75])
    at_half = [r.metrics[OURS][PSNR][r.tau == 0.5] for r in SEVEN]
    assert_allclose(line.get_ydata()[1], np.mean(at_half))
    gaps = {2: [result(1, keep=2)], 4: SEVEN, 8: []}
    (axes,) = gap_figure(gaps).axes
    line = next(line for line in axes.lines if line.get_label() == OURS)
    assert_allclose(line.get_xdata(), [2, 4])
    assert_allclose(line.get_ydata(), [gap_means(gaps)[gap][OURS] for gap in (2, 4)])


@pytest.mark.parametrize(("first", "panels"), [(PSNR, 3), (PADDED_PSNR, 3)])
def test_a_panel_for_every_metric_that_all_series_have(first: str, panels: int) -> None:
    results = [result(i, first=first) for i in (1, 2, 3)]
    figure = boxes(results)
    assert figure.axes[0].get_xlabel() == first
    assert len(figure.axes) == panels
    assert len(boxes([result(1, first=first, through_plane=False), *results[1:]]).axes) == panels - 1
