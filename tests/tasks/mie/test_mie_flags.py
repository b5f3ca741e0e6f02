from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cmrsr.tasks.mie.flags import MieEvidence, find_flags

NAN = float("nan")


def evidence(**changes: Any) -> MieEvidence:
    """Of three sound slices."""
    sound = MieEvidence(
        z=np.array([0, 2, 4]), wall_mm2=np.full(3, 1800.0), agreement=np.full(3, 0.85),
        likeness=np.full(3, 0.7), shift_mm=np.full(3, 2.0),
        registered=np.ones(3, bool), distance_mm=np.full(3, 1.0), septum=np.ones(3, bool), located=True,
        n_inversions=8, uncertainty_percent=2.0, t1_wall_ms=1050.0, t1_blood_ms=1650.0, scar_g=12.0,
        scar_percent=15.0, e_cc_scar_percent=-4.0, e_cc_rest_percent=-18.0,
    )  # fmt: skip
    return replace(sound, **changes)


def test_a_sound_case_raises_nothing() -> None:
    assert find_flags(evidence()) == ()
    assert find_flags(evidence(scar_g=0.0, scar_percent=0.0, e_cc_scar_percent=NAN)) == ()
    assert find_flags(evidence(t1_wall_ms=1250.0, t1_blood_ms=1950.0)) == ()  # at 3 T


SPOILT: list[tuple[dict[str, Any], str, str]] = [
    ({"wall_mm2": np.array([1800.0, 0.0, 900.0])}, "wall_lost", "slice 3"),
    (
        {"agreement": np.array([0.85, 0.4, 0.3]), "likeness": np.full(3, 0.4)},
        "hearts_differ",
        "slices 3, 5 (Dice 0.30)",
    ),
    ({"agreement": np.full(3, 0.2), "likeness": np.full(3, 0.4)}, "hearts_differ", "all slices"),
    ({"likeness": np.array([0.3, 0.1, 0.2])}, "hearts_differ", "likeness 0.20, expected 0.3 or more"),
    ({"t1_blood_ms": 320.0, "t1_wall_ms": 450.0}, "contrast_suspected", "320 ms in blood and 450 ms in the wall"),
    ({"t1_blood_ms": NAN, "t1_wall_ms": 700.0}, "contrast_suspected", "unknown length in blood"),
    ({"t1_blood_ms": 900.0}, "contrast_suspected", "900 ms in blood"),
    ({"t1_wall_ms": 1700.0}, "t1_implausible", "1700 ms"),
    ({"t1_wall_ms": NAN}, "t1_implausible", "No T1"),
    ({"registered": np.array([True, False, True])}, "motion_uncorrected", "slice 3"),
    ({"shift_mm": np.array([1.0, 2.0, 7.6])}, "large_motion", "8 mm between the T1 images of slice 5"),
    ({"n_inversions": 7}, "few_inversions", "7 T1 images a slice"),
    ({"distance_mm": np.array([0.0, 5.6, 1.0])}, "slices_apart", "6 mm from slice 3"),
    ({"uncertainty_percent": 18.0}, "uncertain", "18 % of the wall, and calls 15 %"),
    ({"septum": np.array([False, True, True])}, "septum_lost", "slice 1"),
    ({"located": False}, "levels_unknown", "apex and base"),
    ({"e_cc_scar_percent": -17.0}, "scar_moves", "(12 g) shortens by 17 %, the rest of the wall by 18 %"),
]


@pytest.mark.parametrize(("changes", "code", "words"), SPOILT)
def test_a_doubt_is_one_sentence_with_what_was_found(changes: dict[str, Any], code: str, words: str) -> None:
    (flag,) = find_flags(evidence(**changes))
    assert flag.code == code
    assert words in flag.message
    assert flag.message.endswith(".")
    assert "nan" not in flag.message


def test_a_shift_that_could_not_be_registered_is_told_once() -> None:
    both = evidence(registered=np.array([True, False, True]), shift_mm=np.array([1.0, 30.0, 1.0]))
    assert [f.code for f in find_flags(both)] == ["motion_uncorrected"]


def test_a_little_scar_need_not_move_in_a_way_of_its_own() -> None:
    assert find_flags(evidence(scar_g=0.5, e_cc_scar_percent=-18.0)) == ()
    assert find_flags(evidence(e_cc_scar_percent=-9.0, e_cc_rest_percent=-7.0)) == ()  # nor one in a heart that is weak


def test_where_no_heart_is_found_that_alone_is_said() -> None:
    lost = evidence(wall_mm2=np.zeros(3), agreement=np.zeros(3), t1_wall_ms=NAN, t1_blood_ms=NAN, located=False)
    assert [f.code for f in find_flags(lost)] == ["heart_lost"]
