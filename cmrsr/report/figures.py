"""The pictures of a report: what changed, where, how sure it is, and whether the signal over time was kept.

Every function takes plain arrays and returns a matplotlib ``Figure`` (``style.png`` turns it into bytes); ``movie``
and ``animation`` return the bytes themselves. Images are ``(y, x)``, series ``(t, y, x)``, regions of interest
``(x, y, width, height)``.
"""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.metrics.images import psnr, ssim
from cmrsr.metrics.statistics import format_p
from cmrsr.physics.fourier import fft1c
from cmrsr.report import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

Roi = tuple[int, int, int, int]

SHEET_WIDTH = 7.6  # inches of image per plate: 1140 pixels at 150 dpi, the width of the report
HEADING = 0.5  # inches above a row of images for its two lines of heading
MOVIE_BYTES, MOVIE_FRAMES = 1_500_000, 80


def key_frames(curves: Mapping[str, NDArray[Any]]) -> dict[str, int]:
    """The frames worth showing: the baseline before the contrast arrives, then the peak of every region, in time order.

    curves: region name to signal ``(t,)``. The peak is that of the first passage, though recirculation may rise higher;
    the baseline is the frame of the least total signal up to the first peak.
    """
    peaks = {f"peak {name}": _first_peak(np.asarray(curve, dtype=np.float64)) for name, curve in curves.items()}
    total = np.sum([np.asarray(curve, dtype=np.float64) / (np.ptp(curve) or 1) for curve in curves.values()], axis=0)
    baseline = int(np.argmin(total[: min(peaks.values()) + 1]))
    return {"baseline": baseline, **dict(sorted(peaks.items(), key=lambda item: item[1]))}


def _first_peak(curve: NDArray[np.float64]) -> int:
    """The first frame in the upper half of the range after which the curve falls by a fifth of it, else the maximum."""
    low, span = curve.min(), np.ptp(curve)
    best = 0
    for t, value in enumerate(curve):
        if value > curve[best]:
            best = t
        elif curve[best] >= low + 0.5 * span and value <= curve[best] - 0.2 * span:
            return best
    return int(np.argmax(curve))


def before_after(
    lr: NDArray[Any],
    sr: NDArray[Any],
    std: NDArray[Any] | None = None,
    *,
    frames: Mapping[str, int],
    roi: Roi | None = None,
    aspect: float = 1.0,
    unit: str = "a.u.",
) -> "Figure":
    """Chosen frames of the input and the result, one window for all, and close-ups of the heart if ``roi`` is given.

    ``std`` adds a row with the standard deviation over the samples, the error to expect, and one with what the network
    changed, in the same colours. ``aspect`` is pixel height / width.
    """
    chosen = list(frames.values())
    close_up = (chosen, *_crop(roi))
    low, high = style.grey_window(lr[close_up], sr[close_up], saturated=0.015)
    rows: list[tuple[str, NDArray[Any], bool]] = [("input", lr, False), ("super-resolved", sr, False)]
    if roi is not None:
        rows += [("input, close", lr, True), ("super-res., close", sr, True)]
    width = min(2.4, SHEET_WIDTH / len(chosen))
    height = _height(width, lr.shape[1:], aspect)
    close_height = _height(width, lr[0][_crop(roi)].shape, aspect)
    heights = [close_height if close else height for _, _, close in rows] + (
        [close_height] * 2 if std is not None else []
    )
    plate = style.Plate([width] * len(chosen), heights, top=HEADING, right=0.08 if std is None else 0.85)
    top = 0.0 if std is None else float(np.quantile(std[close_up], 0.995))

    for column, (name, t) in enumerate(frames.items()):
        plate.head(column, name, f"frame {t + 1}")
        for row, (_, stack, close) in enumerate(rows):
            axes, _ = plate.image(row, column, stack[t][_crop(roi)] if close else stack[t], (low, high))
            if roi is not None and not close:
                style.outline(axes, roi)
        if std is not None:
            _, shown = plate.image(len(rows), column, std[t][_crop(roi)], (0.0, top), style.ERROR_MAP)
            change = np.abs(sr[t].astype(np.float64) - lr[t])[_crop(roi)]
            plate.image(len(rows) + 1, column, change, (0.0, top), style.ERROR_MAP)
    for row, (name, _, _) in enumerate(rows):
        plate.side(row, name)
    if std is not None:
        plate.side(len(rows), "uncertainty")
        plate.side(len(rows) + 1, "change")
        plate.scale(len(rows), shown, f"std. deviation ({unit})")
    return plate.figure


def xt_profile(
    profiles: Mapping[str, NDArray[Any]], *, frame_s: float | None = None, pixel_mm: float | None = None
) -> "Figure":
    """Signal along one line of the image over time, one strip per method: name to ``(t, n)``, one window for all."""
    window = style.grey_window(*profiles.values())
    n_frames, n = next(iter(profiles.values())).shape
    right, bottom = n_frames * (frame_s or 1.0), n * (pixel_mm or 1.0)
    figure, strips = style.chart(SHEET_WIDTH, 0.5 + 1.4 * len(profiles), n_rows=len(profiles))
    for axes, (name, profile) in zip(strips, profiles.items(), strict=True):
        axes.imshow(
            profile.T, cmap="gray", vmin=window[0], vmax=window[1], aspect="auto", interpolation="nearest",
            extent=(0, right, bottom, 0),
        )  # fmt: skip
        axes.spines[:].set_visible(False)
        axes.grid(visible=False)
        last = axes is strips[-1]
        axes.tick_params(labelbottom=last)
        x_label = ("time (s)" if frame_s else "frame") if last else ""
        style.label(axes, x_label, "position (mm)" if pixel_mm else "position (pixels)", name)
    return figure


def curves(
    times_s: NDArray[Any] | None,
    after: Mapping[str, NDArray[Any]],
    before: Mapping[str, NDArray[Any]] | None = None,
    *,
    unit: str = "a.u.",
) -> "Figure":
    """Signal-time curves of every region: solid the result, dashed grey-toned the input. No times: frame numbers."""
    figure, (axes,) = style.chart(SHEET_WIDTH, 2.9)
    for (name, signal), colour in zip(after.items(), style.colours(after).values(), strict=True):
        times, x_label = _time_axis(times_s, len(signal))
        axes.plot(times, signal, color=colour, linewidth=1.7, label=name)
        if before is not None:
            axes.plot(times, before[name], color=colour, linewidth=1.1, linestyle=(0, (3, 2)), alpha=0.75)
    if before is not None:
        axes.plot([], [], color=style.INPUT, linewidth=1.1, linestyle=(0, (3, 2)), label="input (dashed)")
    style.label(axes, x_label, f"signal ({unit})")
    axes.margins(x=0.01)
    style.legend(axes)
    return figure


def curve_comparison(
    times_s: NDArray[Any] | None, regions: Mapping[str, Mapping[str, NDArray[Any]]], *, unit: str = "a.u."
) -> "Figure":
    """One panel per region, a line per method: ``regions[region][method]`` is ``(t,)``; "reference" is drawn black."""
    figure, panels = style.chart(2.6 * len(regions) + 0.4, 2.7, n_columns=len(regions))
    for axes, (region, methods) in zip(panels, regions.items(), strict=True):
        for (name, signal), colour in zip(methods.items(), style.colours(methods).values(), strict=True):
            times, x_label = _time_axis(times_s, len(signal))
            is_reference = name.lower() == "reference"
            axes.plot(
                times, signal, color=colour, label=name, linewidth=2.6 if is_reference else 1.3,
                alpha=0.35 if is_reference else 1.0, zorder=1 if is_reference else 2,
            )  # fmt: skip
        style.label(axes, x_label, f"signal ({unit})" if axes is panels[0] else "", region)
        axes.margins(x=0.01)
    style.legend(panels[0])
    return figure


def spectrum(powers: Mapping[str, NDArray[Any]], acquired_lines: int, *, pixel_mm: float | None = None) -> "Figure":
    """Power along the phase axis, name to ``(n,)`` from ``phase_power``, in dB below the strongest line.

    The acquired band is shaded. ``pixel_mm`` gives the axis in cycles per cm instead of lines.
    """
    figure, (axes,) = style.chart(SHEET_WIDTH, 2.5)
    size = next(iter(powers.values())).size
    unit = 1.0 if pixel_mm is None else 10.0 / (size * pixel_mm)
    lines = np.arange(size) - size // 2
    peak = max(float(power.max()) for power in powers.values())
    edge = acquired_lines // 2 * unit
    axes.axvspan(-edge, (acquired_lines - 1) // 2 * unit, color="#dbe7f1", linewidth=0, label="acquired band")
    for (name, power), colour in zip(powers.items(), style.colours(powers).values(), strict=True):
        level = 10 * np.log10(np.maximum(power / peak, 1e-8))
        axes.plot(lines * unit, level, color=colour, linewidth=1.4, label=name)
    style.label(axes, "phase line" if pixel_mm is None else "spatial frequency (cycles / cm)", "power (dB)")
    axes.margins(x=0)
    style.legend(axes)
    return figure


def phase_power(frames: NDArray[Any], axis: int) -> NDArray[np.float64]:
    """Mean power of every k-space line along ``axis``, ``(n,)``, the zero frequency at n // 2."""
    power = np.moveaxis(np.abs(fft1c(frames, axis)) ** 2, axis, 0)
    return np.asarray(power.reshape(power.shape[0], -1).mean(axis=1, dtype=np.float64))


def comparison(
    reference: NDArray[Any], methods: Mapping[str, NDArray[Any]], *, roi: Roi | None = None, aspect: float = 1.0
) -> "Figure":
    """One frame: the reference and every method with its PSNR and SSIM, and below them their absolute errors.

    ``roi`` crops all of them before the figures are computed.
    """
    crop = _crop(roi)
    hr = reference[crop]
    window = style.grey_window(hr)
    errors = {name: 100 * np.abs(image[crop] - hr) / np.ptp(hr) for name, image in methods.items()}
    top = float(np.quantile(np.stack(list(errors.values())), 0.998))
    across = len(methods) + 1 if len(methods) < 5 else 4
    n_bands = -(-(len(methods) + 1) // across)
    width = min(2.4, SHEET_WIDTH / across)
    height = _height(width, hr.shape, aspect)
    heights = [height, height, HEADING - 0.1] * n_bands  # the last is the space for the headings of the next band
    plate = style.Plate([width] * across, heights[:-1], top=HEADING, right=0.85)
    plate.image(0, 0, hr, window)
    plate.head(0, "reference")
    for place, (name, image) in enumerate(methods.items(), start=1):
        row, column = 3 * (place // across), place % across
        plate.image(row, column, image[crop], window)
        quality = f"{float(psnr(image[crop], hr)):.2f} dB · {float(ssim(image[crop], hr)):.3f}"
        plate.head(column, name, quality, row=row)
        _, shown = plate.image(row + 1, column, errors[name], (0.0, top), style.ERROR_MAP)
    plate.scale(1, shown, "error (% of range)")
    return plate.figure


def boxplots(
    metrics: Mapping[str, Mapping[str, NDArray[Any]]],
    p_values: Mapping[str, Mapping[str, float | None]] | None = None,
    *,
    against: str = "",
) -> "Figure":
    """One panel per metric, one box per method: ``metrics[metric][method]`` holds a value per image or per patient.

    Boxes are quartiles with whiskers of 1.5 IQR; up to 200 values are also drawn as dots. ``p_values[metric][method]``
    are printed at the right, from the test ``against`` a baseline.
    """
    names = list(next(iter(metrics.values())))
    figure, panels = style.chart(2.75 * len(metrics) + 1.0, 0.75 + 0.36 * len(names), n_columns=len(metrics))
    places = np.arange(len(names))[::-1]
    for axes, (metric, methods) in zip(panels, metrics.items(), strict=True):
        for name, place, colour in zip(names, places, style.colours(names).values(), strict=True):
            values = np.asarray(methods[name], dtype=np.float64)
            axes.boxplot(
                values, positions=[place], orientation="horizontal", widths=0.55, patch_artist=True,
                showfliers=values.size > 200,
                boxprops={"facecolor": colour + "40", "edgecolor": colour, "linewidth": 1.0},
                medianprops={"color": colour, "linewidth": 2.0},
                whiskerprops={"color": colour, "linewidth": 1.0}, capprops={"linewidth": 0},
                flierprops={"marker": ".", "markersize": 2, "markeredgecolor": colour, "alpha": 0.4},
            )  # fmt: skip
            if values.size <= 200:
                spread = 0.36 * ((np.arange(values.size) * 0.618034) % 1 - 0.5)  # even, and the same on every run
                axes.scatter(values, place + spread, s=5, color=colour, alpha=0.55, linewidths=0, zorder=3)
            p = None if p_values is None else p_values.get(metric, {}).get(name)
            if p is not None:
                axes.annotate(
                    format_p(p), (1.0, float(place)), xycoords=("axes fraction", "data"), xytext=(4, 0),
                    textcoords="offset points", va="center", fontsize=style.SMALL - 0.5, color=style.MUTED,
                )  # fmt: skip
        axes.set_yticks(places, names if axes is panels[0] else [""] * len(names))
        axes.tick_params(axis="y", length=0, labelsize=style.TEXT, labelcolor=style.INK)
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False, axis="y")
        style.label(axes, metric, "")
    if p_values is not None:
        note = f"p: paired t-test against {against}"
        figure.supxlabel(note, x=0.99, ha="right", fontsize=style.SMALL, color=style.MUTED)
    return figure


def movie(lr: NDArray[Any], sr: NDArray[Any], fps: float = 12.0, *, aspect: float = 1.0) -> bytes:
    """Input and result side by side as an endless animated WebP of at most 80 frames and about 1.5 MB.

    Longer series are thinned evenly and keep their duration.
    """
    from PIL import Image, ImageDraw, ImageFont

    shown = np.unique(np.linspace(0, len(lr) - 1, min(len(lr), MOVIE_FRAMES)).round().astype(int))
    low, high = style.grey_window(lr[shown], sr[shown])
    width = 336
    height = round(width * lr.shape[1] * aspect / lr.shape[2])
    font = ImageFont.load_default(size=13)

    def page(t: int) -> Image.Image:
        sheet = Image.new("L", (2 * width + 6, height + 24), 24)
        draw = ImageDraw.Draw(sheet)
        for x, name, stack in ((0, "input", lr), (width + 6, "super-resolved", sr)):
            grey = (255 * np.clip((stack[t] - low) / (high - low), 0, 1)).round().astype(np.uint8)
            sheet.paste(Image.fromarray(grey).resize((width, height), Image.Resampling.BICUBIC), (x, 24))
            draw.text((x + 6, 4), name, fill=235, font=font)
        draw.text((2 * width - 2, 4), f"frame {t + 1} / {len(lr)}", fill=150, font=font, anchor="ra")
        return sheet

    duration = max(20, round(1000 * len(lr) / (fps * len(shown))))
    return animation([page(int(t)) for t in shown], [duration] * len(shown))


def animation(pages: Sequence["Image.Image"], durations_ms: Sequence[int]) -> bytes:
    """Pages as an endless animated WebP of about 1.5 MB at most: the quality falls until the size fits."""
    for quality in (70, 45, 20):
        buffer = BytesIO()
        pages[0].save(
            buffer, format="WEBP", save_all=True, append_images=pages[1:], duration=list(durations_ms), loop=0,
            quality=quality, method=0,
        )  # fmt: skip
        if buffer.tell() <= MOVIE_BYTES:
            break
    return buffer.getvalue()


def _crop(roi: Roi | None) -> tuple[slice, slice]:
    if roi is None:
        return slice(None), slice(None)
    x, y, width, height = roi
    return slice(y, y + height), slice(x, x + width)


def _height(width: float, shape: Sequence[int], aspect: float) -> float:
    """The height of a cell that shows ``shape`` (y, x) in true proportion."""
    return width * shape[0] * aspect / shape[1]


def _time_axis(times_s: NDArray[Any] | None, n_frames: int) -> tuple[NDArray[Any], str]:
    return (np.arange(1, n_frames + 1), "frame") if times_s is None else (times_s, "time (s)")
