"""Small virtual scans of every kind for tests: smooth random images, an oblique plane, headers as scanners write."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cmrsr.io.series import Kind
from cmrsr.phantom.scan import Identity, ScanHeader, Sequence, VirtualScan

NAMES = ("cine_sax", "cine_4ch", "perfusion_stress", "t1", "lge")
IDENTITY = Identity(seed=4, subject=2, sex="F", age_years=61, height_cm=171.5, weight_kg=66.25)
MOLLI_MS = np.array([100.0, 180.0, 1012.5, 1090.0, 1950.0, 2030.0, 2910.0, 3820.0])  # two inversions, interleaved
MOLLI_ORDER = np.array([0, 5, 1, 6, 2, 7, 3, 4])  # when each of them was acquired
_KINDS: dict[str, Kind] = {"cine": "cine", "perfusion": "perfusion", "t1": "t1", "lge": "lge"}
# Exactly orthonormal, oblique to all three axes.
_X, _Y = np.array([2.0, 1.0, -2.0]) / 3, np.array([1.0, 2.0, 2.0]) / 3


def images(n_t: int, n_z: int) -> NDArray[np.float32]:
    """(t, z, 36, 30), smooth, all different, 0 to 1500 and not whole numbers."""
    noise = np.random.default_rng(n_t * 100 + n_z).normal(size=(n_t, n_z, 36, 30))
    smooth = gaussian_filter(noise, (0, 0, 3, 3))
    return ((smooth - smooth.min()) / np.ptp(smooth) * 1500).astype(np.float32)


def virtual_scan(name: str) -> VirtualScan:
    """A scan by one of ``NAMES``: 3 slices, or the single one of a long axis."""
    rng = np.random.default_rng(5)
    n_t, n_z = {"cine_sax": (9, 3), "cine_4ch": (9, 1), "perfusion_stress": (10, 3), "t1": (8, 3), "lge": (1, 3)}[name]
    t, z = np.indices((n_t, n_z)).astype(np.float64)
    sequence: Sequence
    inversion = None
    affine = np.eye(4)
    affine[:3, :3] = np.stack([1.625 * _X, 1.75 * _Y, (10.0 if n_z > 1 else 8.0) * np.cross(_X, _Y)], axis=1)
    affine[:3, 3] = -41.5, 17.25, 88.0
    match name.split("_")[0]:
        case "cine":
            sequence, trigger = "bssfp", t * (88.0 + (z if n_z > 1 else 0.0))  # the heart rate drifts between slices
            acquired = 61.0 + 14 * z + trigger / 1000
            times = trigger
            affine[:3, 2] *= -1  # from base to apex: against the normal of rows and columns
        case "perfusion":
            beats = np.cumsum(rng.uniform(700, 900, n_t))[:, None]
            sequence, trigger = "saturation-recovery", 60 + 180 * z + rng.normal(0, 2, t.shape)
            times = beats - beats[0] + trigger - trigger[0].min()
            acquired = 300 + times / 1000
        case "t1":
            sequence, inversion, trigger = "molli", np.tile(MOLLI_MS[:, None], n_z), np.full((n_t, n_z), 512.0)
            acquired = 640 + 30 * z + 0.88 * MOLLI_ORDER[:, None]
            times = MOLLI_MS
        case _:
            sequence, inversion, trigger = "inversion-recovery", 290 + 2.5 * z, np.full((n_t, n_z), 612.0)
            acquired, times = 905 + 14 * np.array([[0.0, 2.0, 1.0]]), trigger[:, 0]
    frames = images(n_t, n_z)
    header = ScanHeader(
        sequence=sequence, description=name.replace("_", " "), series_number=20, tr_ms=2.75, te_ms=1.2, flip_deg=35.0,
        field_t=3.0, beat_ms=880.0, thickness_mm=8.0, gap_mm=10.0, phase_axis="x" if name == "lge" else "y",
        phase_lines=20,
        contrast=name in ("perfusion_stress", "lge"), trigger_ms=trigger, acquired_s=acquired, inversion_ms=inversion,
    )  # fmt: skip
    volumes = {
        "aha": (frames // 100).astype(np.uint8),
        "t1_ms": frames * np.float32(1.1),
        "displacement": rng.normal(size=(*frames.shape, 3)).astype(np.float32),
    }
    return VirtualScan(
        name=name, kind=_KINDS[name.split("_")[0]], frames=frames, clean=gaussian_filter(frames, (0, 0, 1, 1)),
        labels=(frames // 350).astype(np.uint8), affine=affine, times_ms=times, header=header, volumes=volumes,
    )  # fmt: skip
