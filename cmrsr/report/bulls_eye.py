"""The bull's-eye: a value for each of the 16 AHA segments of the left ventricle, seen from the apex."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cmrsr.report import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
RINGS = ((0.75, 1.0, 6), (0.5, 0.75, 6), (0.25, 0.5, 4))  # inner and outer radius, segments: base, middle, apex
TOP = 90.0  # degrees: the first segment of each ring is anterior, and they go round against the clock
COLOURS = "viridis"  # without grey, which stands for unknown
UNKNOWN = "#dde1e6"
DARK = 0.5  # brightness of a colour, 0..1, below which numbers on it are white
SIDES = (("anterior", 0.0, 1.0, 0.0), ("septal", -1.0, 0.0, 90.0), ("inferior", 0.0, -1.0, 0.0),
         ("lateral", 1.0, 0.0, -90.0))  # fmt: skip


def segment_places() -> Iterator[tuple[float, float, float, float]]:
    """Inner and outer radius, first and last angle (degrees) of segments 1..16. Source: Cerqueira et al. 2002."""
    for inner, outer, n in RINGS:
        for i in range(n):
            middle = TOP + 360 / n * i
            yield inner, outer, middle - 180 / n, middle + 180 / n


def bulls_eye(
    values: Array,
    *,
    name: str,
    unit: str,
    limits: tuple[float, float],
    below: Array | None = None,
    below_unit: str = "",
) -> "Figure":
    """One bull's-eye alone, see ``draw_bulls_eye``."""
    figure, (axes,) = style.chart(4.9, 3.9)
    draw_bulls_eye(axes, values, name=f"{name} ({unit})", limits=limits, below=below, below_unit=below_unit)
    return figure


def draw_bulls_eye(
    axes: "Axes",
    values: Array,
    *,
    name: str,
    limits: tuple[float, float],
    colour_map: str = COLOURS,
    below: Array | None = None,
    below_unit: str = "",
    digits: float = style.TEXT + 0.5,
    edge: str = "white",
) -> None:
    """Values (16,) as colours and numbers, ``below`` (16,) as small numbers under them; NaN is grey.

    name: of the values with their unit, for the scale. limits: of the colours; values outside have the colour of the
    limit. digits: their size in points. edge: colour between segments.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize, to_rgba
    from matplotlib.patches import Circle, Wedge

    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.set_xlim(-1.14, 1.14)
    axes.set_ylim(-1.14, 1.14)
    colours, norm = colormaps[colour_map], Normalize(*limits, clip=True)
    for s, (inner, outer, first, last) in enumerate(segment_places()):
        known = bool(np.isfinite(values[s]))
        face = colours(norm(values[s])) if known else to_rgba(UNKNOWN)
        axes.add_patch(
            Wedge((0, 0), outer, first, last, width=outer - inner, facecolor=face, edgecolor=edge, linewidth=1.5)
        )
        middle, radius = np.deg2rad((first + last) / 2), (inner + outer) / 2
        x, y = radius * np.cos(middle), radius * np.sin(middle)
        ink = _ink(face)
        small = below is not None and bool(np.isfinite(below[s]))
        text = f"{round(float(values[s])) + 0.0:.0f}".replace("-", "−") if known else "–"  # never a -0
        axes.text(
            x, y + (0.035 if small else 0), text, ha="center", va="center", fontsize=digits, color=ink,
            fontweight="bold",
        )  # fmt: skip
        if small and below is not None:
            words = f"{below[s]:.0f} {below_unit}"
            axes.text(x, y - 0.062, words, ha="center", va="center", fontsize=style.SMALL - 1.5, color=ink)
    axes.add_patch(Circle((0, 0), RINGS[-1][0], facecolor="#f3f5f7", edgecolor="white", linewidth=1.6))
    axes.text(0, 0, "apex\nnot\nmeasured", ha="center", va="center", fontsize=style.SMALL - 1.5, color=style.MUTED)
    for side, x, y, turn in SIDES:
        axes.text(
            1.07 * x, 1.07 * y, side, ha="center", va="center", rotation=turn, fontsize=style.SMALL, color=style.MUTED
        )
    figure = axes.get_figure(root=True)
    assert figure is not None
    bar = figure.colorbar(
        ScalarMappable(norm, colours), ax=axes, shrink=0.62, aspect=22, pad=0.03,
        extend=_beyond(values, limits),
    )  # fmt: skip
    bar.set_label(name, fontsize=style.TEXT, color=style.INK)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=style.MUTED, labelsize=style.SMALL, length=2)
    bar.ax.grid(visible=False)


def _ink(face: tuple[float, ...]) -> str:
    """White on dark colours."""
    red, green, blue = face[:3]
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < DARK else style.INK


def _beyond(values: Array, limits: tuple[float, float]) -> str:
    """At which end of the scale values lie beyond it, as matplotlib names it."""
    known = values[np.isfinite(values)]
    below, above = bool((known < limits[0]).any()), bool((known > limits[1]).any())
    return ("both" if above else "min") if below else ("max" if above else "neither")
