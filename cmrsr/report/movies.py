"""The pictures of a series with more frames: movie, profile over time, how sure each new frame is, one interval.

Series are (t, y, x) of the frames shown, times those of a ``Timeline``; charts return a matplotlib ``Figure`` and
``movie`` the bytes itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cmrsr.report import style
from cmrsr.report.figures import MOVIE_FRAMES, SHEET_WIDTH, animation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
PERCENT = "% of bright signal"
PICTURE_MS = 16  # of a movie: screens show no shorter ones, and browsers slow down below 11
ACQUIRED = style.PALETTE[1]
PANE = 336  # pixels across each half of a movie
HEADING = 24  # pixels of a movie above the images


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """When the frames are: ``frames`` (n_out,) of the output, ``acquired`` (n,) those of the scanner, in ``unit``.

    end: of the beat, or one frame after the last of an open series. The first frame is at 0.
    """

    frames: Array
    acquired: Array
    end: float
    cyclic: bool
    unit: Literal["ms", "frames"]

    def at(self, time: float) -> str:
        """A time in words; frames count from 1."""
        return f"{time:.0f} ms" if self.unit == "ms" else f"frame {round(time + 1, 2):g}"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of pixels through the images: a row (``y`` fixed) or a column (``x`` fixed)."""

    fixed: Literal["x", "y"]
    index: int

    def of(self, images: NDArray[Any]) -> NDArray[Any]:
        """The signal along the line: (..., y, x) to (..., n)."""
        return images[..., self.index, :] if self.fixed == "y" else images[..., :, self.index]


def busiest_line(frames: NDArray[np.float32]) -> Line:
    """The row or column of (t, y, x) whose signal changes most over time, the middle before the edges.

    The window has the heart in the middle: a line there crosses its walls, as an M-mode does.
    """
    change = frames.std(axis=0, dtype=np.float64)
    middle_y, middle_x = (np.hanning(n + 2)[1:-1] for n in change.shape)
    rows, columns = middle_y * change.mean(axis=1), middle_x * change.mean(axis=0)
    return Line("y", int(rows.argmax())) if rows.max() >= columns.max() else Line("x", int(columns.argmax()))


def playing(timeline: Timeline, shown: NDArray[np.int_], pace: float) -> tuple[slice, list[int]]:
    """Which of the frames shown a movie plays (every n-th), and for how many milliseconds each.

    pace: milliseconds of the movie in one unit of time. Frames too short or too many for a movie are left out, so that
    it keeps its pace.
    """
    whole = timeline.end * pace
    most = max(1, min(MOVIE_FRAMES, int(whole / PICTURE_MS)))
    kept = slice(None, None, -(-len(shown) // most))
    edges = np.round(np.append(timeline.frames[shown[kept]], timeline.end) * pace).astype(int)
    return kept, [max(PICTURE_MS, int(d)) for d in np.diff(edges)]


def movie(
    before: NDArray[Any], after: NDArray[Any], marks: Sequence[tuple[bool, str]], durations_ms: Sequence[int], *,
    aspect: float = 1.0,
) -> bytes:  # fmt: skip
    """Before and after side by side in one grey window, as an endless animated WebP of about 1.5 MB at most.

    marks: of each frame, whether it was acquired (it gets a dot) and the text above it; aspect: pixel height / width.
    """
    from PIL import Image, ImageDraw, ImageFont

    low, high = style.grey_window(before, after)
    height = round(PANE * before.shape[1] * aspect / before.shape[2])
    font = ImageFont.load_default(size=13)
    across = 2 * PANE + 6

    def page(t: int) -> Image.Image:
        sheet = Image.new("RGB", (across, HEADING + height), style.PLATE)
        draw = ImageDraw.Draw(sheet)
        for x, name, stack in ((0, "before: as acquired", before), (PANE + 6, "after: with new frames", after)):
            grey = (255 * np.clip((stack[t] - low) / (high - low), 0, 1)).round().astype(np.uint8)
            sheet.paste(Image.fromarray(grey).resize((PANE, height), Image.Resampling.BICUBIC), (x, HEADING))
            draw.text((x + 6, 4), name, fill=style.PLATE_INK, font=font)
        acquired, text = marks[t]
        draw.text((across - 6, 4), text, fill=style.PLATE_MUTED, font=font, anchor="ra")
        if acquired:
            draw.ellipse((across - 20, HEADING + 8, across - 8, HEADING + 20), fill=ACQUIRED, outline=style.PLATE)
        return sheet

    return animation([page(t) for t in range(len(before))], durations_ms)


def profile(
    before: NDArray[Any], after: NDArray[Any], line: Line, timeline: Timeline, shown: NDArray[np.int_], *,
    pixel_mm: tuple[float, float],
) -> "Figure":  # fmt: skip
    """Signal along a line over time, before above and after below; of a cyclic series, two beats in a row.

    Ticks above each strip are the acquired frames. pixel_mm: (y, x). A small image at the right shows the line.
    """
    beats = np.arange(2 if timeline.cyclic else 1)[:, None] * timeline.end
    held, first = np.unique(np.searchsorted(timeline.acquired, timeline.frames[shown], "right") - 1, return_index=True)
    step_mm = pixel_mm[1] if line.fixed == "y" else pixel_mm[0]
    window = style.grey_window(before, after)
    figure, strips = style.chart(SHEET_WIDTH, 4.0, n_rows=2)
    drawn = (
        ("before: as acquired", timeline.acquired[held], before[first]),  # each from when it was acquired
        ("after: with new frames", timeline.frames[shown], after),
    )
    for axes, (name, starts, stack) in zip(strips, drawn, strict=True):
        signal = np.tile(line.of(stack), (len(beats), 1))
        edges = np.append(starts + beats, len(beats) * timeline.end)
        places = np.arange(signal.shape[1] + 1) * step_mm
        axes.grid(visible=False)
        axes.pcolormesh(edges, places, signal.T, cmap="gray", vmin=window[0], vmax=window[1])
        axes.set_xlim(0, edges[-1])
        axes.invert_yaxis()
        axes.spines[:].set_visible(False)
        axes.vlines(
            timeline.acquired + beats, 1.015, 1.06, transform=axes.get_xaxis_transform(), color=ACQUIRED,
            linewidth=0.9, clip_on=False,
        )  # fmt: skip
        _label(axes, timeline, "position (mm)", last=axes is strips[-1])
        axes.set_title(name, loc="left", fontsize=style.TEXT + 0.5, color=style.INK, fontweight="bold", pad=9)
    if timeline.cyclic:
        strips[0].annotate(
            "second beat →", (timeline.end, 1.06), xycoords=("data", "axes fraction"), fontsize=style.SMALL,
            color=style.MUTED, va="bottom", annotation_clip=False,
        )  # fmt: skip
        for axes in strips:
            axes.vlines(
                timeline.end, 0, 1.1, transform=axes.get_xaxis_transform(), color=style.ACCENT, linewidth=0.8,
                linestyle=(0, (2, 3)), clip_on=False,
            )  # fmt: skip
    _place_of(line, after[0], window, strips[0], pixel_mm)
    return figure


def _label(axes: "Axes", timeline: Timeline, y: str, title: str = "", *, last: bool = True) -> None:
    """Labels of an axis of time, written below the last of several charts only; frames count from 1."""
    x = "time (ms)" if timeline.unit == "ms" else "acquired frame"
    if timeline.unit == "frames":
        axes.xaxis.set_major_formatter(lambda time, _: f"{(time % timeline.end if timeline.cyclic else time) + 1:g}")
    axes.tick_params(labelbottom=last)
    style.label(axes, x if last else "", y, title)


def _place_of(
    line: Line, image: NDArray[Any], window: tuple[float, float], beside: "Axes", pixel_mm: tuple[float, float]
) -> None:
    """A small image with the line in it, at the right of a strip."""
    axes = beside.inset_axes((1.02, 0.0, 0.2, 1.0))
    axes.imshow(
        image, cmap="gray", vmin=window[0], vmax=window[1], interpolation="bicubic", aspect=pixel_mm[0] / pixel_mm[1],
    )  # fmt: skip
    axes.set_axis_off()
    draw = axes.axhline if line.fixed == "y" else axes.axvline
    draw(line.index, color=style.ACCENT, linewidth=0.9)


def uncertainty(timeline: Timeline, curves: Mapping[str, NDArray[Any]], acquired: NDArray[np.bool_]) -> "Figure":
    """Standard deviations of every output frame by their names, in percent, over time; dots are acquired frames.

    (n_out,) each; two at most.
    """
    figure, (axes,) = style.chart(SHEET_WIDTH, 2.5)
    for values, colour in zip(curves.values(), (style.PALETTE[0], style.PALETTE[2]), strict=False):
        _hills(axes, timeline, values, colour)
    _dots(axes, timeline, acquired, tuple(curves))
    _label(axes, timeline, f"std. deviation ({PERCENT})")
    return figure


def unsampled(
    timeline: Timeline, change: NDArray[Any], refinement: NDArray[Any], acquired: NDArray[np.bool_]
) -> "Figure":
    """What can be said without an uncertainty, in percent, over time: the difference between the acquired neighbours
    of every new frame, and what the network changed in it. (n_out,) each; dots are acquired frames.
    """
    figure, (top, bottom) = style.chart(SHEET_WIDTH, 4.0, n_rows=2)
    bounds = np.append(timeline.acquired, timeline.end)
    interval = np.searchsorted(timeline.acquired, timeline.frames, side="right") - 1
    heights = np.array([change[interval == i].max(initial=0.0) for i in range(len(timeline.acquired))])
    top.stairs(heights, bounds, fill=True, color=style.INPUT, alpha=0.55)
    _dots(top, timeline, acquired)
    _label(top, timeline, PERCENT, "how far neighbouring acquired frames differ", last=False)
    _hills(bottom, timeline, refinement, style.PALETTE[2])
    _dots(bottom, timeline, acquired)
    _label(bottom, timeline, PERCENT, "how far the network moved from the classical estimate")
    return figure


def _hills(axes: "Axes", timeline: Timeline, values: NDArray[Any], colour: str) -> None:
    """Values of the output frames as a filled curve, which rests on the acquired frames."""
    times, heights = timeline.frames, np.asarray(values, np.float64)
    if timeline.cyclic:
        times, heights = np.append(times, timeline.end), np.append(heights, heights[0])
    axes.fill_between(times, heights, color=colour, alpha=0.18, linewidth=0)
    axes.plot(times, heights, color=colour, linewidth=1.4)


def _dots(axes: "Axes", timeline: Timeline, acquired: NDArray[np.bool_], curves: Sequence[str] = ()) -> None:
    """The acquired frames, on zero; their name and those of the curves above; and the limits of a chart over time."""
    times = timeline.frames[acquired]
    dots = axes.scatter(times, np.zeros(len(times)), s=16, color=ACQUIRED, linewidths=0, zorder=4, clip_on=False)
    axes.legend(
        [*axes.lines[: len(curves)], dots], [*curves, "acquired frame"], ncols=len(curves) + 1, loc="lower right",
        bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2, handletextpad=0.4, handlelength=1.2, frameon=False,
        fontsize=style.SMALL, labelcolor=style.INK,
    )  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.set_xlim(-0.01 * timeline.end, 1.01 * timeline.end)


def interval(
    columns: Sequence[tuple[str, str, NDArray[Any], NDArray[Any] | None]], name: str, unit: str, *, aspect: float = 1.0
) -> "Figure":
    """The frames of one interval in a row: heading, sub-heading, image and below it a map, None for a measured frame.

    name, unit: of the maps.
    """
    images = [image for *_, image, _ in columns]
    maps = [values for *_, values in columns if values is not None]
    window = style.grey_window(*images)
    width = min(2.4, SHEET_WIDTH / len(columns))
    height = width * images[0].shape[0] * aspect / images[0].shape[1]
    plate = style.Plate([width] * len(columns), [height] * (2 if maps else 1), top=0.5, right=0.85 if maps else 0.08)
    top = max([float(np.quantile(values, 0.995)) for values in maps], default=0.0) or 1.0
    for column, (head, sub, image, values) in enumerate(columns):
        plate.head(column, head, sub)
        plate.image(0, column, image, window)
        if values is not None:
            _, shown = plate.image(1, column, values, (0.0, top), style.ERROR_MAP)
    plate.side(0, "frames")
    if maps:
        plate.side(1, name)
        plate.scale(1, shown, unit)
    return plate.figure
