"""The left ventricle at end diastole: a truncated, bullet-shaped prolate with a wall, cut by a tilted valve plane.

Lengths in mm, in the heart's own frame: z runs along the long axis from the epicardial apex (0) to the base, the angle
about it is 0 at the middle of the septum, pi/2 anterior, pi lateral, 3 pi/2 inferior.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from cmrsr.physics.volumes import DENSITY_G_ML

Array = NDArray[np.float64]
N_THETA, N_Z = 96, 240  # of the quadratures: volumes to 0.1 %
APEX_SHARE = 0.7  # wall thickness at the apex relative to the equator


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftVentricle:
    """The outlines: R_endo(theta, z) and R_epi(theta, z), both material surfaces of the motion.

    With u = (z - equator) / length: R_endo = radius sqrt(1 - |u|^power) below the equator, radius sqrt(1 - u^2) above,
    times 1 + ripple; the wall is the gap to the like surface that is ``wall`` wider, times 1 + thickening, always > 0.
    """

    radius: float  # endocardial, at the equator
    length: float  # from the endocardial apex to the equator
    power: float  # 2 is an ellipsoid, more is a bullet
    wall: float
    base: float  # height of the valve plane on the axis, in units of ``length`` above the equator
    tilt: float  # slope of the valve plane: it cuts the cavity at z = base + tilt x cos(theta - tilt_angle)
    tilt_angle: float
    ripple: NDArray[np.float64]  # (n, 3): order, amplitude, phase of the outlines' harmonics
    thickening: NDArray[np.float64]  # (m, 5): amplitude, angle, angular width, z centre and z width in units of length

    @property
    def apex_wall(self) -> float:
        return APEX_SHARE * self.wall

    @property
    def equator(self) -> float:
        return self.apex_wall + self.length

    @property
    def base_z(self) -> float:
        """Height of the valve plane on the axis."""
        return self.equator + self.base * self.length

    @property
    def top_z(self) -> float:
        """Height that no part of the ventricle exceeds."""
        return self.base_z + 1.25 * abs(self.tilt) * (self.radius + 2 * self.wall)

    def endo(self, theta: Array, z: Array) -> Array:
        """Endocardial radius; 0 in the apical cap."""
        return self._plain_endo(z) * (1 + self._ripple(theta, z))

    def epi(self, theta: Array, z: Array) -> Array:
        """Epicardial radius; 0 below the apex."""
        return self.surfaces(theta, z)[1]

    def surfaces(self, theta: Array, z: Array) -> tuple[Array, Array]:
        """Endocardial and epicardial radius."""
        plain = self._plain_endo(z)
        endo = plain * (1 + self._ripple(theta, z))
        u = (z - self.equator) / (self.length + np.where(z < self.equator, self.apex_wall, self.wall))
        epi = (self.radius + self.wall) * _profile(u, self.power)
        relative = np.ones_like(endo)
        for amplitude, angle, width, centre, height in self.thickening:
            spread = (1 - np.cos(theta - angle)) / (1 - np.cos(width))
            along = ((z - self.equator) / self.length - centre) / height
            relative = relative + amplitude * np.exp(-spread - along**2)
        return endo, np.asarray(endo + (epi - plain) * relative)

    def below_valve(self, theta: Array, z: Array, r: Array) -> NDArray[np.bool_]:
        """Whether a point of the reference state lies on the ventricle's side of the valve plane."""
        return np.asarray(z < self.base_z + self.tilt * r * np.cos(theta - self.tilt_angle))

    def depth(self, theta: Array, z: Array, r: Array) -> Array:
        """Position in the wall of the reference state, 0 at the endocardium and 1 at the epicardium."""
        endo, epi = self.surfaces(theta, z)
        return np.asarray((r - endo) / np.maximum(epi - endo, 1e-6))

    def _plain_endo(self, z: Array) -> Array:
        return self.radius * _profile((z - self.equator) / self.length, self.power)

    def _ripple(self, theta: Array, z: Array) -> Array:
        shift = (z - self.equator) / self.length
        total = np.zeros_like(z * theta)
        for order, amplitude, phase in self.ripple:
            total = total + amplitude * np.cos(order * theta + phase + 0.8 * shift)
        return total


def _profile(u: Array, power: float) -> Array:
    square = np.where(u < 0, 1 - np.abs(u) ** power, 1 - u * u)
    return np.sqrt(np.maximum(square, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Quadrature:
    """Volume elements dV (theta, z) in mm3 of cavity and wall below the valve plane, on the grid of theta and z."""

    theta: NDArray[np.float64]  # (N_THETA, 1)
    z: NDArray[np.float64]  # (N_Z,)
    cavity: NDArray[np.float64]  # (N_THETA, N_Z)
    wall: NDArray[np.float64]

    @property
    def cavity_ml(self) -> float:
        return float(self.cavity.sum()) / 1000

    @property
    def wall_ml(self) -> float:
        return float(self.wall.sum()) / 1000


def quadrature(lv: LeftVentricle) -> Quadrature:
    """Midpoint rule in theta and z; along r the volume up to the tilted plane is integrated exactly."""
    theta = ((np.arange(N_THETA) + 0.5) * 2 * np.pi / N_THETA)[:, None]
    dz = lv.top_z / N_Z
    z = np.asarray((np.arange(N_Z) + 0.5) * dz)
    cell = dz * 2 * np.pi / N_THETA
    slope = lv.tilt * np.cos(theta - lv.tilt_angle)
    above = z - lv.base_z
    with np.errstate(divide="ignore"):
        crossing = np.where(slope == 0, np.inf, above / np.where(slope == 0, 1.0, slope))  # r where the plane is met

    def half_square(r: Array) -> Array:
        """The integral of r' dr' from 0 to r over the part below the plane."""
        rising = np.where(slope > 0, np.maximum(r**2 - np.maximum(crossing, 0) ** 2, 0), 0)
        falling = np.where(slope < 0, np.minimum(r, np.maximum(crossing, 0)) ** 2, r**2)
        return np.asarray(np.where(above <= 0, falling, rising) / 2)

    endo, epi = lv.surfaces(theta, z)
    cavity = half_square(endo) * cell
    return Quadrature(theta=theta, z=z, cavity=cavity, wall=half_square(epi) * cell - cavity)


def shape_to(lv: LeftVentricle, edv_ml: float, mass_g: float) -> LeftVentricle:
    """The ventricle of the same proportions with this cavity volume, and with the wall that gives this mass."""
    scale = (edv_ml / quadrature(lv).cavity_ml) ** (1 / 3)
    lv = replace(lv, radius=lv.radius * scale, length=lv.length * scale)

    def excess(wall: float) -> float:
        return quadrature(replace(lv, wall=wall)).wall_ml * DENSITY_G_ML - mass_g

    # the cavity does not change with the wall: its heights are relative to the equator
    return replace(lv, wall=float(brentq(excess, 0.5, 40.0, xtol=1e-4)))
