"""The pictures of an evaluation of temporal super-resolution: an example, patients, time within the gap, gaps."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cmrsr.metrics.statistics import Comparison, per_patient
from cmrsr.report import figures, style
from cmrsr.report.page import Picture
from cmrsr.tasks.interp4d.evaluation.protocol import Protocol, SeriesResult
from cmrsr.tasks.interp4d.evaluation.published import STANDARDS
from cmrsr.tasks.interp4d.evaluation.score import GRADIENT, HEART_PSNR, PSNR, SSIM
from cmrsr.tasks.interp4d.evaluation.summary import Gaps, gap_means, methods_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS, CELL = 4, 1.8  # images of a row, inches of each
ERROR_GAIN = 4  # the errors' scale ends at the image's range over this
TAU_BINS = 10
MOST_EXAMPLES = 4
BOXED, MOST_BOXES = (HEART_PSNR, SSIM, GRADIENT, PSNR), 4  # after the primary metric
LINES = ("-", (0, (4, 2)), (0, (1, 1.5)))  # for further methods of the same colour


def pictures(
    results: Sequence[SeriesResult], comparisons: Sequence[Comparison], protocol: Protocol, gaps: Gaps
) -> list[Picture]:
    """All that can be drawn of these results, the charts before the examples."""
    found = []
    primary = results[0].primary
    if protocol.name in STANDARDS:
        found.append(
            Picture(
                title="Beside published figures",
                caption="Filled: measured here. Open: as published on ACDC by others, not measured here; they compare "
                "only where these are the same patients.",
                data=style.png(published_figure(comparisons, STANDARDS[protocol.name].rows, primary)),
            )
        )
    if len({r.patient for r in results}) > 2:
        found.append(
            Picture(title="By patient", caption="One dot is the mean of one patient.", data=style.png(boxes(results)))
        )
    if gap_means(gaps):
        found.append(
            Picture(
                title="Larger gaps, larger motion",
                caption="Pooled PSNR of the hidden frames, in which those that move most count most, when every n-th "
                "frame of the same series is known.",
                data=style.png(gap_figure(gaps)),
            )
        )
    if len({round(float(t), 3) for r in results for t in r.tau}) > 1:
        found.append(
            Picture(
                title="Within the gap",
                caption="Mean of the hidden frames against their time between the known ones (0 and 1).",
                data=style.png(tau_figure(results)),
            )
        )
    for r in results[:: max(1, len(results) // MOST_EXAMPLES)][:MOST_EXAMPLES]:
        found.append(
            Picture(
                title=f"{r.name}: frame {r.shown_frame + 1}, slice {r.shown_plane + 1}",
                caption="The hidden frame that differs most from the known ones, in the middle slice where it does so "
                f"most; below the absolute error × {ERROR_GAIN}: its scale ends at the grey window over {ERROR_GAIN}.",
                data=style.png(example(r)),
            )
        )
    return found


def example(result: SeriesResult) -> "Figure":
    """Truth and methods of one frame with its primary score, and their errors; the frame may have no score."""
    images = dict(result.shown)
    truth = images.pop("truth").astype(np.float64)
    window = style.grey_window(truth)
    top = (window[1] - window[0]) / ERROR_GAIN
    at = result.frames.index(result.shown_frame) if result.shown_frame in result.frames else None
    n_bands = -(-(len(images) + 1) // ACROSS)
    width = min(CELL, figures.SHEET_WIDTH / ACROSS)
    height = width * truth.shape[0] * result.aspect / truth.shape[1]
    heights = [height, height, figures.HEADING - 0.1] * n_bands  # the last: headings of the next band
    plate = style.Plate([width] * min(ACROSS, len(images) + 1), heights[:-1], top=figures.HEADING, right=0.85)
    plate.image(0, 0, truth, window)
    plate.head(0, "truth", f"frame {result.shown_frame + 1}")
    for place, (name, image) in enumerate(images.items(), start=1):
        row, column = 3 * (place // ACROSS), place % ACROSS
        plate.image(row, column, image, window)
        score = "" if at is None else f"{result.metrics[name][result.primary][at]:.2f} dB"
        plate.head(column, name, score, row=row)
        _, shown = plate.image(row + 1, column, np.abs(image - truth), (0.0, top), style.ERROR_MAP)
    plate.scale(1, shown, "absolute error")
    return plate.figure


def boxes(results: Sequence[SeriesResult]) -> "Figure":
    """Metrics by patient, one panel each, of as many as fit."""
    methods = methods_of(results)
    wanted = dict.fromkeys((results[0].primary, *BOXED))
    metrics = [k for k in wanted if all(k in r.metrics[methods[0]] for r in results)][:MOST_BOXES]
    patients = [r.patient for r in results for _ in range(r.n_frames)]
    return figures.boxplots({
        k: {
            m: np.array(list(per_patient(np.concatenate([r.metrics[m][k] for r in results]), patients).values()))
            for m in methods
        }
        for k in metrics
    })  # fmt: skip


def tau_figure(results: Sequence[SeriesResult]) -> "Figure":
    """The primary score against the time within the gap: mean over all frames of a tenth of it."""
    figure, (axes,) = style.chart(figures.SHEET_WIDTH, 3.2)
    tau = np.concatenate([r.tau for r in results])
    values = np.unique(tau.round(3))
    groups = np.searchsorted(values, tau.round(3)) if values.size <= TAU_BINS else np.floor(tau * TAU_BINS)
    lines = {}
    for method in methods_of(results):
        score = np.concatenate([r.metrics[method][r.primary] for r in results])
        lines[method] = {tau[groups == g].mean(): score[groups == g].mean() for g in np.unique(groups)}
    _draw_lines(axes, lines)
    axes.set_xlim(0, 1)
    style.label(axes, "time between the known frames", results[0].primary)
    _legend_beside(figure)
    return figure


def gap_figure(gaps: Gaps) -> "Figure":
    """PSNR against the gap, a line a method."""
    figure, (axes,) = style.chart(figures.SHEET_WIDTH, 3.2)
    means = gap_means(gaps)
    methods = list(next(iter(means.values())))
    _draw_lines(axes, {m: {gap: found[m] for gap, found in means.items()} for m in methods})
    axes.set_xticks(list(means))
    style.label(axes, "gap between known frames (frames)", "pooled PSNR (dB)")
    _legend_beside(figure)
    return figure


def published_figure(
    comparisons: Sequence[Comparison], rows: Mapping[str, Mapping[str, float]], primary: str
) -> "Figure":
    """The primary score measured here, mean over frames, and what others published."""
    own = {c.method: c.per_image.mean for c in comparisons if c.metric == primary}
    others = {f"{name} (published)": row[primary] for name, row in rows.items()}
    figure, (axes,) = style.chart(figures.SHEET_WIDTH, 0.7 + 0.26 * (len(own) + len(others)))
    names = [*own, *others]
    places = np.arange(len(names))[::-1]
    for place, name, colour in zip(places, own, style.colours(own).values(), strict=False):
        axes.plot(own[name], place, "o", color=colour, markersize=7)
    for place, name in zip(places[len(own) :], others, strict=True):
        axes.plot(others[name], place, "o", markeredgecolor=style.INK, markerfacecolor="white", markersize=7)
    for place, value in zip(places, [*own.values(), *others.values()], strict=True):
        axes.annotate(f"{value:.2f}", (value, float(place)), xytext=(7, 0), textcoords="offset points", va="center",
                      fontsize=style.SMALL, color=style.INK)  # fmt: skip
    axes.set_yticks(places, names)
    axes.tick_params(axis="y", length=0, labelsize=style.TEXT, labelcolor=style.INK)
    axes.margins(x=0.12)
    style.label(axes, primary, "")
    return figure


def _draw_lines(axes: "Axes", lines: Mapping[str, Mapping[float, float]]) -> None:
    for i, (method, colour) in enumerate(style.colours(lines).items()):
        points = sorted(lines[method].items())
        axes.plot(
            [x for x, _ in points], [y for _, y in points], color=colour, label=method, linewidth=1.6, marker="o",
            markersize=3.5, linestyle=LINES[i // len(style.PALETTE) % len(LINES)],
        )  # fmt: skip


def _legend_beside(figure: "Figure") -> None:
    figure.legend(
        loc="outside right upper", frameon=False, fontsize=style.SMALL, labelcolor=style.INK, handlelength=3.0
    )  # fmt: skip
