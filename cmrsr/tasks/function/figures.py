"""The charts of a heart's function over the beat: volumes against time, and which time steps the model links."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cmrsr.report import style
from cmrsr.report.figures import SHEET_WIDTH
from cmrsr.report.movies import Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
LEFT, RIGHT = style.PALETTE[0], style.PALETTE[2]
STANDS_OUT = 1.5  # times an even share: a link that is drawn on the circle
LINKS_PER_STEP = 2
FEW_STEPS = 6  # so few have their numbers written into the map
CURVE = 0.75  # how far a link bends to the middle of the circle: 1 is a straight chord, 0 leads through it
LEAST_ROUND = 5  # steps of a circle: with fewer, all are neighbours or opposite
NOON = np.pi / 2


def volume_curves(
    timeline: Timeline, lv_ml: Array, rv_ml: Array | None, regressed_ml: Array, ed: int, es: int
) -> "Figure":
    """LV and RV volumes (t,) over the beat with ED and ES, and the LV's by direct regression as a thin line.

    rv_ml: None where no RV was found. Values that are not finite are left out.
    """
    figure, (axes,) = style.chart(SHEET_WIDTH, 3.1)
    times = shown_times(timeline)
    axes.plot(times, lv_ml, color=LEFT, linewidth=2.0, marker="o", markersize=3.4, label="left ventricle", zorder=3)
    axes.plot(
        times, regressed_ml, color=LEFT, linewidth=0.9, linestyle=(0, (4, 2)), alpha=0.9,
        label="left ventricle, direct estimate",
    )  # fmt: skip
    if rv_ml is not None:
        axes.plot(times, rv_ml, color=RIGHT, linewidth=1.5, marker="s", markersize=2.6, label="right ventricle")
    _tight(axes, timeline)
    drawn = [v for v in (lv_ml, rv_ml, regressed_ml) if v is not None]
    top = max([float(np.nanmax(v)) for v in drawn if np.isfinite(v).any()], default=1.0) or 1.0
    axes.set_ylim(0, 1.16 * top)
    for name, t in (("ED", ed), ("ES", es)) if ed != es else (("ED = ES", ed),):
        _phase(axes, f"{name}  {lv_ml[t]:.0f} mL" if np.isfinite(lv_ml[t]) else name, float(times[t]), float(lv_ml[t]))
    style.label(axes, time_label(timeline), "volume (mL)")
    axes.legend(
        frameon=False, fontsize=style.SMALL, labelcolor=style.INK, ncols=3, handlelength=2.2, loc="lower right",
        bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2,
    )  # fmt: skip
    return figure


def shown_times(timeline: Timeline) -> Array:
    """The times of the frames on a chart: milliseconds, or frames counted from 1."""
    return timeline.frames if timeline.unit == "ms" else timeline.frames + 1


def time_label(timeline: Timeline) -> str:
    """Label of a time axis."""
    return "time (ms)" if timeline.unit == "ms" else "frame"


def _tight(axes: "Axes", timeline: Timeline) -> None:
    times = shown_times(timeline)
    margin = 0.03 * (float(np.ptp(times)) or 1.0)
    axes.set_xlim(times[0] - margin, times[-1] + margin)
    if timeline.unit == "frames":
        axes.locator_params(axis="x", integer=True)


def _phase(axes: "Axes", words: str, time: float, volume: float) -> None:
    """A thin line through a phase, its words above, and a ring around its point."""
    axes.axvline(time, color=style.MUTED, linewidth=0.8, linestyle=(0, (2, 2)), zorder=0)
    low, high = axes.get_xlim()
    at_right = time > low + 0.85 * (high - low)
    axes.annotate(
        words, (time, 1.0), xycoords=("data", "axes fraction"), xytext=(-4 if at_right else 4, -4),
        textcoords="offset points", ha="right" if at_right else "left", va="top", fontsize=style.TEXT,
        color=style.INK, fontweight="bold",
    )  # fmt: skip
    axes.plot([time], [volume], marker="o", markersize=8, markerfacecolor="none", markeredgecolor=style.INK)


# --- the causal graph -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Links:
    """How a causal graph (t, t) spreads its weight, as shares 0..1 of what a step rests on, means over the steps."""

    own: float  # the step itself
    neighbours: float  # the steps just before and just after it, over the seam of the beat too
    even: float  # one step, if all were alike
    strongest: float  # the largest weight of any step on another


def describe_links(alpha: Array) -> Links:
    """The numbers of a causal graph (t, t) of two steps or more, whose rows sum to one."""
    n = len(alpha)
    steps = np.arange(n)
    beside = {(i, (i + d) % n) for i in steps.tolist() for d in (-1, 1) if (i + d) % n != i}
    others = alpha[~np.eye(n, dtype=bool)]
    return Links(
        own=float(np.diag(alpha).mean()), neighbours=float(sum(alpha[i, j] for i, j in beside) / n), even=1 / n,
        strongest=float(others.max()),
    )  # fmt: skip


def strong_links(alpha: Array) -> list[tuple[int, int, float]]:
    """(step, step it rests on, weight) of links beyond the neighbours well above an even share, the weakest first."""
    n = len(alpha)
    far = [(i, j, float(alpha[i, j])) for i in range(n) for j in range(n) if min((i - j) % n, (j - i) % n) > 1]
    return sorted((o for o in far if o[2] > STANDS_OUT / n), key=lambda o: o[2])[-LINKS_PER_STEP * n :]


def causal_figure(alpha: Array, timeline: Timeline, phases: Mapping[str, int]) -> "Figure":
    """The graph (t, t) as a map in percent of each row, and its strongest links beyond neighbours on a circle.

    phases: name to time step, marked in both. Fewer than five steps make no circle.
    """
    if len(alpha) < LEAST_ROUND:
        figure, (only,) = style.chart(SHEET_WIDTH / 2, 2.7)
        _map(figure, only, alpha, timeline, phases)
        return figure
    figure, (left, right) = style.chart(SHEET_WIDTH, 3.7, n_columns=2)
    _map(figure, left, alpha, timeline, phases)
    _circle(right, alpha, phases)
    return figure


def _map(figure: "Figure", axes: "Axes", alpha: Array, timeline: Timeline, phases: Mapping[str, int]) -> None:
    n = len(alpha)
    percent = 100 * alpha
    shown = axes.imshow(percent, cmap="Blues", vmin=0, vmax=float(percent.max()) or 1.0, interpolation="nearest")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    ticks = np.unique(np.linspace(0, n - 1, min(n, 6)).round().astype(int))
    names = [f"{shown_times(timeline)[t]:.0f}" for t in ticks]
    axes.set_xticks(ticks, names)
    axes.set_yticks(ticks, names)
    unit = "ms" if timeline.unit == "ms" else "frame"
    style.label(axes, f"… rests on the image at ({unit})", f"the step at ({unit}) …", "")
    for name, t in phases.items():
        axes.annotate(
            name, (t, -0.5), xytext=(0, 3), textcoords="offset points", ha="center", va="bottom",
            fontsize=style.SMALL, color=style.INK, annotation_clip=False,
        )  # fmt: skip
    if n <= FEW_STEPS:
        for (i, j), value in np.ndenumerate(percent):
            ink = "white" if value > 0.6 * percent.max() else style.INK
            axes.text(j, i, f"{value:.0f} %", ha="center", va="center", fontsize=style.TEXT, color=ink)
    bar = figure.colorbar(shown, ax=axes, shrink=0.8, aspect=24, pad=0.02)
    bar.set_label("share of the step (%)", fontsize=style.SMALL, color=style.INK)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=style.MUTED, labelsize=style.SMALL, length=2)
    bar.ax.grid(visible=False)


def _circle(axes: "Axes", alpha: Array, phases: Mapping[str, int]) -> None:
    from matplotlib.patches import FancyArrowPatch, PathPatch
    from matplotlib.path import Path

    n = len(alpha)
    angles = NOON - 2 * np.pi * np.arange(n) / n  # clockwise, the first step at the top
    places = np.stack([np.cos(angles), np.sin(angles)], 1)
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.set_xlim(-1.4, 1.4)
    axes.set_ylim(-1.4, 1.4)
    links = strong_links(alpha)
    most = max([weight for *_, weight in links], default=1.0)
    for step, source, weight in links:
        share = weight / most
        middle = CURVE * (places[step] + places[source]) / 2
        ends = 0.95 * places[source], middle, 0.95 * places[step]
        path = Path(np.array(ends), [Path.MOVETO, Path.CURVE3, Path.CURVE3])
        axes.add_patch(
            PathPatch(path, facecolor="none", edgecolor=LEFT, linewidth=0.6 + 2.2 * share, alpha=0.2 + 0.6 * share)
        )
    axes.scatter(places[:, 0], places[:, 1], s=26 if n <= 30 else 12, color=style.INK, linewidths=0, zorder=3)
    for name, t in phases.items():
        axes.text(
            1.17 * places[t, 0], 1.17 * places[t, 1], name, ha="center", va="center", fontsize=style.TEXT,
            color=style.INK, fontweight="bold",
        )  # fmt: skip
    turn = np.deg2rad([72, 40])
    axes.add_patch(
        FancyArrowPatch(
            (1.3 * np.cos(turn[0]), 1.3 * np.sin(turn[0])), (1.3 * np.cos(turn[1]), 1.3 * np.sin(turn[1])),
            connectionstyle="arc3,rad=-0.15", arrowstyle="-|>", mutation_scale=8, color=style.MUTED, linewidth=0.8,
        )
    )  # fmt: skip
    axes.text(0.93, 1.25, "time", fontsize=style.SMALL, color=style.MUTED, ha="left", va="center")
    if not links:
        axes.text(
            0,
            0,
            "no link beyond the\nneighbours stands out",
            ha="center",
            va="center",
            fontsize=style.TEXT,
            color=style.MUTED,
        )
