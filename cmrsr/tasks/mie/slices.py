"""The pictures of synthetic enhancement, slice by slice: the result, what led to it, and how sure it is.

Every synthetic image carries the words ``WORDS`` among its pixels, so that no copy of it loses them.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.heart.window import READING_MM
from cmrsr.physics.volumes import LV, MYOCARDIUM
from cmrsr.report import style
from cmrsr.report.contours import CONTOURS, Crop, crop_to_heart, inside_field, name_contours
from cmrsr.report.figures import SHEET_WIDTH
from cmrsr.tasks.mie.result import MieSlice
from cmrsr.tasks.mie.scales import STRAIN_LIMITS, STRAIN_MAP, T1_MAP, t1_limits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

WORDS = ("SYNTHETIC,", "NOT ACQUIRED")
SCAR_COLOUR = style.OUTLINES["scar"]
WALLS = {name: CONTOURS[name] for name in ("LV inner wall", "LV outer wall")}
MOST_SLICES, ACROSS = 12, 4  # of a sheet, and beside each other in one band of it
ABOVE_HEART = 1.25  # white is this much brighter than the brightest of the heart: fat beside it may saturate
BRIGHTEST = 0.995  # quantile
STD_TOP = 15.0  # percent of the bright signal, of the colours, where no spread is larger
MOST_INPUTS = 8  # images of a kind on the sheet of sources
BAR_ROOM, LEGEND, HEADS = 0.38, 0.24, 0.26  # inches
EVEN_DEPTH = 1 / 3  # of the ventricle, of each of apex, middle and base

Place = tuple[str, str]


def base_to_apex(slices: Sequence[MieSlice]) -> list[MieSlice]:
    """From the base on where it is known where slices lie, else as they are; of many, twelve evenly."""
    known = all(one.level is not None for one in slices)
    ordered = sorted(slices, key=lambda one: -(one.level or 0.0)) if known else list(slices)
    places = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), MOST_SLICES)).round().astype(int))
    return [ordered[i] for i in places]


def place_of(one: MieSlice) -> Place:
    """``slice 2`` and where it lies, which may be empty."""
    return f"slice {one.z + 1}", "" if one.level is None else part_of(one.level)


def part_of(level: float) -> str:
    """The part of the ventricle at a level, 0 at the apex, 1 at the base."""
    return "apical" if level < EVEN_DEPTH else "mid" if level < 2 * EVEN_DEPTH else "basal"


def most_scarred(slices: Sequence[MieSlice]) -> MieSlice:
    """The slice with the most scar; without any, the middle one."""
    found = max(slices, key=lambda one: int(one.scar.sum()))
    return found if found.scar.any() else slices[len(slices) // 2]


# --- the result -------------------------------------------------------------------------------------------------------


def enhancement_sheet(slices: Sequence[MieSlice]) -> "Figure":
    """Synthetic images large, as they are and with the outlines of wall and scar below; a column a slice."""
    crop = _crop(slices)
    n_bands = -(-len(slices) // ACROSS)
    across = -(-len(slices) // n_bands)
    size = min(2.5, SHEET_WIDTH / across)
    heights = ([size, size, HEADS] * n_bands)[:-1]
    window = _window(slices, [one.image for one in slices], crop)
    plate = style.Plate([size] * across, heights, top=LEGEND + HEADS)
    for place, one in enumerate(slices):
        row, column = 3 * (place // across), place % across
        plate.head(column, " · ".join(filter(None, place_of(one))), row=row)
        for below, outlined in ((0, False), (1, True)):
            axes, _ = plate.image(row + below, column, one.image[crop], window)
            if outlined:
                outline(axes, one.labels[crop], width=0.8)
                outline_scar(axes, one.scar[crop], width=1.6)
            mark_synthetic(axes, size)
    for band in range(n_bands):
        plate.side(3 * band, "synthetic image")
        plate.side(3 * band + 1, "with outlines")
    name_contours(plate, {**{name: colour for name, (colour, _) in WALLS.items()}, "scar": SCAR_COLOUR})
    return plate.figure


# --- how it came about ------------------------------------------------------------------------------------------------


def slice_sheet(slices: Sequence[MieSlice], t1_wall_ms: float) -> "Figure":
    """A row a slice: last inversion image, T1, clusters, strain, synthetic image, scar probability, uncertainty.

    Every column has one scale for all slices. t1_wall_ms: chooses that of T1. Without several samples there is no
    uncertainty.
    """
    crop = _crop(slices)
    columns = _columns(slices, crop, t1_wall_ms)
    size = min(1.6, SHEET_WIDTH / len(columns))
    plate = style.Plate([size] * len(columns), [size] * len(slices) + [BAR_ROOM], top=LEGEND + 0.44)
    for column, (head, (sub, draw, bar)) in enumerate(columns.items()):
        plate.head(column, head, sub)
        for row, one in enumerate(slices):
            axes, shown = draw(plate, row, column, one)
        if bar:
            _bar_below(plate, axes, shown, bar)
    for row, one in enumerate(slices):
        plate.side(row, "\n".join(filter(None, place_of(one))))
    name_contours(plate, {**{name: colour for name, (colour, _) in WALLS.items()}, "scar": SCAR_COLOUR})
    return plate.figure


Draw = Callable[[style.Plate, int, int, MieSlice], tuple["Axes", "AxesImage"]]


def _columns(slices: Sequence[MieSlice], crop: Crop, t1_wall_ms: float) -> dict[str, tuple[str, Draw, str]]:
    """By heading: second line of it, how to draw a slice, and what its colour bar says; grey images have none."""
    recovered = _window(slices, [one.inversions[-1] for one in slices], crop)
    moving = _window(slices, [one.cine[0] for one in slices], crop)
    enhanced = _window(slices, [one.image for one in slices], crop)
    n_clusters = 1 + max(int(one.clusters.max()) for one in slices)

    def t1_image(plate: style.Plate, row: int, column: int, one: MieSlice) -> tuple["Axes", "AxesImage"]:
        axes, shown = plate.image(row, column, one.inversions[-1][crop], recovered)
        outline(axes, one.labels[crop], width=0.8)
        return axes, shown

    def t1_map(plate: style.Plate, row: int, column: int, one: MieSlice) -> tuple["Axes", "AxesImage"]:
        values = np.ma.masked_invalid(one.t1_ms[crop])
        axes, shown = plate.image(row, column, values, t1_limits(t1_wall_ms), T1_MAP)
        shown.set_interpolation("nearest")  # of T1, nothing between the pixels
        return axes, shown

    def clusters(plate: style.Plate, row: int, column: int, one: MieSlice) -> tuple["Axes", "AxesImage"]:
        axes, shown = plate.image(row, column, one.clusters[crop] + 1, (0.5, n_clusters + 0.5))
        shown.set_interpolation("nearest")
        shown.set_cmap(_steps(n_clusters))
        return axes, shown

    def strain(plate: style.Plate, row: int, column: int, one: MieSlice) -> tuple["Axes", "AxesImage"]:
        axes, _ = plate.image(row, column, one.cine[0][crop], moving)
        percent = np.ma.masked_where(one.labels_ed != MYOCARDIUM, 100 * one.kinematics.e_cc[one.es])[crop]
        low, high = STRAIN_LIMITS
        shown = axes.imshow(percent, cmap=STRAIN_MAP, vmin=low, vmax=high, aspect="auto", interpolation="nearest")
        return axes, shown

    def synthetic(plate: style.Plate, row: int, column: int, one: MieSlice) -> tuple["Axes", "AxesImage"]:
        axes, shown = plate.image(row, column, one.image[crop], enhanced)
        outline_scar(axes, one.scar[crop], width=1.1)
        mark_synthetic(axes, axes.get_position().width * plate.figure.get_figwidth())
        return axes, shown

    def probability(plate: style.Plate, row: int, column: int, one: MieSlice) -> tuple["Axes", "AxesImage"]:
        axes, shown = plate.image(row, column, 100 * one.scar_probability[crop], (0, 100), style.ERROR_MAP)
        outline(axes, one.labels[crop], width=0.6)
        return axes, shown

    out: dict[str, tuple[str, Draw, str]] = {
        "T1 image": ("longest TI", t1_image, ""),
        "T1": ("native", t1_map, "ms"),
        "tissues": ("by recovery", clusters, "short to long T1"),
        "strain": ("circumferential", strain, "%"),
        "enhancement": ("SYNTHETIC", synthetic, ""),
        "scar": ("probability", probability, "%"),
    }
    spread = [one.image_std[crop] for one in slices if one.image_std is not None]
    if spread:
        top = max(STD_TOP, 100 * float(np.quantile(np.stack(spread), 0.995)))

        def uncertainty(plate: style.Plate, row: int, column: int, one: MieSlice) -> tuple["Axes", "AxesImage"]:
            assert one.image_std is not None
            axes, shown = plate.image(row, column, 100 * one.image_std[crop], (0, top), style.ERROR_MAP)
            outline(axes, one.labels[crop], width=0.6)
            return axes, shown

        out["uncertainty"] = ("of the image", uncertainty, "% of bright signal")
    return out


def _steps(n: int) -> Any:
    """Colours of n ordered tissues."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps["cividis"](np.linspace(0.05, 1, n)))


def _bar_below(plate: style.Plate, axes: "Axes", shown: "AxesImage", text: str) -> None:
    """A lying colour bar under a column, whose lowest image is ``axes``."""
    across, up = plate.figure.get_size_inches()
    box = axes.get_position()
    x, y, width = box.x0 * across, box.y0 * up, box.width * across
    place = plate.axes(x + 0.09 * width, y - 0.15, 0.82 * width, 0.07)
    bar = plate.figure.colorbar(shown, cax=place, orientation="horizontal")
    bar.set_label(text, fontsize=style.SMALL - 1, color=style.PLATE_INK, labelpad=1)
    bar.outline.set_visible(False)
    place.tick_params(colors=style.PLATE_MUTED, labelsize=style.SMALL - 1.5, length=2, pad=1)
    low, high = shown.get_clim()
    ticks = [1, round(high - 0.5)] if text.startswith("short") else [low, (low + high) / 2, high]
    bar.set_ticks(ticks, labels=[f"{round(t)}".replace("-", "−") for t in ticks])


# --- what it was computed from ----------------------------------------------------------------------------------------


def source_sheet(one: MieSlice) -> "Figure":
    """All that the synthetic image of a slice was computed from: native T1 images, the cine, and an arrow between.

    Of more than eight images of a kind, eight evenly.
    """
    crop = _crop([one])
    recovery = _evenly(len(one.inversions))
    beat = _evenly(len(one.cine))
    across = max(len(recovery), len(beat))
    size = min(0.9, (SHEET_WIDTH - HEADS) / (across + 2))
    result = 2 * size + HEADS + 0.1  # as high as both rows
    plate = style.Plate([size] * across, [size, HEADS, size], left=0.46, top=0.34, right=result + 0.42)
    window = _window([one] * len(one.inversions), list(one.inversions), crop)
    for column, k in enumerate(recovery):
        axes, _ = plate.image(0, column, one.inversions[k][crop], window)
        plate.head(column, f"{'TI ' * (column == 0)}{one.inversion_ms[k]:.0f} ms")
    first = axes
    window = _window([one] * len(one.cine), list(one.cine), crop)
    for column, t in enumerate(beat):
        axes, _ = plate.image(2, column, one.cine[t][crop], window)
        plate.head(column, f"{100 * t / len(one.cine):.0f} %", row=2)
    plate.side(0, "native T1")
    plate.side(2, "cine")
    wide, high = plate.figure.get_size_inches()
    lowest, highest = axes.get_position().y0 * high, first.get_position().y1 * high
    edge = wide - 0.08 - result
    middle = (lowest + highest) / 2
    image = plate.axes(edge, middle - result / 2, result, result)
    low, top = _window([one], [one.image], crop)
    image.imshow(one.image[crop], cmap="gray", vmin=low, vmax=top, aspect="auto", interpolation="bicubic")
    image.set_axis_off()
    mark_synthetic(image, result)
    texts = (
        (edge - 0.2, middle, "→", 15.0, style.PLATE_INK, "center"),
        (edge + result / 2, middle + result / 2 + 0.06, "computed", style.TEXT, style.PLATE_INK, "bottom"),
    )
    for x, y, text, points, colour, up in texts:
        plate.figure.text(
            x / wide, y / high, text, ha="center", va=up, fontsize=points, color=colour,
            fontweight="normal" if text == "→" else "bold",
        )  # fmt: skip
    return plate.figure


def _evenly(n: int) -> list[int]:
    return [int(k) for k in np.unique(np.linspace(0, n - 1, min(n, MOST_INPUTS)).round())]


# --- pieces -----------------------------------------------------------------------------------------------------------


def outline(axes: "Axes", labels: NDArray[np.uint8], *, width: float) -> None:
    """The inner and outer wall of the LV."""
    for colour, inside in WALLS.values():
        _contour(axes, labels, inside, colour, width)


def outline_scar(axes: "Axes", scar: NDArray[np.bool_], *, width: float) -> None:
    """Draw the border of a scar mask (y, x)."""
    _contour(axes, scar.astype(np.uint8), (1,), SCAR_COLOUR, width)


def _contour(axes: "Axes", labels: NDArray[np.uint8], inside: tuple[int, ...], colour: str, width: float) -> None:
    field = inside_field(labels, inside)
    if field is not None:
        axes.contour(field, levels=[0.5], colors=[colour], linewidths=width)


def mark_synthetic(axes: "Axes", width: float) -> None:
    """Words over the image that say what it is; width: of the image, inches."""
    from matplotlib.patheffects import withStroke

    one_line = width > 1.6
    axes.text(
        0.5, 0.02, (" " if one_line else "\n").join(WORDS), transform=axes.transAxes, ha="center", va="bottom",
        fontsize=style.SMALL if one_line else style.SMALL - 2, color="#ffffff", fontweight="bold", linespacing=1.0,
        path_effects=[withStroke(linewidth=1.6, foreground="#000000")],
    )  # fmt: skip


def _window(slices: Sequence[MieSlice], images: Sequence[NDArray[Any]], crop: Crop) -> tuple[float, float]:
    """One grey window for images (y, x) of some slices, in which the heart is bright."""
    low, high = style.grey_window(np.stack([image[crop] for image in images]))
    heart = np.concatenate([image[one.labels > 0] for one, image in zip(slices, images, strict=True)])
    if not heart.size:
        return low, high
    top = min(high, low + ABOVE_HEART * (float(np.quantile(heart, BRIGHTEST)) - low))
    return (low, top) if top > low else (low, high)


def _crop(slices: Sequence[MieSlice]) -> Crop:
    """One square for all, around every LV: where none was found, the whole window."""
    labels = np.stack([np.maximum(one.labels, one.labels_ed) for one in slices])
    return crop_to_heart(np.where(np.isin(labels, (MYOCARDIUM, LV)), labels, 0).astype(np.uint8), READING_MM)
