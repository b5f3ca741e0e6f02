"""The colours of T1 and strain: one scale for all slices of a case, and for all cases of one field strength."""

STRAIN_MAP, STRAIN_LIMITS = "RdBu_r", (-25.0, 25.0)  # percent; blue shortens, white is still, red is stretched
T1_MAP = "viridis"
# Native T1 of healthy wall: about 1000 ms at 1.5 T, 1200 ms at 3 T; of blood 1550 and 1850 ms.
HIGH_FIELD_FROM_MS = 1100.0
T1_LIMITS_MS = {"1.5 T": (600.0, 1700.0), "3 T": (700.0, 2000.0)}
WALL_LIMITS_MS = {"1.5 T": (900.0, 1200.0), "3 T": (1100.0, 1400.0)}


def field_strength(t1_wall_ms: float) -> str:
    """The field strength that a wall's T1 speaks for; 1.5 T where it is unknown (NaN)."""
    return "3 T" if t1_wall_ms >= HIGH_FIELD_FROM_MS else "1.5 T"


def t1_limits(t1_wall_ms: float) -> tuple[float, float]:
    """Colour limits of a T1 map of myocardium and blood, ms."""
    return T1_LIMITS_MS[field_strength(t1_wall_ms)]


def wall_t1_limits(t1_wall_ms: float) -> tuple[float, float]:
    """Colour limits of a T1 map of the myocardium alone, ms."""
    return WALL_LIMITS_MS[field_strength(t1_wall_ms)]
