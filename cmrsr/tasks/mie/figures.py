"""The charts behind a synthetic enhancement: strain over the beat, recovery of the tissues, motion of the T1 images."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from cmrsr.physics.t1_fit import T1Fit, fit_t1
from cmrsr.physics.volumes import LV, MYOCARDIUM
from cmrsr.report import style
from cmrsr.report.figures import SHEET_WIDTH
from cmrsr.tasks.mie.features.registration import recovered
from cmrsr.tasks.mie.features.scar import inner_wall
from cmrsr.tasks.mie.measure import INNER_BLOOD
from cmrsr.tasks.mie.result import MieSlice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
SCAR, REST, WALL, BLOOD = "scar", "wall without scar", "LV wall", "blood"
COLOURS = {SCAR: style.OUTLINES["scar"], REST: style.PALETTE[2], WALL: style.PALETTE[2], BLOOD: style.PALETTE[0]}
DASHES = {SCAR: "-", REST: (0, (5, 1.5)), WALL: "-", BLOOD: (0, (1.5, 1.2))}  # apart without their colours too
MARKERS = {SCAR: "s", REST: "o", WALL: "o", BLOOD: "^"}
LEAST_PIXELS = 6  # of a region that has a curve of its own
MOST_SHIFT_MM = 10.0  # of the colours


def strain_curves(slices: Sequence[MieSlice]) -> dict[str, Array]:
    """Mean circumferential strain (t,) in percent of scar and of the wall without, over all slices.

    The numbers at end systole are those of ``MieMeasured``. Where no scar was found, of the whole wall; empty without.
    """
    walls = [one.labels_ed == MYOCARDIUM for one in slices]
    scars = [wall & one.scar for wall, one in zip(walls, slices, strict=True)]
    rests = [wall & ~one.scar for wall, one in zip(walls, slices, strict=True)]
    regions = {SCAR: scars, REST: rests} if sum(int(m.sum()) for m in scars) >= LEAST_PIXELS else {WALL: walls}
    return {
        name: 100
        * np.concatenate([s.kinematics.e_cc[:, m] for s, m in zip(slices, masks, strict=True)], 1).mean(1, np.float64)
        for name, masks in regions.items()
        if any(m.any() for m in masks)
    }  # fmt: skip


def strain_figure(curves: dict[str, Array], es: int) -> "Figure":
    """Strain (t,) by region over one beat from end diastole on; the beat closes. es: the frame of end systole."""
    figure, (axes,) = style.chart(SHEET_WIDTH, 2.9)
    n = len(next(iter(curves.values())))
    times = 100 * np.arange(n + 1) / n
    axes.axhline(0, color=style.MUTED, linewidth=0.8, zorder=1)
    for name, curve in curves.items():
        axes.plot(
            times, np.append(curve, curve[0]), color=COLOURS[name], linestyle=DASHES[name], linewidth=1.9,
            marker=MARKERS[name], markersize=3.6, label=f"{name}: {_signed(curve[es])} % at ES",
        )  # fmt: skip
    axes.axvline(times[es], color=style.MUTED, linewidth=0.8, linestyle=(0, (2, 2)), zorder=0)
    axes.annotate(
        "ES", (float(times[es]), 1.0), xycoords=("data", "axes fraction"), xytext=(4, -4),
        textcoords="offset points", ha="left", va="top", fontsize=style.TEXT, color=style.INK, fontweight="bold",
    )  # fmt: skip
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -10.0), max(high, 5.0) + 0.12 * (high - low))  # the little motion of noise stays little
    axes.set_xlim(-1.5, 101.5)
    style.label(axes, "time since end diastole (% of the beat)", "circumferential strain (%)")
    style.legend(axes)
    return figure


def tissues_of(one: MieSlice) -> dict[str, Mask]:
    """Blood, wall without scar and scar of a slice, away from their edges; those with enough pixels."""
    wall = (one.labels == MYOCARDIUM) | one.scar
    inner = inner_wall(wall)

    def inside(part: Mask) -> Mask:
        return inner & part if np.count_nonzero(inner & part) >= LEAST_PIXELS else part

    scarred = bool(one.scar.any())
    parts = {
        BLOOD: np.asarray(binary_erosion(one.labels == LV, iterations=INNER_BLOOD)),
        REST if scarred else WALL: inside(wall & ~one.scar),
        SCAR: inside(one.scar),
    }
    return {name: mask for name, mask in parts.items() if np.count_nonzero(mask) >= LEAST_PIXELS}


def recovery_figure(one: MieSlice) -> "Figure":
    """Mean signal of blood, wall and scar of a slice against inversion time, with the T1 fit of each.

    The images are magnitudes: a signal that has not passed zero yet points upwards.
    """
    figure, (axes,) = style.chart(SHEET_WIDTH, 3.0)
    tissues = tissues_of(one)
    times = np.asarray(one.inversion_ms, np.float64)
    if tissues:
        signals = np.stack([one.inversions[:, mask].mean(1) for mask in tissues.values()], 1).astype(np.float64)
        signals = 100 * signals / signals.max()
        fit = fit_t1(signals, times, look_locker=True)
        dense = np.linspace(0.0, 1.03 * times[-1], 240)
        lines = _fitted(fit, dense)
        for i, name in enumerate(tissues):
            t1 = f", T1 {fit.t1_ms[i]:.0f} ms" if np.isfinite(fit.t1_ms[i]) else ", no T1 fits"
            axes.plot(
                times, signals[:, i], linestyle="none", marker=MARKERS[name], markersize=4.6, color=COLOURS[name],
                zorder=3,
            )  # fmt: skip
            axes.plot(dense, lines[:, i], color=COLOURS[name], linestyle=DASHES[name], linewidth=1.4)
            axes.plot(
                [], [], color=COLOURS[name], linestyle=DASHES[name], marker=MARKERS[name], markersize=4.6,
                linewidth=1.4, label=f"{name}{t1}",
            )  # fmt: skip
        axes.legend(frameon=False, fontsize=style.SMALL, labelcolor=style.INK, loc="lower right", handlelength=2.6)
    axes.set_ylim(0, 108)
    axes.set_xlim(0, 1.03 * times[-1])
    style.label(axes, "inversion time (ms)", "signal (% of the largest)")
    return figure


def _fitted(fit: T1Fit, times: Array) -> Array:
    """(times, tissues); NaN where there is no fit."""
    flat = T1Fit(**{name: getattr(fit, name)[None] for name in ("t1_ms", "a", "b", "residual")})
    curves = recovered(flat, times)[:, 0]
    return np.where(np.isfinite(fit.t1_ms), curves, np.nan)


def motion_figure(slices: Sequence[MieSlice]) -> "Figure":
    """By how much (mm) each T1 image (columns, by inversion time) of each slice (rows) was moved back.

    A cross: no motion could be found out, and the image stays where it was.
    """
    n = max(len(one.shift_mm) for one in slices)
    far = np.full((len(slices), n), np.nan)
    for row, one in enumerate(slices):
        far[row, : len(one.shift_mm)] = np.where(one.registered, np.hypot(*one.shift_mm.T), np.nan)
    figure, (axes,) = style.chart(SHEET_WIDTH, 0.95 + 0.3 * len(slices))
    shown = axes.imshow(far, cmap="Blues", vmin=0, vmax=MOST_SHIFT_MM, aspect="auto", interpolation="nearest")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    for row, one in enumerate(slices):
        for k in range(len(one.shift_mm)):
            known = bool(one.registered[k])
            axes.text(
                k, row, f"{far[row, k]:.1f}" if known else "✕", ha="center", va="center", fontsize=style.TEXT,
                color="white" if known and far[row, k] > 0.6 * MOST_SHIFT_MM else style.INK if known else COLOURS[SCAR],
            )  # fmt: skip
    longest = max(slices, key=lambda one: len(one.inversion_ms)).inversion_ms
    axes.set_xticks(range(n), [f"{t:.0f}" for t in longest])
    axes.set_yticks(range(len(slices)), [f"slice {one.z + 1}" for one in slices])
    axes.tick_params(length=0)
    style.label(axes, "inversion time (ms)", "")
    bar = figure.colorbar(shown, ax=axes, pad=0.02, aspect=9, extend="max" if _beyond(far) else "neither")
    bar.set_label("moved by (mm)", fontsize=style.SMALL, color=style.INK)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=style.MUTED, labelsize=style.SMALL, length=2)
    bar.ax.grid(visible=False)
    return figure


def _beyond(far: Array) -> bool:
    return bool((np.nan_to_num(far) > MOST_SHIFT_MM).any())


def _signed(value: Any) -> str:
    return f"{round(float(value)) + 0.0:.0f}".replace("-", "−")


# --- the batch --------------------------------------------------------------------------------------------------------


def batch_figure(
    names: Sequence[str], scar_percent: Sequence[float], e_cc_percent: Sequence[float], doubtful: Sequence[bool]
) -> "Figure":
    """A row a case: scar (% of the wall) as a bar, circumferential strain (%) as a dot; hollow where in doubt."""
    figure, (left, right) = style.chart(SHEET_WIDTH, 0.95 + 0.24 * len(names), n_columns=2)
    places = np.arange(len(names))[::-1]
    for place, scar, strain, unsure in zip(places, scar_percent, e_cc_percent, doubtful, strict=True):
        face = "white" if unsure else COLOURS[SCAR]
        left.barh(place, scar, height=0.62, facecolor=face, edgecolor=COLOURS[SCAR], linewidth=1.2)
        right.plot(
            [strain], [place], marker="o", markersize=5.5, linestyle="none", markeredgecolor=style.PALETTE[0],
            markerfacecolor="white" if unsure else style.PALETTE[0],
        )  # fmt: skip
    left.set_yticks(places, list(names))
    right.set_yticks(places, [""] * len(names))
    for axes in (left, right):
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.tick_params(axis="y", length=0, labelcolor=style.INK)
        axes.spines["left"].set_visible(False)
    left.set_xlim(0, max(10.0, 1.05 * max((s for s in scar_percent if np.isfinite(s)), default=0.0)))
    known = [strain for strain in e_cc_percent if np.isfinite(strain)]
    right.set_xlim(min([-20.0, *known]) - 2, max([0.0, *known]) + 2)
    style.label(left, "scar (% of the LV myocardium in the slices)", "")
    style.label(right, "circumferential strain at end systole (%)", "")
    return figure
