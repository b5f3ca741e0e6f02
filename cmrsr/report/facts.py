"""What the page of every task says about a case, in the same words."""

import math
from typing import Protocol

from cmrsr.report.page import duration
from cmrsr.runtime.bundle import Bundle

UNKNOWN = "–"
Fact = tuple[str, str]  # what it is, and its value in words; an empty value is left out of the page


class Sampling(Protocol):
    """The options that every diffusion task has."""

    @property
    def steps(self) -> int: ...
    @property
    def samples(self) -> int: ...
    @property
    def seed(self) -> int: ...


def counted(n: int, thing: str) -> str:
    """``1 slice``, ``3 slices``."""
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def matrix(shape_yx: tuple[int, int]) -> str:
    """Columns by rows, as scanners say it."""
    return f"{shape_yx[1]} × {shape_yx[0]}"


def spacing(spacing_mm: tuple[float, float, float]) -> Fact:
    """Voxel size, from (z, y, x)."""
    return "Spacing", " × ".join(f"{mm:.2f}" for mm in reversed(spacing_mm)) + " mm (x × y × z)"


def how(bundle: Bundle, options: Sampling, device: str, seconds: float) -> tuple[Fact, ...]:
    """By which engine, how, where and how fast the case was made."""
    return (
        ("Engine", bundle.manifest.name),
        ("Steps", str(options.steps)),
        ("Samples", str(options.samples)),
        ("Seed", str(options.seed)),
        ("Device", device),
        ("Time", duration(seconds)),
    )


def words(value: float | None, unit: str, digits: int = 0, unknown: str = UNKNOWN) -> str:
    """A value with its unit; ``unknown`` where there is none."""
    if value is None or not math.isfinite(value):
        return unknown
    return f"{round(value, digits) + 0.0:.{digits}f} {unit}".replace("-", "−")
