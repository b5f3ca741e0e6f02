"""What ``function`` decides about a cine before the first evaluation: matrix, whether to restore, heart rate."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnusableError, UsageError
from cmrsr.io.dicom.read.body import Body, read_body
from cmrsr.io.magnitude import refuse_maps
from cmrsr.io.planes import require_even_slices
from cmrsr.io.series import Series
from cmrsr.io.survey import Survey
from cmrsr.io.window import Affine, zero_filled
from cmrsr.physics.band import detect_band
from cmrsr.runtime.bundle import Bundle

COARSE_MM = 2.4  # pixels longer than this are doubled: the paper's are 3.6 mm before and 1.8 mm after
FULL_BAND = 0.75  # acquired share of k-space along both axes above which nothing is to be restored
LARGEST = 1024  # pixels of the output along either axis
MIN_FOV_MM = 60.0  # along either axis: less holds no heart
RATE_BPM = (25.0, 200.0)  # outside, the times of the frames are not those of one beat


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionOptions:
    """What a user may choose; the names are those of the command line.

    scale: of the matrix, None: 2 where pixels are coarse. super_resolve: None where k-space was not filled.
    """

    scale: int | None = None
    super_resolve: bool | None = None
    steps: int = 1
    samples: int = 1
    seed: int = 0
    batch_size: int = 8

    def __post_init__(self) -> None:
        if self.scale not in (None, 1, 2):
            raise UsageError(f"--scale {self.scale}: expected auto, 1 or 2")
        for flag, value, most in (
            ("steps", self.steps, 1000), ("samples", self.samples, 256), ("batch-size", self.batch_size, 1024),
        ):  # fmt: skip
            if not 1 <= value <= most:
                raise UsageError(f"--{flag} {value}: expected 1 to {most}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionPlan:
    """Everything decided about one series before the first evaluation.

    matrix: (y, x) of the output; padded: that the denoiser runs at. acquired: share of k-space along (y, x) of the
    output's matrix. position: (t,) of the frames in the beat, 0..1.
    """

    scale: int
    super_resolved: bool
    matrix: tuple[int, int]
    padded: tuple[int, int]
    acquired: tuple[float, float]
    affine: Affine
    position: NDArray[np.float64]
    heart_rate_bpm: float | None
    digest: str
    notes: tuple[str, ...]
    body: Body = field(default_factory=Body)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size (z, y, x) of the output."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(z), float(y), float(x)

    @property
    def mirrored(self) -> bool:
        """Whether voxel x, y, z of the output are left-handed in RAS."""
        return bool(np.linalg.det(self.affine[:3, :3]) < 0)


def plan_function(series: Series, found: Survey, bundle: Bundle, options: FunctionOptions) -> FunctionPlan:
    """Decide everything about a series; UnusableError where its function cannot be measured."""
    refuse_maps(series)
    name, (n_t, n_z, n_y, n_x) = series.source.name, series.shape
    _, y_mm, x_mm = series.spacing_mm
    if n_t < 2:
        raise UnusableError(
            f"{name}: one phase of the beat, expected at least two (end diastole and end systole): give the whole "
            "cine, or both phases as two files in one folder; if time is another axis of the file, name it with "
            "--time-axis"
        )
    if n_z < 2:
        raise UnusableError(
            f"{name}: one slice, expected a short-axis stack: volumes are sums over slices; if each slice is a series "
            "of its own, give the folder that holds them all"
        )
    require_even_slices(series, "volumes are sums over slices")
    if min(n_y * y_mm, n_x * x_mm) < MIN_FOV_MM:
        raise UnusableError(
            f"{name}: a field of view of {n_x * x_mm:.0f} x {n_y * y_mm:.0f} mm, expected at least {MIN_FOV_MM:.0f} "
            "mm: correct the pixel spacing, or name the time axis with --time-axis"
        )
    notes: list[str] = []
    scale = options.scale or (2 if max(y_mm, x_mm) > COARSE_MM else 1)
    if max(n_y, n_x) * scale > LARGEST:
        raise UnusableError(f"{name}: {n_x}x{n_y} pixels x {scale}, expected at most {LARGEST}: use --scale 1")
    acquired = tuple(detect_band(power).fraction / scale for power in (found.power_y, found.power_x))
    missing = min(acquired) < FULL_BAND
    restore = missing if options.super_resolve is None else options.super_resolve
    if not restore:
        why = "--no-super-resolve" if options.super_resolve is False else "its k-space is filled"
        notes.append(f"measured as it is, without super-resolution: {why}")
    affine = series.affine
    for axis, size in ((0, n_x), (1, n_y)) if scale > 1 else ():
        affine = zero_filled(affine, axis, size, scale * size)
    trained = bundle.manifest.trained
    low, high = trained.spacing_mm
    fine, coarse = min(y_mm, x_mm) / scale, max(y_mm, x_mm) / scale
    if restore and not low * 0.95 <= fine <= coarse <= high * 1.05:
        notes.append(
            f"pixels of {fine:.3g} to {coarse:.3g} mm after super-resolution, the engine was trained on {low:g} to "
            f"{high:g} mm: look at the images with care"
        )
    if series.kind not in ("cine", "unknown"):
        notes.append(f"this looks like a {series.kind} series; the engine {bundle.manifest.name} was made for cine")
    if n_t == 2:
        notes.append("two phases: the larger LV is taken for end diastole, the smaller for end systole")
    stride = bundle.manifest.step.stride
    matrix = (scale * n_y, scale * n_x)
    return FunctionPlan(
        scale=scale, super_resolved=restore, matrix=matrix, acquired=(acquired[0], acquired[1]),
        padded=(-(-matrix[0] // stride) * stride, -(-matrix[1] // stride) * stride), affine=affine,
        position=np.arange(n_t) / n_t, heart_rate_bpm=_heart_rate(series), digest=found.digest, notes=tuple(notes),
        body=read_body(series),
    )  # fmt: skip


def _heart_rate(series: Series) -> float | None:
    """Heart rate (bpm) of a series whose frames cover one cycle; None where times are missing or impossible."""
    if series.times_ms is None or series.n_frames < 8:
        return None
    times = np.asarray(series.times_ms, np.float64).reshape(series.n_frames, -1).mean(1)
    beat = (times[-1] - times[0]) * series.n_frames / (series.n_frames - 1)
    rate = 60_000 / beat if beat > 0 else 0.0
    return float(rate) if RATE_BPM[0] <= rate <= RATE_BPM[1] else None
