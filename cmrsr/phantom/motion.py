"""How the heart moves: one incompressible, explicitly invertible map, so that every volume and strain is known.

In the heart's frame a material point (R, T, Z) of end diastole lies at

    z = zeta Z,    theta = T + twist(Z),    r^2 = R^2 / zeta - k(T, Z) R_endo(T, Z)^2 / zeta

with the long-axis stretch zeta, and k the share of the cavity's area that is squeezed out.  det F = (r/R)(dr/dR)(dz/dZ)
= 1 in the wall whatever k and twist are.  In the cavity r^2 = (1 - k) R^2 / zeta joins on at the endocardium, hence the
cavity's volume is V = integral of (1 - k) dV over end diastole: the ejection fraction is the mean of k, exactly.
Source: the incompressible cylinder of Guccione et al. 1991 and Arts et al. 1992, with any outline and a regional k.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmrsr.phantom.ventricle import LeftVentricle, Quadrature

Array = NDArray[np.float64]
Field = Callable[[Array, Array], Array]
ISOVOLUMIC_MS = 66.0  # the volume stays least this long: at least one frame of a cine falls on it
ATRIAL_MS = 120.0  # of the atrial contraction that ends the cycle
MOST_SQUEEZED = 0.93  # of the cavity's area: beyond it the endocardium would close
FADE_MM = 60.0  # above the valves the descent of the base fades out over this height


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """The time course of one beat."""

    beat_ms: float
    systole_ms: float
    atrial_share: float  # of the filling

    def activation(self, time_ms: Array | float) -> Array:
        """0 at end diastole (the R wave), 1 at end systole: ejection, rest, early filling, diastasis, atrial kick."""
        t = np.mod(np.asarray(time_ms, dtype=np.float64), self.beat_ms)
        relaxed = self.systole_ms + ISOVOLUMIC_MS
        kick = self.beat_ms - min(ATRIAL_MS, 0.25 * (self.beat_ms - relaxed))
        early = min(220.0, 0.85 * (kick - relaxed))

        def step(start: float, length: float) -> Array:
            return np.asarray(0.5 - 0.5 * np.cos(np.pi * np.clip((t - start) / length, 0, 1)))

        filling = (1 - self.atrial_share) * step(relaxed, early) + self.atrial_share * step(kick, self.beat_ms - kick)
        return np.asarray(step(0.0, self.systole_ms) - filling)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contraction:
    """What the wall does at end systole. ``loss`` (theta, z) in 0..1: the share of its squeeze a region has lost."""

    shortening: float  # 1 - zeta at end systole
    squeeze: float  # k of healthy wall at end systole
    apex_twist: float  # rad about z, seen from the base
    base_twist: float
    loss: Field


def contraction_for(
    ef: float, quadrature: Quadrature, loss: Field, *, shortening: float, apex_twist: float, base_twist: float
) -> Contraction | None:
    """The contraction whose ejection fraction is ``ef`` (0..1), or None where healthy wall cannot make up for the loss.

    A region without function keeps its radius: r = R needs k = 1 - zeta there.
    """
    lost = loss(quadrature.theta, quadrature.z)
    total = quadrature.cavity.sum()
    passive = float((quadrature.cavity * lost).sum() / total)
    squeeze = (ef - shortening * passive) / (1 - passive)
    if not 0 <= squeeze <= MOST_SQUEEZED:
        return None
    return Contraction(
        shortening=shortening, squeeze=squeeze, apex_twist=apex_twist, base_twist=base_twist, loss=loss
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Material:
    """Where points of the moved heart were at end diastole, and the surfaces about them. Arrays of one shape, mm."""

    r: Array  # reference radius; inside the cavity that of the cavity's map
    theta: Array
    z: Array
    endo: Array  # radii of the moved surfaces at the point's height and angle
    epi: Array
    now_r: Array

    def take(self, index: NDArray[np.int64]) -> "Material":
        return Material(*(getattr(self, name)[index] for name in self.__slots__))


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """The map at activation ``a``: k, the shortening and the twist all grow with it."""

    lv: LeftVentricle
    contraction: Contraction

    def stretch(self, a: float) -> float:
        return 1 - self.contraction.shortening * a

    def squeezed(self, theta: Array, z: Array, a: float) -> Array:
        """k(theta, z), of material points."""
        c = self.contraction
        lost = c.loss(theta, z)
        return np.asarray(a * (c.shortening * lost + c.squeeze * (1 - lost)))

    def twist(self, z: Array, a: float) -> Array:
        c = self.contraction
        share = np.clip(z / self.lv.base_z, 0, 1.2)
        return np.asarray(a * (c.apex_twist + (c.base_twist - c.apex_twist) * share))

    def height(self, z: Array, a: float) -> Array:
        """z of material heights: zeta Z in the ventricle, unmoved below the apex, fading above the valves."""
        top, drop = self.lv.top_z, (1 - self.stretch(a)) * self.lv.top_z
        above = np.clip((z - top) / FADE_MM, 0, 1)
        return np.asarray(np.where(z < 0, z, np.where(z < top, self.stretch(a) * z, z - drop * (1 - above))))

    def material_height(self, z: Array, a: float) -> Array:
        """The inverse of ``height``."""
        top, zeta = self.lv.top_z, self.stretch(a)
        drop = (1 - zeta) * top
        above = (z + drop * (1 + top / FADE_MM)) / (1 + drop / FADE_MM)
        inside = np.where(z < 0, z, z / zeta)
        return np.asarray(np.where(z < zeta * top, inside, np.where(z < top + FADE_MM, above, z)))

    def forward(self, r: Array, theta: Array, z: Array, a: float) -> tuple[Array, Array, Array]:
        """(r, theta, z) at activation ``a`` of material points (R, T, Z) of wall and cavity."""
        zeta, k = self.stretch(a), self.squeezed(theta, z, a)
        endo = self.lv.endo(theta, z)
        wall = (r**2 - k * endo**2) / zeta
        square = np.where(r < endo, (1 - k) * r**2 / zeta, wall)
        return np.sqrt(np.maximum(square, 0)), theta + self.twist(z, a), self.height(z, a)

    def backward(self, r: Array, theta: Array, z: Array, a: float) -> Material:
        """The material points that lie at (r, theta, z) at activation ``a``; the inverse of ``forward``."""
        z0 = self.material_height(z, a)
        theta0 = theta - self.twist(z0, a)
        zeta, k = self.stretch(a), self.squeezed(theta0, z0, a)
        endo2, epi2 = (r0**2 for r0 in self.lv.surfaces(theta0, z0))
        now2 = r**2
        endo_now2 = (1 - k) * endo2 / zeta
        r0 = np.sqrt(np.where(now2 < endo_now2, zeta * now2 / (1 - k), zeta * now2 + k * endo2))
        epi = np.sqrt(np.maximum(epi2 - k * endo2, 0) / zeta)
        return Material(r=r0, theta=theta0, z=z0, endo=np.sqrt(endo_now2), epi=epi, now_r=r)

    def cavity_ml(self, quadrature: Quadrature, a: float) -> float:
        """The cavity's volume: the integral of (1 - k) dV over end diastole."""
        k = self.squeezed(quadrature.theta, quadrature.z, a)
        return float(((1 - k) * quadrature.cavity).sum()) / 1000

    def deformation_gradient(self, r: Array, theta: Array, z: Array, a: float) -> NDArray[np.float64]:
        """F (..., 3, 3) of wall points (R, T, Z), from (e_R, e_T, e_Z) at end diastole to (e_r, e_theta, e_z) now.

        Closed form but for the gradients of k R_endo^2, taken by central differences of its closed form.
        """
        now_r, _, _ = self.forward(r, theta, z, a)
        zeta, h = self.stretch(a), 1e-4

        def area(t: Array, height: Array) -> Array:
            return np.asarray(self.squeezed(t, height, a) * self.lv.endo(t, height) ** 2)

        by_theta = (area(theta + h, z) - area(theta - h, z)) / (2 * h)
        by_z = (area(theta, z + h) - area(theta, z - h)) / (2 * h)
        twist_by_z = (self.twist(z + h, a) - self.twist(z - h, a)) / (2 * h)
        now = np.maximum(now_r, 1e-6)
        f = np.zeros((*np.broadcast(r, theta, z).shape, 3, 3))
        f[..., 0, 0] = r / (zeta * now)
        f[..., 0, 1] = -by_theta / (2 * zeta * now * np.maximum(r, 1e-6))
        f[..., 0, 2] = -by_z / (2 * zeta * now)
        f[..., 1, 1] = now / np.maximum(r, 1e-6)
        f[..., 1, 2] = now * twist_by_z
        f[..., 2, 2] = zeta
        return f
