"""One virtual patient at a glance: its four scans with the outlines of the truth, and the curves behind them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from cmrsr.io.discover import discover
from cmrsr.io.series import Series
from cmrsr.phantom.scan import LABELS
from cmrsr.report import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N_COLUMNS, CELL, CURVE = 6, 1.05, 2.1  # images in a row, inches of an image and of a curve
MARGIN_MM = 22.0  # shown around the heart
CURVES = {"lv": "blood LV", "rv": "blood RV", "myocardium": "myocardium"}


@dataclass(frozen=True, slots=True)
class Shown:
    """A scan cut down to the heart: frames and labels (t, z, y, x), times of the frames in ms or None."""

    frames: NDArray[np.float32]
    labels: NDArray[np.uint8]
    times_ms: NDArray[np.float64] | None

    def slices(self, n: int) -> list[int]:
        """``n`` slices, evenly over those that show the left ventricle."""
        present = np.flatnonzero((self.labels == LABELS["myocardium"]).any((0, 2, 3)))
        return [int(present[round(share * (len(present) - 1))]) for share in np.linspace(0.12, 0.88, n)]

    def middle(self) -> int:
        """The slice with most myocardium."""
        return int(np.argmax((self.labels == LABELS["myocardium"]).sum((0, 2, 3))))

    def curve(self, label: int) -> NDArray[np.float64]:
        """Mean signal (t,) of a label in the middle slice; where it is absent, of the whole slice."""
        z = self.middle()
        where = [self.labels[t, z] == label for t in range(len(self.frames))]
        return np.array([f[z][w].mean() if w.any() else f[z].mean() for f, w in zip(self.frames, where, strict=True)])


def study_figure(folder: Path) -> "Figure":
    """The picture of one subject's folder as ``cmrsr phantom`` writes it; scans that are not there stay out.

    Raises what reading the files raises.
    """
    truth = json.loads((folder / "truth.json").read_text())
    scans = _read(folder)
    rows = [(name, draw) for name, draw in _ROWS.items() if name in scans]
    plate = style.Plate([CELL] * N_COLUMNS, [CELL] * len(rows), top=0.62, left=0.5, right=CURVE + 0.75)
    for row, (name, draw) in enumerate(rows):
        draw(plate, row, scans[name], truth["scans"].get(name, {}))
    lv = truth["lv"]
    words = (
        f"virtual patient {truth['subject']['subject']}, seed {truth['seed']}: {truth['group']}, "
        f"{truth['subject']['sex']}, {truth['field_t']:g} T   LV {lv['edv_ml']:.0f} to {lv['esv_ml']:.0f} mL, "
        f"EF {lv['ef_percent']:.0f} %, {lv['mass_g']:.0f} g   scar {truth['scar']['percent_of_lv']:.0f} % of the wall"
    )
    height = plate.figure.get_figheight()
    plate.figure.text(
        0.012, 1 - 0.12 / height, words, ha="left", va="top", fontsize=style.TEXT + 0.5, color=style.PLATE_INK
    )  # fmt: skip
    for place, (name, colour) in zip((0.012, 0.04, 0.125, 0.152), style.OUTLINES.items(), strict=True):
        plate.figure.text(place, 1 - 0.34 / height, name, ha="left", va="top", fontsize=style.SMALL, color=colour)
    return plate.figure


def _read(folder: Path) -> dict[str, Shown]:
    """The scans of a subject's folder by name, cut to the heart."""
    scans = {}
    for name in _ROWS:
        path = next((p for p in (folder / f"{name}.nii.gz", folder / name) if p.exists()), None)
        if path is not None:
            (candidate,), _, _ = discover([path])
            scans[name] = _cut(candidate.open(), folder / f"{name}_label.nii.gz")
    return scans


def _cut(series: Series, label_path: Path) -> Shown:
    labels = np.asarray(nib.load(label_path).dataobj, dtype=np.uint8)
    labels = labels.reshape(*labels.shape[:3], -1).transpose(3, 2, 1, 0)
    place = np.argwhere((labels > 0).any((0, 1)))
    margin = round(MARGIN_MM / series.spacing_mm[1])
    centre, half = (place.min(0) + place.max(0)) // 2, int(np.ptp(place, axis=0).max()) // 2 + margin
    low = np.maximum(centre - half, 0)
    y, x = (slice(int(a), int(a) + 2 * half + 1) for a in low)
    return Shown(series.array()[:, :, y, x], labels[:, :, y, x], series.times_ms)


def _image(plate: style.Plate, row: int, column: int, scan: Shown, t: int, z: int, lined: bool) -> None:
    heart = scan.frames[scan.labels > 0]  # fat outside it may be far brighter
    axes, _ = plate.image(row, column, scan.frames[t, z], (0.0, 1.15 * float(np.quantile(heart, 0.995))))
    if lined:
        for name, colour in style.OUTLINES.items():
            inside = scan.labels[t, z] == LABELS[name]
            if name == "myocardium":
                inside = inside | (scan.labels[t, z] == LABELS["scar"])
            if inside.any() and not inside.all():
                axes.contour(inside, levels=[0.5], colors=[colour], linewidths=0.8)


def _axes(plate: style.Plate, row: int, title: str, x: str) -> "Axes":
    """Axes for the curve at the right of a row of images."""
    width, height = plate.figure.get_size_inches()
    top = height - 0.62 - row * (CELL + 0.05)
    axes = plate.axes(width - CURVE - 0.12, top - CELL + 0.24, CURVE, CELL - 0.38)
    axes.set_facecolor(style.PLATE)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(style.PLATE_MUTED)
    axes.tick_params(colors=style.PLATE_MUTED, labelsize=style.SMALL - 1.5, length=2, pad=1.5)
    axes.set_title(title, loc="left", fontsize=style.SMALL, color=style.PLATE_INK, pad=2)
    axes.set_xlabel(x, fontsize=style.SMALL - 1.5, color=style.PLATE_MUTED, labelpad=0.5, loc="right")
    return axes


def _cine(plate: style.Plate, row: int, scan: Shown, truth: Mapping[str, Any]) -> None:
    plate.side(row, "cine")
    volume = (scan.labels == LABELS["lv"]).sum((1, 2, 3))
    es = int(np.argmin(volume))
    for i, z in enumerate(scan.slices(N_COLUMNS // 2)):
        _image(plate, row, 2 * i, scan, 0, z, True)
        _image(plate, row, 2 * i + 1, scan, es, z, True)
    axes = _axes(plate, row, "LV volume (mL)", "ms")
    if "from_labels" in truth:
        axes.plot(truth["trigger_ms"], truth["from_labels"]["lv_ml"], color=style.OUTLINES["lv"], linewidth=1.4)
        axes.set_ylim(bottom=0)


def _perfusion(name: str) -> Callable[[style.Plate, int, Shown, Mapping[str, Any]], None]:
    def draw(plate: style.Plate, row: int, scan: Shown, truth: Mapping[str, Any]) -> None:
        plate.side(row, name)
        curves = {words: scan.curve(LABELS[part]) for part, words in CURVES.items()}
        peaks = [int(np.argmax(c)) for c in (curves["blood RV"], curves["blood LV"], curves["myocardium"])]
        last = len(scan.frames) - 1
        times = sorted({0, *peaks, (peaks[0] + peaks[1]) // 2, (peaks[2] + last) // 2, last})
        chosen = [times[round(i)] for i in np.linspace(0, len(times) - 1, N_COLUMNS)]
        for column, t in enumerate(chosen):
            _image(plate, row, column, scan, t, scan.middle(), False)
        axes = _axes(plate, row, "signal: RV, LV, myocardium", "s")
        seconds = np.arange(last + 1) if scan.times_ms is None else scan.times_ms.reshape(last + 1, -1)[:, 0] / 1000
        for part, words in CURVES.items():
            axes.plot(seconds, curves[words], color=style.OUTLINES[part], linewidth=1.2)

    return draw


def _t1(plate: style.Plate, row: int, scan: Shown, truth: Mapping[str, Any]) -> None:
    plate.side(row, "native T1")
    z = scan.middle()
    for column, t in enumerate(np.linspace(0, len(scan.frames) - 1, N_COLUMNS).round().astype(int)):
        _image(plate, row, column, scan, int(t), z, False)
    axes = _axes(plate, row, "signal: blood, myocardium, scar", "TI (ms)")
    inversion = np.asarray(truth["inversion_ms"])[:, z]
    for part in ("lv", "myocardium", "scar"):
        if (scan.labels[:, z] == LABELS[part]).any():
            axes.plot(
                inversion, scan.curve(LABELS[part]), color=style.OUTLINES[part], linewidth=1.2, marker=".", markersize=3
            )


def _lge(plate: style.Plate, row: int, scan: Shown, truth: Mapping[str, Any]) -> None:
    plate.side(row, "late enhancement")
    for column, z in enumerate(scan.slices(N_COLUMNS - 1)):
        _image(plate, row, column, scan, 0, z, False)
    scar = (scan.labels == LABELS["scar"]).sum((0, 2, 3))
    _image(plate, row, N_COLUMNS - 1, scan, 0, int(np.argmax(scar)) if scar.any() else scan.middle(), True)
    axes = _axes(plate, row, "signal: blood, myocardium, scar", "scan's units")
    for part in ("lv", "myocardium", "scar"):
        values = scan.frames[scan.labels == LABELS[part]]
        if values.size:
            axes.hist(values, bins=40, density=True, histtype="step", color=style.OUTLINES[part], linewidth=1.2)
    axes.set_yticks([])


_ROWS: dict[str, Callable[[style.Plate, int, Shown, Mapping[str, Any]], None]] = {
    "cine_sax": _cine,
    "perfusion_stress": _perfusion("stress"),
    "perfusion_rest": _perfusion("rest"),
    "t1": _t1,
    "lge": _lge,
}
