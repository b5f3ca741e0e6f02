from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cmrsr.heart.masks import clean_labels
from cmrsr.phantom.patient import Group
from cmrsr.physics.volumes import DENSITY_G_ML, LV, base_is_first, disc_areas, find_phases, ventricle, volumes_ml
from cmrsr.tasks.function.flags import Evidence, find_flags
from tests.label_stacks import PIXEL_MM, held, label_stack

HEARTS: list[tuple[int, Group]] = [(1, "normal"), (2, "dilated"), (3, "hypertrophic"), (4, "infarct"), (5, "rv")]
GAP_MM = 8.0
Stack = np.ndarray


def of_areas(areas: np.ndarray, centres: np.ndarray | None = None) -> Evidence:
    """Of areas (t, z, 3) in mm2: direct regression agrees, the masks are certain."""
    volumes = volumes_ml(areas, GAP_MM)
    ed, es = find_phases(volumes[:, 2])
    lv, rv = ventricle(volumes[:, 2], ed, es), ventricle(volumes[:, 0], ed, es)
    base_first = base_is_first(areas[ed, :, 2], areas[es, :, 2])
    mass = volumes[:, 1] * DENSITY_G_ML
    return Evidence(
        areas_mm2=areas, centres_mm=np.zeros((*areas.shape[:2], 2)) if centres is None else centres,
        certainty=np.full(areas.shape[:2], 0.95), ed=ed, es=es, base_first=base_first, lv=lv, rv=rv,
        regressed=lv, mass_ed_g=float(mass[ed]), mass_es_g=float(mass[es]),
    )  # fmt: skip


def evidence(labels: Stack) -> Evidence:
    clean = np.stack([clean_labels(frame, PIXEL_MM**2) for frame in labels])
    centres = np.array([
        [np.argwhere(s == LV).mean(0) * PIXEL_MM if (s == LV).any() else (np.nan, np.nan) for s in frame]
        for frame in clean
    ])  # fmt: skip
    return of_areas(np.stack([disc_areas(frame, PIXEL_MM**2) for frame in clean]), centres)


def codes(of: Evidence) -> list[str]:
    found = find_flags(of)
    assert all(f.message.endswith(".") and "nan" not in f.message for f in found)
    return [f.code for f in found]


def whole_beat(labels: Stack, n: int = 20) -> np.ndarray:
    """Areas (n, z, 3) between those of ED and ES."""
    ed, es = (disc_areas(frame, PIXEL_MM**2) for frame in labels)
    share = (0.5 + 0.5 * np.cos(2 * np.pi * np.arange(n) / n))[:, None, None]
    return np.asarray(share * ed + (1 - share) * es)


@pytest.fixture(scope="module")
def sound() -> Evidence:
    return of_areas(whole_beat(label_stack(1)))


@pytest.mark.parametrize(("subject", "group"), HEARTS)
def test_a_complete_stack_raises_nothing(subject: int, group: Group) -> None:
    labels = label_stack(subject, group)
    inside = held(labels)
    for stack in (labels, labels[:, ::-1], labels[:, inside[0] : inside[-1] + 1]):
        assert codes(evidence(stack)) == []


def without_base(labels: Stack) -> Stack:
    return labels[:, : held(labels)[-1] - 2]


def without_apex(labels: Stack) -> Stack:
    inside = held(labels)
    return labels[:, inside[0] + round(len(inside) / 3) :]


def ends_swapped(labels: Stack) -> Stack:
    inside = held(labels)
    order = np.arange(labels.shape[1])
    order[inside[[1, 5]]] = inside[[5, 1]]
    return labels[:, order]


def shuffled(labels: Stack) -> Stack:
    inside = held(labels)
    order = np.arange(labels.shape[1])
    order[inside] = np.random.default_rng(0).permutation(inside)
    return labels[:, order]


def standing(labels: Stack) -> Stack:
    return labels[[0, 0]]


@pytest.mark.parametrize(("subject", "group"), HEARTS)
@pytest.mark.parametrize(
    ("spoil", "code"),
    [(without_base, "base_missing"), (without_apex, "apex_missing"), (ends_swapped, "slice_order"),
     (shuffled, "slice_order"), (standing, "phases_close")],
)  # fmt: skip
def test_a_spoilt_stack_is_found(subject: int, group: Group, spoil: Callable[[Stack], Stack], code: str) -> None:
    spoilt = spoil(label_stack(subject, group))
    for stack in (spoilt, spoilt[:, ::-1]):
        found = codes(evidence(stack))
        if spoil is without_apex and group in ("dilated", "infarct"):
            # a heart that hardly shortens gives no hint which end is which
            assert {"apex_missing", "base_missing"} & set(found)
        else:
            assert code in found


def test_a_large_area_in_the_valve_plane_is_no_missing_base(sound: Evidence) -> None:
    areas = sound.areas_mm2[[sound.ed, sound.es]].copy()
    last = np.flatnonzero(areas[0, :, 2])[-1]
    areas = areas[:, : last + 1]
    areas[0, -1, 2], areas[1, -1] = 0.95 * areas[0, :, 2].max(), 0
    assert "base_missing" not in codes(of_areas(areas))
    areas[1, -1, 2] = 0.3 * areas[1, :, 2].max()
    assert "base_missing" in codes(of_areas(areas))
    empty = np.zeros((2, 1, 3))
    assert "base_missing" not in codes(of_areas(np.concatenate([areas, empty], 1)))  # a slice above: the atrium


def test_slices_that_leap_are_found(sound: Evidence) -> None:
    centres = np.zeros((*sound.areas_mm2.shape[:2], 2))
    drifting = centres + 4.0 * np.arange(centres.shape[1])[None, :, None]  # a tilted axis
    assert codes(replace(sound, centres_mm=drifting)) == []
    leaping = centres + 12.0 * (np.arange(centres.shape[1]) % 2)[None, :, None]
    assert codes(replace(sound, centres_mm=leaping)) == ["slice_order"]


def changed(of: Evidence, **values: float) -> Evidence:
    """With other numbers of the LV, which direct regression confirms."""
    lv = replace(of.lv, **values)
    return replace(of, lv=lv, regressed=lv)


@pytest.mark.parametrize(("factor", "flagged"), [(1.0, False), (1.15, False), (1.3, True), (0.7, True), (0.0, True)])
def test_volumes_that_disagree(sound: Evidence, factor: float, flagged: bool) -> None:
    lv = sound.lv
    other = ventricle(factor * np.array([lv.edv_ml, lv.esv_ml]), 0, 1)
    assert codes(replace(sound, regressed=other)) == (["volumes_disagree"] if flagged else [])


@pytest.mark.parametrize(("points", "flagged"), [(7.5, False), (-7.5, False), (8.5, True), (-8.5, True)])
def test_ejection_fractions_that_disagree(sound: Evidence, points: float, flagged: bool) -> None:
    other = replace(sound.lv, ef_percent=sound.lv.ef_percent + points)
    assert codes(replace(sound, regressed=other)) == (["volumes_disagree"] if flagged else [])


def test_what_no_heart_has(sound: Evidence) -> None:
    assert codes(changed(sound, ef_percent=88.0)) == ["implausible"]
    assert codes(changed(sound, edv_ml=520.0)) == ["implausible"]
    assert codes(changed(sound, edv_ml=25.0)) == ["implausible"]
    assert "implausible" in codes(replace(sound, mass_ed_g=15.0))
    (flag,) = find_flags(replace(sound, rv=replace(sound.rv, edv_ml=0.0, sv_ml=0.0)))
    assert flag.code == "implausible"
    assert "right ventricle" in flag.message


def test_a_right_ventricle_that_ejects_nothing(sound: Evidence) -> None:
    """It was once given an EF of -55 % without a word: it has none, and that is said."""
    areas = sound.areas_mm2.copy()
    areas[..., 0] = areas[sound.ed, :, 0] + areas[sound.es, :, 0] - areas[..., 0]  # full when the LV is empty
    wrong = of_areas(areas)
    assert np.isnan([wrong.rv.ef_percent, wrong.rv.sv_ml]).all()
    (flag,) = find_flags(wrong)
    assert flag.code == "implausible"
    assert "ejects nothing" in flag.message


def test_doubts_about_single_numbers(sound: Evidence) -> None:
    assert codes(sound) == []
    assert codes(replace(sound, certainty=np.full_like(sound.certainty, 0.6))) == ["low_certainty"]
    assert codes(replace(sound, certainty=np.full_like(sound.certainty, np.nan))) == []
    assert codes(replace(sound, mass_es_g=1.5 * sound.mass_ed_g)) == ["mass_differs"]
    assert codes(replace(sound, rv=replace(sound.rv, sv_ml=0.5 * sound.lv.sv_ml))) == ["stroke_volumes_differ"]
    assert codes(replace(sound, rv=replace(sound.rv, sv_ml=0.7 * sound.lv.sv_ml))) == []


def test_few_slices(sound: Evidence) -> None:
    lv = np.flatnonzero(sound.areas_mm2[sound.ed, :, 2])
    for n, flagged in ((5, False), (4, True)):
        thin = sound.areas_mm2[:, np.r_[lv[0] - 1, np.round(np.linspace(lv[0], lv[-1], n)).astype(int)]]
        assert ("few_slices" in codes(replace(sound, areas_mm2=thin, centres_mm=sound.centres_mm[:, : n + 1],
                                              certainty=sound.certainty[:, : n + 1]))) == flagged  # fmt: skip


def test_frames_without_a_heart_and_frames_that_leap(sound: Evidence) -> None:
    areas = sound.areas_mm2.copy()
    areas[4] = 0
    found = {f.code: f.message for f in find_flags(replace(sound, areas_mm2=areas))}
    assert set(found) == {"heart_lost", "uneven_beat"}
    assert found["heart_lost"] == "No left ventricle was found in 1 of 20 frames (5)."
    areas[4], areas[1] = sound.areas_mm2[4], 0.75 * areas[1]
    assert codes(replace(sound, areas_mm2=areas)) == ["uneven_beat"]
    assert codes(of_areas(np.zeros((2, 5, 3)))) == ["heart_lost"]
