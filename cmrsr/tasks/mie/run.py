"""Synthesis of late enhancement from a cine and native T1 images, slice by slice, with the scar that it shows.

The cine is read first (where the heart is, its beat, its ventricles), then each T1 slice is looked at on a window about
the heart: what moves and how, which tissues recover how fast; both condition the sampling of the enhancement.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.diffusion.ddim import ddim_coefficients
from cmrsr.diffusion.noise import keyed_noise
from cmrsr.heart.centre import heart_centre
from cmrsr.heart.graphs import READER
from cmrsr.heart.masks import clean_labels
from cmrsr.heart.reader import HeartReader, find_heart, middle_slices
from cmrsr.heart.window import READING_MM, WINDOW, ReadingWindow
from cmrsr.io.planes import slice_affine
from cmrsr.io.series import Series
from cmrsr.io.survey import Survey, survey
from cmrsr.physics.kinematics import beat_displacement, kinematics
from cmrsr.physics.volumes import LV, MYOCARDIUM
from cmrsr.runtime.bundle import Bundle, load
from cmrsr.runtime.choice import DeviceChoice, Engine
from cmrsr.runtime.engine import load_graph
from cmrsr.runtime.kind import check_graphs
from cmrsr.tasks.mie.anatomy import Beat, Match, likeness, match, read_beat
from cmrsr.tasks.mie.engine import ENGINE
from cmrsr.tasks.mie.features.scar import scar_mask, segment_map, septum_angles
from cmrsr.tasks.mie.features.signs import N_PHASES, MotionSigns, RecoverySigns, motion_signs, recovery_signs
from cmrsr.tasks.mie.grid import SliceGrid
from cmrsr.tasks.mie.measure import MieMeasured, measure
from cmrsr.tasks.mie.plan import MieOptions, MiePlan, SlicePair, plan_mie
from cmrsr.tasks.mie.position import Position, locate_slices
from cmrsr.tasks.mie.result import MieFrame, MieSlice

Array = NDArray[np.float32]
OUTPUT_UNIT = 1000.0  # of the synthetic images: their bright signal
FINER = 2  # times: images for the strain that is reported; the network sees motion as it was trained on it
SAME_HEART, SAME_EDGES = 0.5, 0.4  # Dice of the LV in cine and T1 images, correlation of edges: below, none is moved


class MieEngines:
    """The graphs of a bundle, and the reader of the cine, compiled for a batch size."""

    def __init__(self, bundle: Bundle, reader: Bundle, batch_size: int, choice: DeviceChoice) -> None:
        self.bundle = bundle
        self.reader = HeartReader(reader, batch_size, batch_size, choice)
        manifest = bundle.manifest
        self._graphs: dict[str, Engine] = {}
        for name in ("kinematics", "morphology", "step", "decoder"):
            graph = manifest.graphs[name]
            shapes = {
                port.name: (batch_size, *(int(n) for n in port.shape[1:]))
                for port in graph.inputs
                if port.shape and not isinstance(port.shape[0], int)
            }
            self._graphs[name] = load_graph(bundle, graph, shapes, choice)

    @property
    def step(self) -> Engine:
        """What most of the time is spent in: what the sidecar names."""
        return self._graphs["step"]

    @property
    def latent(self) -> tuple[int, int, int]:
        """Channels, rows and columns of what is diffused."""
        channels, rows, columns = (int(n) for n in self.bundle.manifest.step.inputs[0].shape[1:])
        return channels, rows, columns

    def run(self, name: str, *inputs: Array) -> tuple[Array, ...]:
        """Inputs (n, ...) through a graph of static batch, the tail filled up."""
        return self.reader.in_batches(self._graphs[name], *inputs)

    def sample(self, x_t: Array, morphology: Array, motion: Array, steps: Sequence[Array]) -> Array:
        """The end of the DDIM loop from noise (n, c, y, x)."""

        def loop(x: Array, shape: Array, beat: Array) -> tuple[Array, ...]:
            return (self.step.start(x, {"morphology": shape, "motion": beat}, steps)(),)

        return self.reader.in_batches(loop, x_t, morphology, motion)[0]

    def close(self) -> None:
        self.reader.close()
        for engine in self._graphs.values():
            engine.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looked:
    """One slice before anything is synthesised."""

    pair: SlicePair
    grid: SliceGrid
    found: Match
    labels: NDArray[np.uint8]  # (t, y, x) of the cine, on the T1 images
    labels_t1: NDArray[np.uint8]
    motion: MotionSigns
    recovery: RecoverySigns
    features: Array  # F_morp
    centre: tuple[float, float]


class MieRun:
    """One T1 series with its cine."""

    def __init__(
        self, t1: Series, cine: Series, cine_survey: Survey, plan: MiePlan, engines: MieEngines, options: MieOptions
    ) -> None:
        self.t1, self.cine, self.plan, self.engines, self.options = t1, cine, plan, engines, options
        self._variance = cine_survey.variance
        diffusion = engines.bundle.manifest.diffusion
        self._steps = [step.array() for step in ddim_coefficients(diffusion.build(), options.steps)]

    def run(self, on_evaluation: Callable[[int], None] | None = None) -> "MieResult":
        """The whole result; ``on_evaluation`` receives how many windows went through one evaluation.

        UnusableError: no heart is found in the cine.
        """
        said = on_evaluation or (lambda n: None)
        window = self._window()
        grids = self._grids(window)
        chosen = np.round(np.arange(N_PHASES) * self.cine.n_frames / N_PHASES).astype(int)
        frames = [self.cine.frame(int(t)) for t in range(self.cine.n_frames)]
        pairs = self.plan.slices
        windows = np.stack(
            [[g.from_cine(frames[t][p.cine_z][None])[0] for g, p in zip(grids, pairs, strict=True)] for t in chosen]
        )
        beat = read_beat(windows, self.engines.reader)
        said(windows.shape[0] * windows.shape[1])
        start = int(chosen[beat.ed])
        t1_images = np.stack([self.t1.frame(t) for t in range(self.t1.n_frames)])
        turned = frames[start:] + frames[:start]
        read = np.roll(windows, -beat.ed, 0)
        looked = []
        for i, (grid, pair) in enumerate(zip(grids, pairs, strict=True)):
            looked.append(self._look(grid, pair, t1_images[:, pair.z], turned, read[:, i], beat.labels[:, i]))
            said(1)
        position = locate_slices(
            self.t1, self.cine, pairs, (turned[0], turned[self._es(beat)]), window, self.engines.reader,
        )  # fmt: skip
        images, probabilities = self._sampled(looked, said)
        septum = septum_angles(np.stack([one.labels[one.found.phase] for one in looked]), READING_MM)
        slices = tuple(
            self._finished(one, beat, images[i], probabilities[i], position[i], float(septum[i]))
            for i, one in enumerate(looked)
        )
        measured = measure(slices, gap_mm=self.t1.spacing_mm[0], n_inversions=self.t1.n_frames)
        return MieResult(
            frame=_placed(slices, grids, self.t1), affine=self.t1.affine, slices=slices, grids=grids,
            measured=measured, plan=self.plan,
        )  # fmt: skip

    def _window(self) -> ReadingWindow:
        """The window around the heart in the cine."""
        cine = self.cine
        middle = middle_slices(cine.shape[1])
        looked = np.stack([cine.frame(t)[middle] for t in sorted({0, cine.n_frames // 3})])
        _, y_mm, x_mm = cine.spacing_mm
        moving, _ = heart_centre(cine, self._variance)
        return find_heart(looked, moving, (y_mm, x_mm), self.engines.reader, cine.source.name)

    def _grids(self, window: ReadingWindow) -> tuple[SliceGrid, ...]:
        """The window of every slice, about where the heart is found in the cine."""
        y, x = window.centre
        grids = []
        for pair in self.plan.slices:
            fixed, beating = slice_affine(self.t1, pair.z), slice_affine(self.cine, pair.cine_z)
            at = np.linalg.inv(fixed) @ beating @ [x, y, pair.cine_z, 1]
            centre = (float(at[1]), float(at[0]))
            grids.append(SliceGrid(centre=centre, t1=fixed, z=pair.z, cine=beating, cine_z=pair.cine_z))
        return tuple(grids)

    def _es(self, beat: Beat) -> int:
        """The cine's frame of end systole, from end diastole on."""
        return round(beat.es * self.cine.n_frames / N_PHASES) % self.cine.n_frames

    def _look(
        self,
        grid: SliceGrid,
        pair: SlicePair,
        t1: Array,
        frames: list[Array],
        windows: Array,
        labels: NDArray[np.uint8],
    ) -> _Looked:
        """frames: the cine from end diastole on; windows, labels (t, y, x): of its phases that were read."""
        used = self.plan.used[:, pair.z]
        recovery = recovery_signs(grid.from_t1(t1[used]), self.plan.inversion_ms[used, pair.z])
        shown = (recovery.inversions, recovery.timing, recovery.t1, recovery.clusters)
        features, tissues = self.engines.run("morphology", *(part[None].astype(np.float32) for part in shown))
        labels_t1 = clean_labels(tissues.argmax(1).astype(np.uint8), READING_MM**2)[0]
        found = match(labels, windows, labels_t1, recovery.registered.images)
        moved = found.agreement >= SAME_HEART or found.edges >= SAME_EDGES
        shift = found.shift if moved else (0.0, 0.0)
        cine = np.stack([grid.from_cine(frame[pair.cine_z][None], shift)[0] for frame in frames])
        labels = np.roll(labels, tuple(-int(s) for s in shift), (1, 2))
        centre = _centre(labels)
        return _Looked(
            pair=pair, grid=grid, found=found, labels=labels, labels_t1=labels_t1,
            motion=motion_signs(cine, centre, READING_MM), recovery=recovery, features=features[0], centre=centre,
        )  # fmt: skip

    def _sampled(self, looked: list[_Looked], said: Callable[[int], None]) -> tuple[Array, Array]:
        """(images, scar probabilities), each (slices, samples, WINDOW, WINDOW)."""
        options, engines = self.options, self.engines
        (motion,) = engines.run(
            "kinematics", np.stack([s.motion.cine for s in looked]), np.stack([s.motion.motion for s in looked])
        )
        morphology = np.stack([s.features for s in looked])
        n, k = len(looked), options.samples
        channels, rows, columns = engines.latent
        x_t = np.stack([
            keyed_noise(options.seed, self.plan.digest, 0, s.pair.z, j, (channels * rows, columns))
            for s in looked for j in range(k)
        ]).reshape(n * k, channels, rows, columns)  # fmt: skip
        each = np.repeat(np.arange(n), k)
        x_t = engines.sample(x_t, morphology[each], motion[each], self._steps)
        said(n * k * len(self._steps))
        image, probability = engines.run("decoder", x_t, morphology[each])
        said(n * k)
        shape = (n, k, WINDOW, WINDOW)
        return np.maximum(image, 0).reshape(shape), probability.reshape(shape)

    def _finished(
        self, one: _Looked, beat: Beat, images: Array, probabilities: Array, where: Position, septum: float
    ) -> MieSlice:
        """Everything found in a slice; images, probabilities (samples, WINDOW, WINDOW)."""
        several = len(images) > 1
        factor = np.float32(self.engines.bundle.spread_factor(self.options.steps) or 1.0)
        probability = probabilities.mean(0)
        labels = one.labels[one.found.phase]
        segments, septum = segment_map(labels, READING_MM, where.level, where.seen_from_apex, septum)
        registered = one.recovery.registered
        times = np.sort(self.plan.inversion_ms[self.plan.used[:, one.pair.z], one.pair.z])
        return MieSlice(
            z=one.pair.z, cine_z=one.pair.cine_z, distance_mm=one.pair.distance_mm, level=where.level, septum=septum,
            image=images.mean(0), image_std=factor * images.std(0, ddof=1) if several else None,
            scar_probability=probability, scar_std=probabilities.std(0, ddof=1) if several else None,
            scar=scar_mask(probability, labels, READING_MM, self.options.threshold),
            labels=labels, labels_ed=one.labels[0], labels_t1=one.labels_t1, segments=segments,
            agreement=one.found.agreement, likeness=likeness(one.motion.cine, registered.images),
            inversions=registered.images,
            inversion_ms=times,
            shift_mm=registered.shift * READING_MM, registered=registered.moved, t1_ms=registered.fit.t1_ms,
            clusters=one.recovery.labels, cine=one.motion.cine, es=beat.es, centre=one.centre,
            kinematics=kinematics(beat_displacement(one.motion.cine, FINER), one.centre, READING_MM),
        )  # fmt: skip


def _placed(slices: Sequence[MieSlice], grids: Sequence[SliceGrid], t1: Series) -> MieFrame:
    """All slices on the grid of the T1 series."""
    n_z, n_y, n_x = t1.shape[1:]

    def placed(maps: Sequence[NDArray[Any] | None], *, nearest: bool = False) -> Array:
        out = np.zeros((n_z, n_y, n_x), np.float32)
        for grid, one in zip(grids, maps, strict=True):
            known = np.nan_to_num(np.asarray(one, np.float32))
            out[grid.z] = grid.to_t1(known[None], (n_y, n_x), nearest=nearest)[0]
        return out

    several = slices[0].image_std is not None
    return MieFrame(
        output=OUTPUT_UNIT * placed([s.image for s in slices]),
        std=OUTPUT_UNIT * placed([s.image_std for s in slices]) if several else None,
        scar_probability=placed([s.scar_probability for s in slices]),
        scar_std=placed([s.scar_std for s in slices]) if several else None,
        scar=placed([s.scar for s in slices], nearest=True).astype(np.uint8),
        t1_ms=placed([s.t1_ms for s in slices], nearest=True),
        e_cc=placed([s.kinematics.e_cc[s.es] for s in slices]),
        e_rr=placed([s.kinematics.e_rr[s.es] for s in slices]),
    )


def _centre(labels: NDArray[np.uint8]) -> tuple[float, float]:
    """Centre (y, x) of the LV cavity at end-diastole; of the myocardium, else of the window, where there is none."""
    for wanted in (labels[0] == LV, labels[0] == MYOCARDIUM):
        if wanted.any():
            y, x = np.argwhere(wanted).mean(0)
            return float(y), float(x)
    return (WINDOW - 1) / 2, (WINDOW - 1) / 2


def n_evaluations(plan: MiePlan, options: MieOptions) -> int:
    """Windows through a network, the unit of progress."""
    n = len(plan.slices)
    return n * (N_PHASES + 1 + options.samples * (options.steps + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class MieResult:
    """A T1 series enhanced in memory; ``affine`` is that of the T1 images, whose grid ``frame`` is on."""

    frame: MieFrame
    affine: NDArray[np.float64]
    slices: tuple[MieSlice, ...]
    grids: tuple[SliceGrid, ...]
    measured: MieMeasured
    plan: MiePlan

    @property
    def series(self) -> Series:
        """The synthetic enhancement (1, z, y, x), in thousandths of its bright signal."""
        return Series.from_array(self.frame.output[None], affine=self.affine, kind="lge")

    @property
    def std(self) -> Array | None:
        """Over the samples (1, z, y, x), None for one."""
        return None if self.frame.std is None else self.frame.std[None]


def run_mie(
    t1: Series, cine: Series, engines: MieEngines, options: MieOptions,
    *, on_evaluation: Callable[[int], None] | None = None,
) -> MieResult:  # fmt: skip
    """The whole pipeline in memory, with engines that are open. Raises the errors of ``cmrsr.errors``."""
    found, cine_found = survey(t1), survey(cine)
    plan = plan_mie(t1, cine, found.digest, options)
    return MieRun(t1, cine, cine_found, plan, engines, options).run(on_evaluation)


def enhance(
    cine: Series,
    t1: Series,
    *,
    engine: str = "cpkdm-s",
    options: MieOptions | None = None,
    choice: DeviceChoice | None = None,
) -> MieResult:
    """Synthesise late enhancement of T1 slices in memory: the call behind ``cmrsr mie``.

    Raises the errors of ``cmrsr.errors``.
    """
    options = options or MieOptions()
    reader = check_graphs(load(options.reader, "function"), READER)
    engines = MieEngines(ENGINE.load(engine), reader, options.batch_size, choice or DeviceChoice())
    try:
        return run_mie(t1, cine, engines, options)
    finally:
        engines.close()
