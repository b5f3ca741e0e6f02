"""How deep small perfusion defects stay: ``python -m tests.benchmarks.defects [ENGINE|FOLDER ...] [-o FIGURE.png]``.

Virtual chests that no training has seen are acquired while the wall of the left ventricle is brightest, healthy and
with a round defect that takes half of the signal from the wall, with the same noise each time. 35 % of the lines are
kept. Depth kept: the difference to the healthy image, averaged over the defect, as a share of the same difference in
the full acquisitions. 1 is a defect as deep as it was, less is one that is painted over. The images differ in the
defect alone, so that noise and anatomy cancel. Diameters are in acquired pixels along the phase axis. Nothing here is
asserted.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cmrsr.io.series import Series
from cmrsr.io.window import Window, window_around
from cmrsr.phantom.chest import draw_chest
from cmrsr.phantom.contrast import draw_passage, draw_sequence, first_pass_signals
from cmrsr.phantom.heart import N_WALL, WALL
from cmrsr.phantom.patient import draw_patient
from cmrsr.phantom.plane import FINE, short_axis
from cmrsr.phantom.render import Pose, Section
from cmrsr.phantom.scanner import typical_peak
from cmrsr.physics.kspace import n_lines
from cmrsr.report import style
from cmrsr.tasks.sr.plan import SrOptions
from cmrsr.tasks.sr.run import super_resolve
from cmrsr.tasks.sr.training.acquisition import draw_acquisition, expose
from cmrsr.tasks.sr.training.pairs import shortened_afterwards
from cmrsr.tasks.sr.training.virtual import sampled

Frames = NDArray[np.float32]
DIAMETERS = (2, 3, 4, 6, 8, 12)
FRACTION, LOST, WINDOW = 0.35, 0.5, 96
CHESTS, SEED, MATRIX = 40, 30_000, 192
SETTINGS = {"1 step": SrOptions(phase_axis="y"), "5 steps, 8 samples": SrOptions(steps=5, phase_axis="y")}


@dataclass(frozen=True, slots=True)
class Study:
    """One chest: frames (1 + diameters, y, x), healthy first, and what share of every pixel a defect takes."""

    short: Frames
    full: Frames
    taken: Frames  # (diameters, y, x)
    window: Window


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("engines", nargs="*", default=["perfgen-s"])
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    kept: dict[str, list[NDArray[np.float64]]] = {}
    for i in range(CHESTS):
        study = _study(i)
        kept.setdefault("zero-filling", []).append(_depths(_cut(study.short, study.window), study))
        for engine in arguments.engines:
            for name, options in SETTINGS.items():
                restored = _restored(study, engine, options)
                kept.setdefault(f"{Path(engine).name}, {name}", []).append(_depths(restored, study))
    table = {name: np.stack(rows) for name, rows in kept.items()}
    print(f"| depth kept: median (10 to 90 %) | {' | '.join(f'{d} px' for d in DIAMETERS)} |")
    print("|---|" + "---|" * len(DIAMETERS))
    for name, rows in table.items():
        cells = (f"{middle:.2f} ({low:.2f} to {high:.2f})" for low, middle, high in _range(rows))
        print(f"| {name} | {' | '.join(cells)} |")
    if arguments.output:
        arguments.output.write_bytes(style.png(drawn(table)))


def drawn(table: dict[str, NDArray[np.float64]]) -> Figure:
    """Depth kept against diameter, the median and the range from 10 to 90 % of each method's chests."""
    figure, [axes] = style.chart(6.5, 3.4)
    colours = style.colours(table)
    for name, rows in table.items():
        low, middle, high = _range(rows).T
        axes.fill_between(DIAMETERS, low, high, color=colours[name], alpha=0.15, linewidth=0)
        axes.plot(DIAMETERS, middle, color=colours[name], marker="o", markersize=3.5, label=name)
    axes.axhline(1, color=style.REFERENCE, linewidth=0.8, linestyle=":")
    axes.set(xticks=DIAMETERS, ylim=(0.3, 1.2))
    style.legend(axes)
    style.label(axes, "diameter of the defect (acquired pixels)", "depth kept")
    return figure


def _range(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """(diameters, 3): 10 %, median and 90 % of the chests."""
    return np.quantile(rows, (0.1, 0.5, 0.9), axis=0).T


def _study(index: int) -> Study:
    patient, rng = draw_patient(SEED, index + 1), np.random.default_rng((SEED, index))
    chest = draw_chest(patient)
    fov, spin = float(rng.uniform(280, 400)), float(rng.uniform(0, 2 * np.pi))
    planes, _ = short_axis(patient, 3, fov=fov, thickness=8.0, gap=None, spin=spin, offset=0.5)
    section, pose = Section(patient, chest, planes[1]), Pose(breath_mm=np.zeros(3))
    passage = draw_passage(rng, patient, 60, False)
    signals = first_pass_signals(chest.materials.take(section.used), passage, draw_sequence(rng))
    signals /= typical_peak(signals)
    of_wall = (section.used >= WALL) & (section.used < WALL + N_WALL)
    healthy = section.signal(pose, signals[int(signals[:, of_wall].mean(1).argmax())], chest.materials)
    labels = section.at(pose).labels
    wall = ((labels >= WALL) & (labels < WALL + N_WALL)).mean(0).astype(np.float32)  # share of the slice's thickness
    inside = np.argwhere(wall > 0.99)
    centre = inside[rng.integers(len(inside))]
    acquisition = draw_acquisition(rng, MATRIX)
    rows, columns = np.indices(wall.shape)
    distance = np.hypot(rows - centre[0], columns - centre[1]) * (acquisition.acquired[0] / FINE)
    taken = [wall * (distance <= diameter / 2) for diameter in DIAMETERS]
    noise = int(rng.integers(2**31))
    short, full = [], []
    for scene in (healthy, *(healthy * (1 - LOST * part) for part in taken)):
        exposure = expose(sampled(scene, MATRIX), acquisition, np.random.default_rng(noise))
        lr, hr, _ = shortened_afterwards(exposure, n_lines(FRACTION, exposure.noisy.shape[0]))
        short.append(lr)
        full.append(hr)
    matrix = acquisition.matrix
    shares = [cv2.resize(part, matrix[::-1], interpolation=cv2.INTER_AREA) for part in taken]
    at = (float(centre[0]) * matrix[0] / FINE, float(centre[1]) * matrix[1] / FINE)
    return Study(np.stack(short), np.stack(full), np.asarray(shares), window_around(at, matrix, WINDOW))


def _cut(frames: Frames, window: Window) -> Frames:
    x, y, width, height = window
    return frames[:, y : y + height, x : x + width]


def _restored(study: Study, engine: str, options: SrOptions) -> Frames:
    series = Series.from_array(study.short[:, None], kind="perfusion", phase_axis="y")
    result, _ = super_resolve(series, engine=engine, options=replace(options, roi=study.window))
    return result.array()[:, 0]


def _depths(images: Frames, study: Study) -> NDArray[np.float64]:
    """Of each diameter; images (1 + diameters, y, x) of the window."""
    full, taken = (_cut(part, study.window) for part in (study.full, study.taken))
    kept, whole = (((part[:1] - part[1:]) * taken).sum((1, 2), dtype=np.float64) for part in (images, full))
    return np.asarray(kept / whole)


if __name__ == "__main__":
    main()
