"""How every figure and page looks: colours, type sizes, plates of images. No global state of matplotlib is touched.

Colours follow Okabe & Ito's palette, which people with colour-vision deficiency can tell apart; the reference is always
black, zero-filling (or the input) always grey, and the interpolations keep theirs, so that ours start with blue.
"""

from collections.abc import Iterable
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

INK, MUTED, GRID = "#1f2730", "#5f6b78", "#e3e7ec"
PLATE, PLATE_INK, PLATE_MUTED, ACCENT = "#15181d", "#eef1f5", "#9aa5b1", "#56b4e9"
REFERENCE, INPUT = "#111418", "#8b95a1"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#56b4e9", "#cc79a7", "#e69f00")
FIXED = {"reference": REFERENCE, "input": INPUT, "zero-filling": INPUT, "bicubic": "#cc79a7", "lanczos": "#e69f00"}
OUTLINES = {"lv": "#56b4e9", "myocardium": "#e69f00", "rv": "#009e73", "scar": "#d55e00"}
ERROR_MAP = "inferno"
TEXT, SMALL = 8.5, 7.5  # points
DPI = 150


def colours(names: Iterable[str]) -> dict[str, str]:
    """One colour per method: ``FIXED`` for the well-known ones, the palette in order for the others."""
    listed = list(names)
    ours = [name for name in listed if name.lower() not in FIXED]
    own = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(ours)}
    return {name: own.get(name) or FIXED[name.lower()] for name in listed}


def png(figure: "Figure", dpi: int = DPI) -> bytes:
    """The figure as PNG, without a timestamp, so that equal figures are equal bytes."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor=figure.get_facecolor(), metadata={"Software": None})
    return buffer.getvalue()


def chart(width: float, height: float, *, n_rows: int = 1, n_columns: int = 1) -> tuple["Figure", list["Axes"]]:
    """A white figure (inches) with a grid of axes, row by row, without chart junk."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.08)
    grid = list(figure.subplots(n_rows, n_columns, squeeze=False).flat)
    for axes in grid:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color("#b6bec8")
        axes.tick_params(colors=MUTED, labelsize=SMALL, length=3, width=0.7)
        axes.grid(color=GRID, linewidth=0.7)
        axes.set_axisbelow(True)
    return figure, grid


def label(axes: "Axes", x: str, y: str, title: str = "") -> None:
    """Axis labels with units, and a title at the left."""
    axes.set_xlabel(x, fontsize=TEXT, color=INK)
    axes.set_ylabel(y, fontsize=TEXT, color=INK)
    if title:
        axes.set_title(title, loc="left", fontsize=TEXT + 0.5, color=INK, fontweight="bold")


def legend(axes: "Axes", n_columns: int = 1) -> None:
    """A frameless legend where it hides least."""
    axes.legend(frameon=False, fontsize=SMALL, labelcolor=INK, ncols=n_columns, handlelength=1.8, loc="best")


class Plate:
    """A dark sheet with a grid of images; row heights and column widths in inches, gaps like a light box."""

    def __init__(
        self, widths: list[float], heights: list[float], *, left: float = 0.34, top: float = 0.34, right: float = 0.08
    ) -> None:
        from matplotlib.figure import Figure

        self._gap, bottom = 0.05, 0.08
        self._widths, self._heights = widths, heights
        self._left, self._top = left, top
        self._size = (
            left + sum(widths) + self._gap * (len(widths) - 1) + right,
            top + sum(heights) + self._gap * (len(heights) - 1) + bottom,
        )
        self.figure = Figure(figsize=self._size, facecolor=PLATE)

    def _box(self, row: int, column: int) -> tuple[float, float, float, float]:
        """Left, bottom, width and height of one cell, in inches."""
        x = self._left + sum(self._widths[:column]) + self._gap * column
        y = self._size[1] - self._top - sum(self._heights[: row + 1]) - self._gap * row
        return x, y, self._widths[column], self._heights[row]

    def axes(self, x: float, y: float, width: float, height: float) -> "Axes":
        """Axes at a place in inches from the lower left corner."""
        across, up = self._size
        return self.figure.add_axes((x / across, y / up, width / across, height / up))

    def image(
        self, row: int, column: int, pixels: NDArray[Any], window: tuple[float, float], colour_map: str = "gray"
    ) -> tuple["Axes", "AxesImage"]:
        """Show ``(y, x)`` pixels filling one cell, smoothed for display as image viewers do."""
        axes = self.axes(*self._box(row, column))
        shown = axes.imshow(
            pixels, cmap=colour_map, vmin=window[0], vmax=window[1], aspect="auto", interpolation="bicubic"
        )
        axes.set_axis_off()
        return axes, shown

    def head(self, column: int, text: str, sub: str = "", *, row: int = 0) -> None:
        """The heading over a cell, with a quieter second line."""
        x, y, width, height = self._box(row, column)
        across, up = self._size
        raised = 0.2 if sub else 0.08
        place = ((x + width / 2) / across, (y + height + raised) / up)
        self.figure.text(*place, text, ha="center", va="bottom", fontsize=TEXT, color=PLATE_INK, fontweight="bold")
        if sub:
            place = (place[0], (y + height + 0.06) / up)
            self.figure.text(*place, sub, ha="center", va="bottom", fontsize=SMALL, color=PLATE_MUTED)

    def side(self, row: int, text: str) -> None:
        """The name of a row, upright at the left."""
        _, y, _, height = self._box(row, 0)
        across, up = self._size
        place = (self._left / 2 / across, (y + height / 2) / up)
        self.figure.text(*place, text, ha="center", va="center", rotation=90, fontsize=TEXT, color=PLATE_INK)

    def scale(self, row: int, shown: "AxesImage", text: str) -> None:
        """A colour bar at the right of a row; the plate needs a right margin of 0.75 inch for it."""
        x, y, width, height = self._box(row, len(self._widths) - 1)
        axes = self.axes(x + width + 0.1, y + 0.06 * height, 0.09, 0.88 * height)
        bar = self.figure.colorbar(shown, cax=axes)
        bar.set_label(text, fontsize=SMALL, color=PLATE_INK)
        bar.outline.set_visible(False)
        axes.tick_params(colors=PLATE_MUTED, labelsize=SMALL, length=2)


def outline(axes: "Axes", roi: tuple[int, int, int, int]) -> None:
    """A thin frame around a region ``(x, y, width, height)`` of an image."""
    from matplotlib.patches import Rectangle

    x, y, width, height = roi
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), width, height, fill=False, edgecolor=ACCENT, linewidth=0.9))


def grey_window(*stacks: NDArray[Any], saturated: float = 0.005) -> tuple[float, float]:
    """One window for all images that are shown together; a share of the pixels (blood at its peak) may saturate."""
    values = np.concatenate([np.asarray(stack, dtype=np.float64).ravel() for stack in stacks])
    low, high = (float(q) for q in np.quantile(values, (0.01, 1 - saturated)))
    return (low, high) if high > low else (low, low + 1.0)


PAGE_CSS = """
:root{--ink:#1b222b;--soft:#5c6876;--line:#dfe4ea;--paper:#f4f6f8;--card:#fff;--ok:#0b6e4f;--ok-bg:#e2f3ec;
--failed:#a63a00;--failed-bg:#fdeadf;--skipped:#515c69;--skipped-bg:#e8ecf0;--link:#005a92}
@media (prefers-color-scheme:dark){:root{--ink:#e7ebf0;--soft:#9aa6b3;--line:#2e353e;--paper:#111419;--card:#1a1f26;
--ok:#6fd3ae;--ok-bg:#143429;--failed:#ffa06a;--failed-bg:#44220f;--skipped:#b5bfca;--skipped-bg:#2a313a;--link:#7cc4f5}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif;font-variant-numeric:tabular-nums}
header,main,footer{max-width:1120px;margin:0 auto;padding:0 24px}
header{padding-top:32px}
.brand{margin:0;font-weight:700;letter-spacing:.04em}.brand span{color:var(--soft);font-weight:400}
h1{margin:2px 0 0;font-size:30px;line-height:1.2;letter-spacing:-.01em}
h2{font-size:19px;margin:34px 0 10px}h3{font-size:15px;margin:0 0 8px}main>h3{margin:20px 0 8px}
.when{margin:6px 0 0;color:var(--soft)}
.notice{margin:14px 0 0;padding:8px 12px;border-left:3px solid #e69f00;background:var(--card);font-size:14px}
.tiles{display:flex;flex-wrap:wrap;gap:12px;margin:20px 0 0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px 18px;min-width:112px}
.tile b{display:block;font-size:23px;line-height:1.2}.tile span{color:var(--soft);font-size:13px}
.tile.ok b{color:var(--ok)}.tile.failed b{color:var(--failed)}.tile.none b{color:var(--soft);font-weight:400}
.note{color:var(--soft)}
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:8px}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{text-align:left;padding:8px 12px;border-top:1px solid var(--line);vertical-align:top}
thead th,thead td{border-top:0;color:var(--soft);font-weight:600;font-size:12.5px;vertical-align:bottom}
thead th[colspan]{color:var(--ink);padding-bottom:0}
tbody th{font-weight:600;overflow-wrap:anywhere;min-width:150px}
.number{white-space:nowrap}.sd{color:var(--soft)}.warned{color:var(--failed)}.remark{min-width:180px;overflow-wrap:anywhere}
a{color:var(--link);text-decoration:none}a:hover{text-decoration:underline}
code,pre{font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
.chip{display:inline-block;padding:1px 9px;border-radius:99px;font-size:12.5px;font-weight:600;white-space:nowrap;
vertical-align:middle}
.chip.ok{color:var(--ok);background:var(--ok-bg)}.chip.failed{color:var(--failed);background:var(--failed-bg)}
.chip.skipped{color:var(--skipped);background:var(--skipped-bg)}
.case{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:18px 22px 20px;margin:22px 0}
.case.failed{border-left:4px solid var(--failed)}.case h2{margin:0 0 10px;overflow-wrap:anywhere}
.message{margin:0 0 10px}
.warnings{margin:0 0 12px;padding:8px 12px 8px 30px;border-radius:6px;background:var(--failed-bg);font-size:14px}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(250px,1fr));gap:10px 24px;margin:0 0 6px}
.facts dt{color:var(--soft);font-size:12.5px}.facts dd{margin:0;overflow-wrap:anywhere}
figure{margin:22px 0 0;break-inside:avoid}
main>figure{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:18px 22px}
img{display:block;max-width:100%;height:auto;border-radius:6px}
figcaption{color:var(--soft);font-size:13.5px;margin-top:6px;max-width:80ch}
details{margin-top:14px;font-size:14px}summary{cursor:pointer;color:var(--soft)}details ul{margin:6px 0 0}
footer{color:var(--soft);font-size:13px;padding-top:26px;padding-bottom:40px}footer p{margin:4px 0}
pre{margin:4px 0 12px;padding:10px 12px;background:var(--card);border:1px solid var(--line);border-radius:6px;
white-space:pre-wrap;overflow-wrap:anywhere;color:var(--ink)}
"""
