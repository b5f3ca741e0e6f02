"""Native inversion-recovery images of the discs of ``tests.beating_heart``, with a scar whose area is known exactly."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from cmrsr.io.series import Series
from cmrsr.physics.volumes import LV, MYOCARDIUM, RV
from tests.beating_heart import FINER, Heart
from tests.infarct_engine import SCAR_T1_S, T1_S

Array = NDArray[np.float64]
UNIT = 400.0  # grey value of what has recovered
TIMES_MS = (100.0, 180.0, 260.0, 900.0, 980.0, 1700.0, 2500.0, 3300.0)


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """T1 images of a heart at one phase of its cine, in the same planes and pixels unless ``slices`` names some.

    scar: from and to which angle (degrees, from x towards y; the RV lies at 180) the wall is scarred, None for none.
    """

    heart: Heart = field(default_factory=Heart)
    phase: int = 0
    slices: tuple[int, ...] | None = None
    scar: tuple[float, float] | None = (-40.0, 40.0)
    times_ms: tuple[float, ...] = TIMES_MS

    @property
    def shown(self) -> tuple[int, ...]:
        """Slices of the heart that T1 images were taken of."""
        return tuple(range(self.heart.n_z)) if self.slices is None else self.slices

    @property
    def scar_mm2(self) -> Array:
        """(z,): area of scar in each slice."""
        low, high = self.scar or (0.0, 0.0)
        areas: Array = self.heart.areas_mm2[self.phase, list(self.shown), MYOCARDIUM - 1]
        return areas * (high - low) / 360

    def t1_s(self, z: int) -> NDArray[np.float32]:
        """T1 on a grid FINER times as fine as the pixels."""
        heart = self.heart
        fine = [
            (np.arange(n * FINER) - (n * FINER - 1) / 2) * p / FINER - c
            for n, p, c in zip(heart.matrix, heart.pixel_mm, heart.centre_mm, strict=True)
        ]
        y, x = np.meshgrid(*fine, indexing="ij", sparse=True)
        away, rv = (values[self.phase, z] for values in heart.rv_mm)
        squares = y**2 + x**2
        out = np.full(squares.shape, T1_S[0], np.float32)
        out[(x + away) ** 2 + y**2 < rv**2] = T1_S[RV]
        wall = squares < heart.outer_mm[self.phase, z] ** 2
        out[wall] = T1_S[MYOCARDIUM]
        if self.scar:
            middle, half = np.mean(self.scar), np.diff(self.scar)[0] / 2
            turned = (np.degrees(np.arctan2(y, x)) - middle + 180) % 360 - 180
            out[wall & (np.abs(turned) < half)] = SCAR_T1_S
        out[squares < heart.lv_mm[self.phase, z] ** 2] = T1_S[LV]
        return out

    def frames(self) -> NDArray[np.float32]:
        """Magnitude images (n, z, y, x) after a perfect inversion."""
        n_y, n_x = self.heart.matrix
        out = np.empty((len(self.times_ms), len(self.shown), n_y, n_x), np.float32)
        for i, z in enumerate(self.shown):
            t1 = self.t1_s(z)
            values, which = np.unique(t1, return_inverse=True)
            parts = which.reshape(n_y, FINER, n_x, FINER)
            masks = [(parts == k).mean((1, 3)) for k in range(len(values))]
            for k, time in enumerate(self.times_ms):
                signed = sum((1 - 2 * np.exp(-time / 1000 / v)) * mask for v, mask in zip(values, masks, strict=True))
                out[k, i] = np.abs(signed)
        return np.rint(UNIT * out)

    @property
    def affine(self) -> Array:
        """Of neighbouring slices, or of one."""
        steps = set(np.diff(self.shown)) or {1}
        assert len(steps) == 1, self.shown
        moved = self.heart.affine.copy()
        moved[:3, 3] += self.shown[0] * moved[:3, 2]
        moved[:3, 2] *= steps.pop()
        return moved

    def series(self) -> Series:
        return Series.from_array(self.frames(), affine=self.affine, times_ms=np.array(self.times_ms), kind="t1")

    def save_nifti(self, path: Path, *, with_times: bool = True) -> Path:
        """As int16 (x, y, z, n), the inversion times (s) in a JSON file beside it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        image = nib.Nifti1Image(self.frames().astype(np.int16).transpose(3, 2, 1, 0), self.affine)
        image.header.set_xyzt_units("mm", "sec")
        nib.save(image, path)
        if with_times:
            record = {"InversionTime": [t / 1000 for t in self.times_ms]}
            path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json").write_text(json.dumps(record))
        return path
