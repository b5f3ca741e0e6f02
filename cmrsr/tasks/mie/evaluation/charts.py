"""The pictures of an evaluation of ``mie``: scar against its reference, detection, images by patient, examples."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cmrsr.heart.window import READING_MM
from cmrsr.physics.volumes import LV, MYOCARDIUM
from cmrsr.report import figures, style
from cmrsr.report.agreement_figures import LEAST_PAIRS, bland_altman_figure
from cmrsr.report.contours import crop_to_heart, inside_field
from cmrsr.report.page import Picture
from cmrsr.tasks.mie.evaluation.images import PSNR, SCAR_PSNR, SCAR_SSIM, SSIM
from cmrsr.tasks.mie.evaluation.protocol import MOVED, CaseScore, ShownSlice
from cmrsr.tasks.mie.evaluation.summary import (
    CLASS_NAMES,
    DETECTED_G,
    by_patient,
    image_methods,
    read_by,
    scar_methods,
    transmurality_agreement,
    volume_pairs,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL = 1.75  # inches of an image
LARGEST_ERROR = 0.5  # of the bright signal, where the colours of a difference end
OURS, TRUTH, WALL = "#e69f00", "#56b4e9", "#009e73"  # outlines: scar found, of the reference; of the wall
COLUMNS = ("T1 image", "synthetic", "acquired", "difference")
BOXED = (SSIM, PSNR, SCAR_SSIM, SCAR_PSNR)


def pictures(results: Sequence[CaseScore], engines: Sequence[str]) -> list[Picture]:
    """All that can be drawn; of examples, scar and detection, the first engine's."""
    found = []
    if examples := chosen_examples(results, engines[0]):
        found.append(
            Picture(
                title="Best, median and worst case",
                caption=f"By mean SSIM with the acquired enhancement, engine {engines[0]}. The slice with most scar: "
                "T1 image with the longest inversion time, synthetic and acquired enhancement (moved onto it) in one "
                "grey scale, and synthetic minus acquired. Lines: wall (green), scar of the reference (blue) and scar "
                "that was found (orange).",
                data=style.png(example_figure(examples), dpi=180),
            )
        )
    for method in scar_methods(results, engines):
        pairs = volume_pairs(results, method)
        if len(pairs) >= LEAST_PAIRS:
            found.append(
                Picture(
                    title=f"Volume of scar: {method}",
                    caption="A dot a case. Left: on the dashed line both are equal. Right: by how much they differ.",
                    data=style.png(bland_altman_figure(pairs[:, 0], pairs[:, 1], "scar", "mL")),
                )
            )
    if roc := roc_figure(results, engines):
        found.append(
            Picture(
                title="Patients with scar",
                caption="Sensitivity and false alarms as the least mass of scar moves; the dot is the one that is "
                f"used, {DETECTED_G:g} g.",
                data=style.png(roc),
            )
        )
    if table := class_figure(results, engines[0]):
        found.append(
            Picture(
                title="Transmurality by segment",
                caption=f"AHA segments of all patients, engine {engines[0]}: how many of a class of the reference "
                "(row) were put into which class (column). On the diagonal both agree.",
                data=style.png(table),
            )
        )
    if boxed := _boxes(results, engines):
        found.append(Picture(title="Images by patient", caption="One dot is the mean of one patient.", data=boxed))
    return found


# --- examples ---------------------------------------------------------------------------------------------------------


def chosen_examples(results: Sequence[CaseScore], engine: str) -> dict[str, ShownSlice]:
    """The best, the median and the worst case by SSIM, of fewer than three all; by what each is and its name."""
    score = by_patient(results, engine, MOVED, SSIM)
    ranked = sorted((r for r in results if r.name in score and r.shown), key=lambda r: -score[r.name])
    words = ("best", "median", "worst") if len(ranked) > 2 else ("best", "worst")[: len(ranked)]
    chosen = [ranked[place] for place in ((0, len(ranked) // 2, -1) if len(ranked) > 2 else range(len(ranked)))]
    return {
        f"{word}: {r.name}\n{f'{r.group}, ' if r.group else ''}SSIM {score[r.name]:.2f}": r.shown
        for word, r in zip(words, chosen, strict=True)
        if r.shown
    }


def example_figure(examples: "dict[str, ShownSlice]") -> "Figure":
    """A row an example, see ``COLUMNS``."""
    plate = style.Plate([CELL] * len(COLUMNS), [CELL] * len(examples), left=0.52, top=0.34, right=0.85)
    for column, name in enumerate(COLUMNS):
        plate.head(column, name)
    for row, (name, one) in enumerate(examples.items()):
        plate.side(row, name)
        crop = crop_to_heart(one.labels, READING_MM)
        t1, image, truth = one.t1_image[crop], one.image[crop], one.reference[crop]
        marks = [(OURS, one.scar[crop])]
        if one.scar_truth is not None:
            marks.insert(0, (TRUTH, one.scar_truth[crop]))
        axes, _ = plate.image(row, 0, t1, style.grey_window(t1))
        for inside in ((LV, MYOCARDIUM), (LV,)):
            _outline(axes, WALL, np.isin(one.labels[crop], inside))
        axes, _ = plate.image(row, 1, image, (0.0, 1.0))
        for colour, mask in marks:
            _outline(axes, colour, mask)
        axes, _ = plate.image(row, 2, truth, (0.0, 1.0))
        for colour, mask in marks:
            _outline(axes, colour, mask)
        _, shown = plate.image(row, 3, image - truth, (-LARGEST_ERROR, LARGEST_ERROR), "coolwarm")
        plate.scale(row, shown, "difference")
    return plate.figure


def _outline(axes: "Axes", colour: str, mask: NDArray[np.bool_]) -> None:
    if (field := inside_field(mask.astype(np.uint8), (1,))) is not None:
        axes.contour(field, levels=[0.5], colors=[colour], linewidths=0.9)


# --- charts -----------------------------------------------------------------------------------------------------------


def roc_figure(results: Sequence[CaseScore], engines: Sequence[str]) -> "Figure | None":
    """Sensitivity against false alarms of the mass of scar, a line a method; None with one kind of patient only."""
    lines: dict[str, tuple[NDArray[np.float64], NDArray[np.bool_]]] = {}
    for method in scar_methods(results, engines):
        known = [(one.scar_g, r.scar_g > 0) for r, one in read_by(results, method) if r.scar_g is not None]
        mass, scarred = np.array([m for m, _ in known]), np.array([s for _, s in known], bool)
        if 0 < scarred.sum() < len(scarred):
            lines[method] = mass, scarred
    if not lines:
        return None
    figure, (axes,) = style.chart(4.4, 3.6)
    axes.plot([0, 1], [0, 1], color=style.GRID, linewidth=1.0)
    for (name, (mass, scarred)), colour in zip(lines.items(), style.colours(lines).values(), strict=True):
        limits = np.concatenate([[np.inf], np.unique(mass)[::-1]])
        hits = [(mass[scarred] >= limit).mean() for limit in limits]
        alarms = [(mass[~scarred] >= limit).mean() for limit in limits]
        axes.plot(alarms, hits, color=colour, linewidth=1.6, label=name, drawstyle="steps-post")
        used = (mass[~scarred] >= DETECTED_G).mean(), (mass[scarred] >= DETECTED_G).mean()
        axes.plot(*used, "o", color=colour, markersize=6)
    style.label(axes, "false alarms (1 - specificity)", "sensitivity")
    axes.legend(frameon=False, fontsize=style.SMALL, labelcolor=style.INK, loc="lower right")
    return figure


def class_figure(results: Sequence[CaseScore], engine: str) -> "Figure | None":
    """Segments by class of transmurality of the reference and of the engine; None without any."""
    table = transmurality_agreement([one for _, one in read_by(results, engine)]).table
    if not table.sum():
        return None
    figure, (axes,) = style.chart(4.2, 3.4)
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_xticks(range(len(CLASS_NAMES)), CLASS_NAMES)
    axes.set_yticks(range(len(CLASS_NAMES)), CLASS_NAMES)
    for (i, j), count in np.ndenumerate(table):
        ink = "white" if share[i, j] > 0.6 else style.INK
        axes.text(j, i, str(count), ha="center", va="center", fontsize=style.TEXT, color=ink)
    style.label(axes, f"transmurality by {engine}", "transmurality of the reference")
    return figure


def _boxes(results: Sequence[CaseScore], engines: Sequence[str]) -> bytes | None:
    """Metrics of the images by patient, of more than two patients."""
    methods = image_methods(results, engines)
    boxed = {
        metric: {m: np.array(list(by_patient(results, m, MOVED, metric).values())) for m in methods} for metric in BOXED
    }
    boxed = {k: v for k, v in boxed.items() if v and all(len(one) >= LEAST_PAIRS for one in v.values())}
    return style.png(figures.boxplots(boxed)) if boxed else None
