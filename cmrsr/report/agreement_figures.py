"""Measured against reference values over many cases: Bland-Altman plot and line of identity."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cmrsr.errors import UnusableError
from cmrsr.metrics.agreement import LIMITS_SD, Agreement, agreement
from cmrsr.report import style
from cmrsr.report.figures import SHEET_WIDTH
from cmrsr.report.page import Picture, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
LEAST_PAIRS = 3  # two differences have limits of agreement, but they say nothing
ACROSS, NARROW = 3, 2.65  # panels of a sheet, inches of each
APART = 0.09  # of the height of a panel: between the names of its lines
DOT, MEAN, LIMIT = style.PALETTE[0], style.PALETTE[1], style.MUTED
DASHED = (0, (4, 3))


def bland_altman_figure(measured: ArrayLike, reference: ArrayLike, quantity: str, unit: str) -> "Figure":
    """Measured against reference with the line of identity, and their difference against their mean.

    Both (n,), in ``unit``; pairs that are not finite are left out. UnusableError: fewer than three pairs, or lists of
    unequal length.
    """
    ours, truth = finite_pairs(measured, reference, quantity)
    found = agreement(ours, truth)
    figure, (left, right) = style.chart(SHEET_WIDTH, 3.4, n_columns=2)
    _identity(left, ours, truth, found, unit)
    style.label(left, f"reference ({unit})", f"measured ({unit})", f"{quantity}: measured against reference")
    _differences(right, ours, truth, found)
    style.label(right, f"mean of both ({unit})", f"measured − reference ({unit})", "difference against mean")
    return figure


def agreement_sheet(compared: Mapping[tuple[str, str], Sequence[ArrayLike]]) -> "Figure":
    """A Bland-Altman plot of each (quantity, unit), three in a row; its values are all measured, all reference ones.

    UnusableError as of ``bland_altman_figure``, and where there is nothing to compare.
    """
    if not compared:
        raise UnusableError("found no measured and reference values to compare; expected one quantity at least")
    n_columns = min(ACROSS, len(compared))
    n_rows = -(-len(compared) // n_columns)
    figure, panels = style.chart(NARROW * n_columns, 2.5 * n_rows, n_rows=n_rows, n_columns=n_columns)
    for axes in panels[len(compared) :]:
        axes.set_axis_off()
    for axes, ((quantity, unit), values) in zip(panels, compared.items(), strict=False):
        measured, reference = values
        ours, truth = finite_pairs(measured, reference, quantity)
        found = agreement(ours, truth)
        _differences(axes, ours, truth, found, inside=True)
        r = "" if found.r is None else f", r = {found.r:.3f}"
        style.label(axes, f"mean of both ({unit})", f"measured − reference ({unit})", f"{quantity}: n = {found.n}{r}")
    return figure


def agreement_pictures(compared: Mapping[tuple[str, str], Sequence[tuple[float, float]]]) -> list[Picture]:
    """For the top of a page: (quantity, unit) to its (measured, reference) pairs, one a case.

    Pairs that are not finite are left out, and then quantities of fewer than three; no picture where none is left.
    """
    finite = {what: [pair for pair in pairs if np.isfinite(pair).all()] for what, pairs in compared.items()}
    enough = {what: tuple(np.transpose(pairs)) for what, pairs in finite.items() if len(pairs) >= LEAST_PAIRS}
    if not enough:
        return []
    return [
        Picture(
            title="Agreement with the reference",
            caption="Each dot is a case: by how much the measured value differs from its reference (vertical), against "
            "the mean of both. Bias is the mean difference; about 95 % of differences are expected between the dashed "
            "limits of agreement, bias ± 1.96 standard deviations.",
            data=style.png(agreement_sheet(enough)),
        )
    ]


def finite_pairs(measured: ArrayLike, reference: ArrayLike, quantity: str) -> tuple[Array, Array]:
    """The pairs that can be compared. UnusableError: fewer than three, or lists of unequal length."""
    ours, truth = np.asarray(measured, np.float64).ravel(), np.asarray(reference, np.float64).ravel()
    if ours.size != truth.size:
        raise UnusableError(f"{quantity}: found {ours.size} measured and {truth.size} reference values; expected pairs")
    both = np.isfinite(ours) & np.isfinite(truth)
    if both.sum() < LEAST_PAIRS:
        raise UnusableError(f"{quantity}: found {both.sum()} pairs of values; agreement needs at least {LEAST_PAIRS}")
    return ours[both], truth[both]


def _identity(axes: "Axes", ours: Array, truth: Array, found: Agreement, unit: str) -> None:
    low, high = min(ours.min(), truth.min()), max(ours.max(), truth.max())
    margin = 0.06 * ((high - low) or 1.0)
    ends = (low - margin, high + margin)
    axes.plot(ends, ends, color=LIMIT, linewidth=1.0, linestyle=DASHED, zorder=1)
    _dots(axes, truth, ours)
    axes.set_xlim(ends)
    axes.set_ylim(ends)
    axes.set_aspect("equal")
    axes.locator_params(nbins=6)
    said = [f"n = {found.n}", f"mean absolute error = {found.mae:.1f} {unit}"]
    if found.r is not None:
        said.insert(1, f"r = {found.r:.3f}")
    axes.text(
        0.04, 0.96, "\n".join(said), transform=axes.transAxes, ha="left", va="top", fontsize=style.SMALL,
        color=style.INK, linespacing=1.4,
    )  # fmt: skip


def _differences(axes: "Axes", ours: Array, truth: Array, found: Agreement, *, inside: bool = False) -> None:
    """Difference against mean with bias and limits of agreement, named beside the panel or inside it."""
    assert found.limits is not None  # three pairs or more
    mean, difference, (low, high) = (ours + truth) / 2, ours - truth, found.limits
    reach = 1.3 * max(abs(low), abs(high), float(np.abs(difference).max()), 1e-6)
    apart = max((high - low) / 2, 2 * APART * reach)  # of the names, which must not cover each other
    axes.axhline(0, color=style.GRID, linewidth=1.6, zorder=0)
    for name, height, place, colour, dashes in (
        (f"+{LIMITS_SD} SD", high, found.bias + apart, LIMIT, DASHED),
        ("bias", found.bias, found.bias, MEAN, "-"),
        (f"−{LIMITS_SD} SD", low, found.bias - apart, LIMIT, DASHED),
    ):
        axes.axhline(height, color=colour, linewidth=1.1, linestyle=dashes, zorder=1)
        axes.annotate(
            f"{name}  {signed(height, 1)}", (1.0, place), xycoords=("axes fraction", "data"),
            xytext=(-2, 1.5) if inside else (4, 0), textcoords="offset points", ha="right" if inside else "left",
            va="bottom" if inside else "center", fontsize=style.SMALL - inside, color=colour, annotation_clip=False,
        )  # fmt: skip
    _dots(axes, mean, difference)
    axes.set_ylim(-reach, reach)
    if inside:  # the names stand at the right
        left, right = axes.get_xlim()
        axes.set_xlim(left, right + 0.45 * (right - left))


def _dots(axes: "Axes", x: Array, y: Array) -> None:
    size = 20.0 if x.size <= 60 else 9.0
    axes.scatter(x, y, s=size, color=DOT, alpha=0.7, linewidths=0, zorder=3)
