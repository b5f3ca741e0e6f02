"""What makes a synthetic enhancement doubtful: each doubt a sentence that says what was found and what to do."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmrsr.batch.flags import Flag
from cmrsr.tasks.mie.features.signs import N_INVERSIONS

Array = NDArray[np.float64]
# Of the edges of cine and T1 images, mean over the slices: ten virtual patients had 0.37 to 0.89, and 0.23 at most with
# the cine of another.
LEAST_LIKENESS = 0.3
SURE_LIKENESS = 0.5  # of a slice: from here on another reading of the T1 images is no sign of another heart
LEAST_AGREEMENT = 0.7  # Dice of the LV with its wall, read from the cine and from the T1 images
# Native T1 at 1.5 and 3 T: wall 900 to 1300 ms, up to 1450 in oedema or amyloid, blood 1400 to 2000 ms. Fifteen minutes
# after contrast agent: wall 350 to 600, blood 250 to 500 ms.
CONTRAST_BLOOD_MS, CONTRAST_WALL_MS = 1000.0, 800.0
LONGEST_WALL_MS = 1500.0
LARGEST_SHIFT_MM = 5.0  # between the T1 images of a slice: about a wall's width, and what left the plane is not undone
FAR_MM = 5.0  # between the slices of cine and T1
# Of the wall, see ``tasks.mie_measure.MieMeasured``. True scar blurred by a pixel gives 12 at most.
UNSURE_PERCENT = 15.0
LEAST_SCAR_G = 1.0  # less is too small to move in a way of its own
# Shortening of scar relative to the rest of the wall, where that shortens by so many percent at least: of 23 virtual
# infarcts followed by optical flow 21 have 0.64 at most, two 0.93. In weaker hearts motion tells nothing.
MOVES_AS_WELL, MOVES_PERCENT = 0.8, 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MieEvidence:
    """What the doubts are judged by. Arrays (n,), one value a slice; z: which slices, from 0.

    shift_mm: the largest between T1 images. registered: whether all of them could be. septum: whether the RV was found.
    located: whether the slices' levels along the ventricle are known. The numbers of the whole are those of
    ``tasks.mie_measure.MieMeasured``, NaN where unknown.
    """

    z: NDArray[np.int64]
    wall_mm2: Array
    agreement: Array
    likeness: Array
    shift_mm: Array
    registered: NDArray[np.bool_]
    distance_mm: Array
    septum: NDArray[np.bool_]
    located: bool
    n_inversions: int
    uncertainty_percent: float
    t1_wall_ms: float
    t1_blood_ms: float
    scar_g: float
    scar_percent: float
    e_cc_scar_percent: float
    e_cc_rest_percent: float


def find_flags(of: MieEvidence) -> tuple[Flag, ...]:
    """All doubts about a case, none for a sound one; where no wall was found in any slice, that alone."""
    if not (of.wall_mm2 > 0).any():
        return (
            Flag(
                code="heart_lost",
                message="No wall of a left ventricle was found in any slice: check that these are short-axis slices.",
            ),
        )
    checks = (_lost, _agreement, _contrast, _native, _motion, _few, _distance, _unsure, _segments, _contradiction)
    return tuple(Flag(code=code, message=message) for check in checks for code, message in check(of))


Found = Iterator[tuple[str, str]]


def _lost(of: MieEvidence) -> Found:
    lost = of.wall_mm2 <= 0
    if lost.any():
        yield (
            "wall_lost",
            f"No wall of the left ventricle was found in {_slices(of, lost)}: scar there is not looked for.",
        )


def _agreement(of: MieEvidence) -> Found:
    poor = (of.agreement < LEAST_AGREEMENT) & (of.likeness < SURE_LIKENESS) & (of.wall_mm2 > 0)
    if poor.any():
        yield (
            "hearts_differ",
            f"Cine and T1 images do not show the heart in the same place in {_slices(of, poor)} (Dice "
            f"{of.agreement[poor].min():.2f}): check that both are of one patient and one examination.",
        )
    elif of.likeness.mean() < LEAST_LIKENESS:
        yield (
            "hearts_differ",
            f"What surrounds the heart differs between cine and T1 images (likeness {of.likeness.mean():.2f}, expected "
            f"{LEAST_LIKENESS:g} or more): check that both are of one patient and one examination.",
        )


def _contrast(of: MieEvidence) -> Found:
    if of.t1_blood_ms < CONTRAST_BLOOD_MS or of.t1_wall_ms < CONTRAST_WALL_MS:
        yield (
            "contrast_suspected",
            f"T1 of {_ms(of.t1_blood_ms)} in blood and {_ms(of.t1_wall_ms)} in the wall is too short for native "
            "images: check that they were taken before contrast agent was given, and the inversion times.",
        )


def _native(of: MieEvidence) -> Found:
    if not of.t1_wall_ms <= LONGEST_WALL_MS:  # NaN too
        found = f"T1 of {_ms(of.t1_wall_ms)} in the wall" if np.isfinite(of.t1_wall_ms) else "No T1 in the wall"
        yield (
            "t1_implausible",
            f"{found}, expected up to {LONGEST_WALL_MS:.0f} ms: check the inversion times and the outline of the wall.",
        )


def _motion(of: MieEvidence) -> Found:
    failed = ~of.registered
    if failed.any():
        yield (
            "motion_uncorrected",
            f"Motion between the T1 images could not be corrected in {_slices(of, failed)}: compare the T1 map there "
            "with the images.",
        )
    large = of.registered & (of.shift_mm > LARGEST_SHIFT_MM)
    if large.any():
        yield (
            "large_motion",
            f"The heart moved by up to {of.shift_mm[large].max():.0f} mm between the T1 images of "
            f"{_slices(of, large)}: what left the plane cannot be corrected, compare the T1 map there with the images.",
        )


def _few(of: MieEvidence) -> Found:
    if of.n_inversions < N_INVERSIONS:
        yield (
            "few_inversions",
            f"{of.n_inversions} T1 images a slice where the model was trained on {N_INVERSIONS}: read the "
            "result with care, or give all images of the series.",
        )


def _distance(of: MieEvidence) -> Found:
    far = of.distance_mm > FAR_MM
    if far.any():
        yield (
            "slices_apart",
            f"The cine slices lie up to {of.distance_mm[far].max():.0f} mm from {_slices(of, far)} of the T1 series: "
            "motion and tissue are not of the same place there.",
        )


def _unsure(of: MieEvidence) -> Found:
    if of.uncertainty_percent > UNSURE_PERCENT:
        yield (
            "uncertain",
            f"The model is unsure of {of.uncertainty_percent:.0f} % of the wall, and calls {of.scar_percent:.0f} % of "
            "it scar: do not rely on the extent.",
        )


def _segments(of: MieEvidence) -> Found:
    lost = ~of.septum & (of.wall_mm2 > 0)
    if lost.any():
        yield (
            "septum_lost",
            f"No right ventricle was found beside the wall in {_slices(of, lost)}: segments are missing "
            "or unsure there.",
        )
    if not of.located:
        yield (
            "levels_unknown",
            "Where the slices lie between apex and base is unknown, so that there are no segments: give a cine that "
            "covers the whole ventricle.",
        )


def _contradiction(of: MieEvidence) -> Found:
    scar, rest = of.e_cc_scar_percent, of.e_cc_rest_percent
    if of.scar_g >= LEAST_SCAR_G and rest <= -MOVES_PERCENT and scar <= MOVES_AS_WELL * rest:
        yield (
            "scar_moves",
            f"In the cine the scar ({of.scar_g:.0f} g) shortens by {-scar:.0f} %, the rest of the "
            f"wall by {-rest:.0f} %: motion gives no support to this scar.",
        )


def _ms(value: float) -> str:
    return f"{value:.0f} ms" if np.isfinite(value) else "unknown length"


def _slices(of: MieEvidence, which: NDArray[np.bool_]) -> str:
    """Slices, from 1, as a reader counts them."""
    if which.all() and len(which) > 1:
        return "all slices"
    numbers = [str(z + 1) for z in of.z[which]]
    return f"slice{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"
