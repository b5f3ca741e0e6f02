"""The pictures of an evaluation of function: agreement, detection, images by patient, examples with their masks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cmrsr.report import figures, style
from cmrsr.report.agreement_figures import LEAST_PAIRS, bland_altman_figure
from cmrsr.report.contours import CONTOURS, inside_field
from cmrsr.report.page import Picture
from cmrsr.tasks.function.evaluation.coarse import BASELINES
from cmrsr.tasks.function.evaluation.images import HEART_PSNR, HEART_SSIM, PSNR, SSIM, TCI
from cmrsr.tasks.function.evaluation.protocol import FULL, MASKS, REGRESSION, ZERO_FILLED, CaseScore, Protocol, truths
from cmrsr.tasks.function.evaluation.summary import CERTAIN, EF, LOW_EF, UNITS, by_patient, method_name, pairs_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL = 1.9  # inches of an image
MOST_EXAMPLES, MOST_SHOWN = 4, 4
ERROR_GAIN = 4  # the errors' scale ends at the image's range over this
BOXED, MOST_BOXES = (PSNR, SSIM, HEART_PSNR, HEART_SSIM, TCI), 4


def pictures(results: Sequence[CaseScore], engines: Sequence[str], protocol: Protocol) -> list[Picture]:
    """All that can be drawn: of agreement, the first engine's alone."""
    engine, last = engines[0], protocol.conditions[-1].name
    wanted = [(last, MASKS, q) for q in (EF, "EDV", "ESV")]
    wanted += [(c.name, MASKS, EF) for c in protocol.conditions if c.name != last] + [(last, REGRESSION, EF)]
    found = []
    for condition, source, quantity in wanted:
        ours, truth = pairs_of(results, engine, condition, source, quantity)
        if len(ours) >= LEAST_PAIRS:
            found.append(
                Picture(
                    title=f"{quantity}: {condition}, {source}",
                    caption=f"Engine {engine}, a dot a case. Left: on the dashed line measured and reference are "
                    "equal. Right: by how much they differ, with bias and limits of agreement.",
                    data=style.png(bland_altman_figure(ours, truth, quantity, UNITS[quantity])),
                )
            )
    if roc := roc_figure(results, engine, protocol):
        found.append(
            Picture(
                title=f"EF below {LOW_EF:g} %",
                caption=f"Engine {engine}: sensitivity and false alarms as the limit of the probability moves; the dot "
                f"is the limit that is used, {CERTAIN:g}.",
                data=style.png(roc),
            )
        )
    if boxed := _boxes(results, engines):
        found.append(Picture(title="Images by patient", caption="One dot is the mean of one patient.", data=boxed))
    for r in [r for r in results if len(r.shown) > 1][:: max(1, len(results) // MOST_EXAMPLES)][:MOST_EXAMPLES]:
        t, z = r.shown_at
        found.append(
            Picture(
                title=f"{r.name}: frame {t + 1}, slice {z + 1}",
                caption="Contours: the reference in full resolution, what was measured in the others. Below: the "
                f"absolute error × {ERROR_GAIN}, whose scale ends at the grey window over {ERROR_GAIN}.",
                data=style.png(example(r, engines)),
            )
        )
    return found


def roc_figure(results: Sequence[CaseScore], engine: str, protocol: Protocol) -> "Figure | None":
    """Sensitivity against false alarms of the engine's probability, a line a condition; None with one kind only."""
    lines: dict[str, tuple[NDArray[np.float64], NDArray[np.bool_]]] = {}
    for condition in protocol.conditions:
        pairs = np.array([
            (reading.abnormal_probability, truths(r.reference)[EF] < LOW_EF)
            for r in results
            if (reading := r.readings.get((engine, condition.name))) and EF in truths(r.reference)
        ]).reshape(-1, 2)  # fmt: skip
        pairs = pairs[np.isfinite(pairs[:, 0])]
        if 0 < pairs[:, 1].sum() < len(pairs):
            lines[condition.name] = pairs[:, 0], pairs[:, 1] > 0
    if not lines:
        return None
    figure, (axes,) = style.chart(4.4, 3.6)
    axes.plot([0, 1], [0, 1], color=style.GRID, linewidth=1.0)
    for (name, (score, abnormal)), colour in zip(lines.items(), style.colours(lines).values(), strict=True):
        limits = np.concatenate([[np.inf], np.unique(score)[::-1]])
        hits = [(score[abnormal] >= limit).mean() for limit in limits]
        alarms = [(score[~abnormal] >= limit).mean() for limit in limits]
        axes.plot(alarms, hits, color=colour, linewidth=1.6, label=name, drawstyle="steps-post")
        used = (score[~abnormal] >= CERTAIN).mean(), (score[abnormal] >= CERTAIN).mean()
        axes.plot(*used, "o", color=colour, markersize=6)
    style.label(axes, "false alarms (1 - specificity)", "sensitivity")
    axes.legend(frameon=False, fontsize=style.SMALL, labelcolor=style.INK, loc="lower right")
    return figure


def _boxes(results: Sequence[CaseScore], engines: Sequence[str]) -> bytes | None:
    """Metrics of the images by patient, of more than two patients."""
    methods = [m for m in (*BASELINES, *engines) if any(m in r.images for r in results)]
    if not methods or len({r.patient for r in results if r.images}) < LEAST_PAIRS:
        return None
    metrics = [k for k in BOXED if all(any(k in r.images.get(m, {}) for r in results) for m in methods)][:MOST_BOXES]
    boxed = {k: {method_name(m, engines): by_patient(results, m, k) for m in methods} for k in metrics}
    return style.png(figures.boxplots(boxed))


def example(result: CaseScore, engines: Sequence[str]) -> "Figure":
    """Full resolution, zero-filled and restored side by side with their masks, and their errors below."""
    order = [name for name in (FULL.name, ZERO_FILLED.name, *engines) if name in result.shown][:MOST_SHOWN]
    truth = result.shown[FULL.name][0].astype(np.float64)
    window = style.grey_window(truth)
    top = (window[1] - window[0]) / ERROR_GAIN
    height = CELL * truth.shape[0] * result.aspect / truth.shape[1]
    plate = style.Plate([CELL] * len(order), [height, height], top=figures.HEADING, right=0.85)
    shown = None
    for column, name in enumerate(order):
        image, labels = result.shown[name]
        axes, _ = plate.image(0, column, image, window)
        plate.head(column, method_name(name, engines) if name in engines else name)
        if labels is not None:
            _outline(axes, labels)
        if name != FULL.name and image.shape == truth.shape:
            _, shown = plate.image(1, column, np.abs(image - truth), (0.0, top), style.ERROR_MAP)
    if shown is not None:
        plate.scale(1, shown, "absolute error")
    return plate.figure


def _outline(axes: "Axes", labels: NDArray[np.uint8]) -> None:
    for colour, inside in CONTOURS.values():
        if (field := inside_field(labels, inside)) is not None:
            axes.contour(field, levels=[0.5], colors=[colour], linewidths=0.9)
