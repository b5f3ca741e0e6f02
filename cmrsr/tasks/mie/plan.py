"""What ``mie`` decides about a cine and a T1 series before the first evaluation: which slices belong together."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnusableError, UsageError
from cmrsr.io.magnitude import refuse_maps
from cmrsr.io.planes import normal_of, slice_centres, tilt_deg
from cmrsr.io.series import Series
from cmrsr.physics.t1_fit import after_recovery
from cmrsr.tasks.mie.features.signs import N_INVERSIONS
from cmrsr.tasks.mie.inputs.inversion_times import has_inversion_times, no_inversion_times, with_inversion_times
from cmrsr.tasks.mie.inputs.pairing import NEAR_MM, PARALLEL_DEG

LEAST_INVERSIONS = 4  # images of a magnitude fit of three numbers and signs
LEAST_PHASES = 8  # of a beat whose motion is followed
TOLD_DISTANCE_MM = 3.0
LEAST_OVERLAP_MM = 100.0  # of the two fields of view along either axis: less holds no heart
INVERSION_RANGE_MS = (20.0, 20000.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MieOptions:
    """What a user may choose; the names are those of the command line.

    ti: inversion times (ms) of the images in their order, where the files do not say. reader: the engine of
    ``function`` that reads the anatomy of the cine. threshold: probability from which a pixel counts as scar.
    """

    steps: int = 5
    samples: int = 8
    seed: int = 0
    batch_size: int = 8
    reader: str = "causal-s"
    ti: tuple[float, ...] | None = None
    threshold: float = 0.5

    def __post_init__(self) -> None:
        for flag, value, most in (
            ("steps", self.steps, 1000), ("samples", self.samples, 256), ("batch-size", self.batch_size, 1024),
        ):  # fmt: skip
            if not 1 <= value <= most:
                raise UsageError(f"--{flag} {value}: expected 1 to {most}")
        if not 0 < self.threshold < 1:
            raise UsageError(f"--threshold {self.threshold:g}: expected a probability between 0 and 1")
        if self.ti is not None and not all(INVERSION_RANGE_MS[0] <= t <= INVERSION_RANGE_MS[1] for t in self.ti):
            low, high = INVERSION_RANGE_MS
            raise UsageError(f"--ti {','.join(f'{t:g}' for t in self.ti)}: expected {low:g} to {high:g} ms each")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlicePair:
    """Slice ``z`` of the T1 series, the slice of the cine that is nearest, and how far apart they lie, mm."""

    z: int
    cine_z: int
    distance_mm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MiePlan:
    """Everything decided before the first evaluation. inversion_ms: (n, z) of the T1 series; used: (n, z), which images
    belong into one fit.
    """

    slices: tuple[SlicePair, ...]
    inversion_ms: NDArray[np.float64]
    used: NDArray[np.bool_]
    digest: str
    notes: tuple[str, ...]


def plan_mie(t1: Series, cine: Series, digest: str, options: MieOptions) -> MiePlan:
    """Decide everything about a T1 series and its cine; UnusableError where they cannot be used together.

    digest: of the T1 series, which keys the noise.
    """
    refuse_maps(t1)
    refuse_maps(cine)
    if cine.n_frames < LEAST_PHASES:
        many = "one phase" if cine.n_frames == 1 else f"{cine.n_frames} phases"
        raise UnusableError(
            f"{cine.source.name}: {many} of the beat, expected at least {LEAST_PHASES}: motion is followed from frame "
            "to frame; give the whole cine, and if time is another axis of the file, name it with --time-axis"
        )
    if t1.n_frames < LEAST_INVERSIONS:
        raise UnusableError(
            f"{t1.source.name}: {t1.n_frames} inversion-recovery images, expected {N_INVERSIONS}, at least "
            f"{LEAST_INVERSIONS}: give the source images of the T1 map, not the map"
        )
    times = inversion_times(t1, options.ti)
    notes: list[str] = []
    if t1.n_frames != N_INVERSIONS:
        how = "the fit fills in for those missing" if t1.n_frames < N_INVERSIONS else "eight are shown to it"
        notes.append(f"{t1.n_frames} inversion-recovery images, the model was trained on {N_INVERSIONS}: {how}")
    pairs, apart = _paired(t1, cine)
    if apart:
        lost = ", ".join(f"{z + 1} ({mm:.0f} mm)" for z, mm in apart)
        notes.append(f"T1 slices without a cine slice within {NEAR_MM:g} mm are left out: {lost}")
    far = [p for p in pairs if p.distance_mm > TOLD_DISTANCE_MM]
    if far:
        worst = max(p.distance_mm for p in far)
        notes.append(f"cine and T1 slices lie up to {worst:.1f} mm apart: motion and tissue are not quite of one slice")
    used = np.stack([after_recovery(one) for one in times.T], 1)
    if not used.all():
        left = ", ".join(f"{t:g}" for t in times[~used[:, 0], 0])
        notes.append(f"ShMOLLI: the images at {left} ms, inverted before they had recovered, are left out of the fit")
    return MiePlan(slices=pairs, inversion_ms=times, used=used, digest=digest, notes=tuple(notes))


def inversion_times(t1: Series, given: tuple[float, ...] | None) -> NDArray[np.float64]:
    """(n, z) in ms: those given, or the series' own. UnusableError: there are none. UsageError: not one an image."""
    series = with_inversion_times(t1, given) if given is not None else t1
    if not has_inversion_times(series):
        raise no_inversion_times(series)
    times = np.asarray(series.times_ms, np.float64)
    low, high = INVERSION_RANGE_MS
    if times.min() < low or times.max() > high:
        raise UnusableError(
            f"{t1.source.name}: inversion times of {times.min():g} to {times.max():g} ms, expected {low:g} to "
            f"{high:g}; name them in ms with --ti"
        )
    return np.repeat(times[:, None], t1.shape[1], 1) if times.ndim == 1 else times


def _paired(t1: Series, cine: Series) -> tuple[tuple[SlicePair, ...], list[tuple[int, float]]]:
    """The pairs, and the slices (with their distance) that have no partner."""
    tilt = tilt_deg(t1, cine)
    if tilt > PARALLEL_DEG:
        raise UnusableError(
            f"{t1.source.name} and {cine.source.name} cross at {tilt:.0f} degrees, expected parallel slices: give the "
            "short-axis cine of the same examination"
        )
    ours, theirs = slice_centres(t1), slice_centres(cine)
    _overlap(t1, cine)
    pairs, apart = [], []
    for z, centre in enumerate(ours):
        # where the normal through the middle of the T1 slice meets every slice of the cine
        distance = np.abs((theirs - centre) @ normal_of(cine.affine))
        nearest = int(distance.argmin())
        mm = float(distance[nearest])
        if mm <= NEAR_MM:
            pairs.append(SlicePair(z=z, cine_z=nearest, distance_mm=mm))
        else:
            apart.append((z, mm))
    if not pairs:
        raise UnusableError(
            f"{t1.source.name} and {cine.source.name} do not overlap: the nearest slices lie "
            f"{min(mm for _, mm in apart):.0f} mm apart, expected at most {NEAR_MM:g} mm; are they of the "
            "same examination?"
        )
    return tuple(pairs), apart


def _overlap(t1: Series, cine: Series) -> None:
    """UnusableError unless the fields of view share enough of the plane."""
    n_y, n_x = cine.shape[2:]
    corners = np.array([[x, y, 0, 1] for x in (-0.5, n_x - 0.5) for y in (-0.5, n_y - 0.5)]).T
    seen = (np.linalg.inv(t1.affine) @ cine.affine @ corners)[:2]
    _, y_mm, x_mm = t1.spacing_mm
    for axis, (size, mm) in enumerate(((t1.shape[3], x_mm), (t1.shape[2], y_mm))):
        shared = min(seen[axis].max(), size - 0.5) - max(seen[axis].min(), -0.5)
        if shared * mm < LEAST_OVERLAP_MM:
            raise UnusableError(
                f"{t1.source.name} and {cine.source.name} do not overlap: their fields of view share "
                f"{max(shared * mm, 0):.0f} mm along {'xy'[axis]}, expected at least {LEAST_OVERLAP_MM:g} mm; are they "
                "of the same examination?"
            )
