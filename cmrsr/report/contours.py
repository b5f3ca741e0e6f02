"""Contours of the ventricles on the images: a sheet of all slices at ED and ES, and a movie of one slice."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.physics.volumes import LV, MYOCARDIUM, RV
from cmrsr.report import style
from cmrsr.report.figures import SHEET_WIDTH, animation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Crop = tuple[slice, slice]
MOST_SLICES, ACROSS = 12, 6  # of a sheet, and of one band of it
LEGEND, BETWEEN = 0.26, 0.26  # inches: of the sheet's legend, and above each band for its headings
MARGIN_MM = 14.0  # shown around the heart
SMOOTH = 0.6  # pixels: a line one pixel wide still has its contour
PANE, PANE_HEAD = 400, 26  # pixels: each half of a movie, and its heading
LINE = 1.8  # pixels of a movie's contours
# What is drawn: its name, its colour on the dark plate, and the labels that lie inside.
CONTOURS: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "LV inner wall": (style.OUTLINES["lv"], (LV,)),
    "LV outer wall": (style.OUTLINES["myocardium"], (LV, MYOCARDIUM)),
    "right ventricle": (style.OUTLINES["rv"], (RV,)),
}


def slices_shown(labels: NDArray[np.uint8], *, base_first: bool) -> list[int]:
    """Slices of labels (t, z, h, w) from base to apex: all, or twelve evenly from one before the heart to one after."""
    present = np.flatnonzero(labels.any((0, 2, 3)))
    n = labels.shape[1]
    low, high = (
        (max(present[0] - 1, 0), min(present[-1] + 1, n - 1)) if present.size and n > MOST_SLICES else (0, n - 1)
    )
    places = np.unique(np.linspace(low, high, min(high - low + 1, MOST_SLICES)).round().astype(int))
    chosen = [int(z) for z in places]
    return chosen if base_first else chosen[::-1]


def crop_to_heart(labels: NDArray[np.uint8], pixel_mm: float) -> Crop:
    """The square window (y, x) around everything labelled in (..., h, w) with a margin; all of it where nothing is."""
    height, width = labels.shape[-2:]
    where = np.argwhere(labels.reshape(-1, height, width).any(0))
    if not len(where):
        return slice(0, height), slice(0, width)
    low, high = where.min(0), where.max(0) + 1
    side = min(int((high - low).max()) + 2 * round(MARGIN_MM / pixel_mm), height, width)
    start = np.clip((low + high - side) // 2, 0, np.array([height, width]) - side)
    y, x = (slice(int(a), int(a) + side) for a in start)
    return y, x


def heart_window(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> tuple[float, float]:
    """A grey window in which the heart is bright, though fat beside it may be brighter."""
    low, high = style.grey_window(images)
    heart = images[labels > 0]
    return (low, max(low + 1.0, min(high, 1.1 * float(np.quantile(heart, 0.995))))) if heart.size else (low, high)


def contour_sheet(
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    phases: Mapping[str, int],
    slices: Sequence[int],
    pixel_mm: float,
) -> bytes:
    """The slices as columns, a row for each phase (name to frame), in bands of six. images, labels: (t, z, h, w).

    slices: from base to apex. As PNG.
    """
    frames = list(phases.values())
    crop = crop_to_heart(labels[frames], pixel_mm)
    shown = np.ix_(frames, list(slices))
    window = heart_window(images[shown][..., crop[0], crop[1]], labels[shown][..., crop[0], crop[1]])
    n_bands = -(-len(slices) // ACROSS)
    across = -(-len(slices) // n_bands)
    size, n_rows = min(2.0, SHEET_WIDTH / across), len(phases)
    heights = ([size] * n_rows + [BETWEEN]) * n_bands  # the last: headings of the next band
    plate = style.Plate([size] * across, heights[:-1], top=LEGEND + BETWEEN)
    for place, z in enumerate(slices):
        row, column = (n_rows + 1) * (place // across), place % across
        end = "base · " if place == 0 and len(slices) > 1 else "apex · " if place == len(slices) - 1 > 0 else ""
        plate.head(column, f"{end}slice {z + 1}", row=row)
        for i, t in enumerate(frames):
            axes, _ = plate.image(row + i, column, images[t, z][crop], window)
            _draw(axes, labels[t, z][crop])
    for band in range(n_bands):
        for i, name in enumerate(phases):
            plate.side((n_rows + 1) * band + i, name)
    name_contours(plate, {name: colour for name, (colour, _) in CONTOURS.items()})
    return style.png(plate.figure, dpi=200)


def _draw(axes: "Axes", labels: NDArray[np.uint8]) -> None:
    for colour, inside in CONTOURS.values():
        field = inside_field(labels, inside)
        if field is not None:
            axes.contour(field, levels=[0.5], colors=[colour], linewidths=1.0)


def inside_field(labels: NDArray[np.uint8], inside: tuple[int, ...]) -> NDArray[np.float32] | None:
    """How far each pixel of (h, w) is inside some labels, 0..1: its level of one half is their contour, or None.

    Smoothed by less than a pixel, but never so that a small structure loses its contour.
    """
    from scipy.ndimage import gaussian_filter

    mask = np.isin(labels, inside).astype(np.float32)
    if not mask.any() or mask.all():
        return None
    smooth: NDArray[np.float32] = gaussian_filter(mask, SMOOTH)
    return smooth if smooth.max() > 0.5 > smooth.min() else mask


def name_contours(plate: style.Plate, names: Mapping[str, str]) -> None:
    """The names of contours in their colours, in the upper left corner."""
    width, height = plate.figure.get_size_inches()
    x = 0.34
    for name, colour in names.items():
        place = (x / width, 1 - 0.09 / height)
        plate.figure.text(*place, f"— {name}", ha="left", va="top", fontsize=style.SMALL + 0.5, color=colour)
        x += 0.2 + 0.078 * len(name)


# --- the movie --------------------------------------------------------------------------------------------------------


def contour_movie(
    images: NDArray[np.uint8], labels: NDArray[np.uint8], texts: Sequence[str], durations_ms: Sequence[int],
    pixel_mm: float, *, name: str = "image",
) -> bytes:  # fmt: skip
    """One slice over the beat, plain at the left and with contours at the right, as an endless animated WebP.

    images, labels: (t, h, w); texts: above each frame; name: of the image.
    """
    from PIL import Image, ImageDraw, ImageFont

    crop = crop_to_heart(labels, pixel_mm)
    stack, masks = images[:, *crop], labels[:, *crop]
    low, high = heart_window(stack, masks)
    height = round(PANE * stack.shape[1] / stack.shape[2])
    across = 2 * PANE + 6
    font = ImageFont.load_default(size=14)

    def page(t: int) -> Image.Image:
        sheet = Image.new("RGB", (across, PANE_HEAD + height), style.PLATE)
        draw = ImageDraw.Draw(sheet)
        grey = (255 * np.clip((stack[t] - low) / (high - low), 0, 1)).round().astype(np.uint8)
        plain = Image.fromarray(grey).resize((PANE, height), Image.Resampling.BICUBIC).convert("RGB")
        sheet.paste(plain, (0, PANE_HEAD))
        sheet.paste(Image.fromarray(_with_contours(np.asarray(plain), masks[t])), (PANE + 6, PANE_HEAD))
        draw.text((6, 5), name, fill=style.PLATE_INK, font=font)
        draw.text((PANE + 12, 5), "with contours", fill=style.PLATE_INK, font=font)
        draw.text((across - 6, 5), texts[t], fill=style.PLATE_MUTED, font=font, anchor="ra")
        return sheet

    return animation([page(t) for t in range(len(stack))], durations_ms)


def _with_contours(picture: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture (height, width, 3) with the contours of labels (h, w) drawn into it, smooth-edged."""
    from PIL import Image, ImageColor

    out: NDArray[Any] = picture.astype(np.float32)
    for colour, inside in CONTOURS.values():
        small = inside_field(labels, inside)
        if small is None:
            continue
        field = np.asarray(Image.fromarray(small).resize(picture.shape[1::-1], Image.Resampling.BICUBIC))
        steep = np.hypot(*np.gradient(field))
        away = np.abs(field - 0.5) / np.maximum(steep, 1e-6)  # pixels from the contour
        weight = np.clip(LINE / 2 + 0.5 - away, 0, 1)[..., None]
        out += weight * (np.array(ImageColor.getrgb(colour), np.float32) - out)
    return out.round().clip(0, 255).astype(np.uint8)
