"""One scan of a virtual patient: what the scanner writes, what its header says, and what is true of it."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cmrsr.io.series import Axis, Kind, Series, Source

Sequence = Literal["bssfp", "saturation-recovery", "molli", "inversion-recovery"]
LABELS = {"rv": 1, "myocardium": 2, "lv": 3, "scar": 4}  # scar is myocardium too; papillary muscles count as cavity


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanHeader:
    """What a scanner writes beside the pixels. Times in ms unless said; arrays (t, z) for every frame and slice."""

    sequence: Sequence
    description: str  # of the series, as a protocol would name it
    series_number: int
    tr_ms: float
    te_ms: float
    flip_deg: float
    field_t: float  # 1.5 or 3.0
    beat_ms: float  # mean interval between R waves
    thickness_mm: float
    gap_mm: float  # from centre to centre of neighbouring slices
    phase_axis: Axis
    phase_lines: int  # acquired, of as many as the image has pixels along that axis
    contrast: bool  # after a contrast agent
    trigger_ms: NDArray[np.float64]  # (t, z) since the last R wave
    acquired_s: NDArray[np.float64]  # (t, z) since the examination began
    inversion_ms: NDArray[np.float64] | None = None  # (t, z), of the sequences with an inversion


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualScan:
    """A scan ``(t, z, y, x)`` with its truth.

    times_ms: (t,) or (t, z): after the R wave (cine, LGE), since the first beat (perfusion), after inversion (T1).
    clean: the same images without noise. labels: see ``LABELS``.
    volumes: further truth on the scan's grid, each (t, z, y, x) or (t, z, y, x, 3), float32 or uint8, by name
    ("aha", "strain", "displacement", "t1_ms", ...). truth: numbers for ``truth.json``.
    """

    name: str  # of its files: "cine_sax", "cine_4ch", "perfusion_stress", "perfusion_rest", "t1", "lge"
    kind: Kind
    frames: NDArray[np.float32]
    clean: NDArray[np.float32]
    labels: NDArray[np.uint8]
    affine: NDArray[np.float64]
    times_ms: NDArray[np.float64]
    header: ScanHeader
    volumes: dict[str, NDArray[Any]] = field(default_factory=dict)
    truth: dict[str, Any] = field(default_factory=dict)

    def series(self) -> Series:
        """The scan as every task takes it."""
        return Series.from_array(
            self.frames, affine=self.affine, times_ms=self.times_ms, kind=self.kind,
            phase_axis=self.header.phase_axis, source=Source(name=self.name),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a virtual patient is, as a header says it."""

    seed: int
    subject: int  # from 1
    sex: Literal["M", "F"]
    age_years: int
    height_cm: float
    weight_kg: float

    @property
    def name(self) -> str:
        return f"subject{self.subject:03d}"

    @property
    def bsa_m2(self) -> float:
        """Body surface area by Mosteller 1987."""
        return float(np.sqrt(self.height_cm * self.weight_kg / 3600))
