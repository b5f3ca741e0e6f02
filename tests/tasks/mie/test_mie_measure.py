import json
import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cmrsr.batch.flags import Flag
from cmrsr.heart.window import READING_MM
from cmrsr.physics.volumes import DENSITY_G_ML, LV, MYOCARDIUM
from cmrsr.tasks.mie.measure import CSV_COLUMNS, MieMeasured, as_record, csv_row, measure, values_of
from cmrsr.tasks.mie.result import MieSlice
from tests.mie_slices import (
    BLOOD_MS,
    E_CC,
    E_CC_SCAR,
    E_RR,
    SCAR_MS,
    WALL_MS,
    infarct,
    mie_slice,
    ventricles,
)

GAP_MM = 10.0
LEVELS = (0.85, 0.5, 0.15)
ANTERIOR = infarct(62, 118, 0.6)  # segments 7 and 13


def measured(slices: list[MieSlice], *, n_inversions: int = 8, extra: tuple[Flag, ...] = ()) -> MieMeasured:
    return measure(slices, gap_mm=GAP_MM, n_inversions=n_inversions, extra_flags=extra)


@pytest.fixture(scope="module")
def slices() -> list[MieSlice]:
    """From base to apex; scar in the two lower ones."""
    return [mie_slice(z, level, ANTERIOR if z else None) for z, level in enumerate(LEVELS)]


@pytest.fixture(scope="module")
def found(slices: list[MieSlice]) -> MieMeasured:
    return measured(slices)


def test_masses_are_areas_times_the_gap(found: MieMeasured) -> None:
    gram = READING_MM**2 * GAP_MM / 1000 * DENSITY_G_ML
    assert found.wall_g == pytest.approx(3 * (ventricles() == MYOCARDIUM).sum() * gram)
    assert found.scar_g == pytest.approx(2 * ANTERIOR.sum() * gram)
    assert found.scar_percent == pytest.approx(100 * found.scar_g / found.wall_g)
    assert [s.scar_mm2 for s in found.slices] == pytest.approx([0, *[ANTERIOR.sum() * READING_MM**2] * 2])
    assert [s.transmurality_percent for s in found.slices] == pytest.approx([0, 60, 60], abs=5)
    assert found.flags == ()


def test_t1_and_strain_are_of_their_tissue(found: MieMeasured) -> None:
    assert (found.t1_wall_ms, found.t1_scar_ms, found.t1_blood_ms) == (WALL_MS, SCAR_MS, BLOOD_MS)
    assert found.e_cc_scar_percent == pytest.approx(100 * E_CC_SCAR)
    assert found.e_cc_rest_percent == pytest.approx(100 * E_CC)
    share = found.scar_percent / 100
    assert found.e_cc_percent == pytest.approx(100 * (share * E_CC_SCAR + (1 - share) * E_CC))
    assert found.table is not None
    assert_allclose(found.table.e_rr_percent, 100 * E_RR)
    assert found.table.t1_ms[6] > found.table.t1_ms[0] == WALL_MS


def test_segments_with_scar_are_named(found: MieMeasured) -> None:
    assert found.table is not None
    assert set(np.flatnonzero(found.table.scar_percent > 10) + 1) == {7, 13}
    assert_allclose(found.table.transmurality_percent[[6, 12]], 60, atol=6)
    assert np.isfinite(found.table.scar_percent).all()


def test_the_order_of_slices_does_not_matter(slices: list[MieSlice], found: MieMeasured) -> None:
    other = measured(slices[::-1])
    assert other.scar_g == pytest.approx(found.scar_g)
    assert other.table is not None
    assert found.table is not None
    assert_allclose(other.table.scar_percent, found.table.scar_percent)


def test_scar_beside_the_wall_adds_to_the_wall() -> None:
    labels = ventricles()
    scar = np.zeros(labels.shape, bool)
    scar[40:50, 90:100] = labels[40:50, 90:100] == 0
    one = measured([mie_slice(scar=scar)])
    none = measured([mie_slice()])
    assert one.scar_g > 0
    assert one.wall_g == pytest.approx(none.wall_g + one.scar_g)


def test_strain_is_read_where_the_wall_was_at_end_diastole() -> None:
    one = mie_slice()
    elsewhere = np.roll(one.labels_ed, 20, 1)
    e_cc = np.where(elsewhere == MYOCARDIUM, -0.1, -0.3).astype(np.float32)
    beat = np.stack([np.zeros_like(e_cc), np.zeros_like(e_cc), e_cc, np.zeros_like(e_cc)])
    moved = replace(one, labels_ed=elsewhere, kinematics=replace(one.kinematics, e_cc=beat))
    assert measured([moved]).e_cc_percent == pytest.approx(-10)


def test_uncertainty_is_the_share_that_the_model_expects_to_call_wrongly() -> None:
    one = mie_slice(scar=ANTERIOR)
    assert measured([one]).uncertainty_percent == 0
    for doubt, expected in ((0.1, 10), (0.4, 40)):
        either = np.where(ANTERIOR, 1 - doubt, doubt).astype(np.float32)
        assert measured([replace(one, scar_probability=either)]).uncertainty_percent == pytest.approx(expected)
    blood = np.where(one.labels == LV, 0.5, one.scar_probability).astype(np.float32)
    assert measured([replace(one, scar_probability=blood)]).uncertainty_percent == 0


def test_the_worst_slice_decides(slices: list[MieSlice]) -> None:
    shift = np.zeros((8, 2))
    shift[3] = (-3.0, 4.0)
    worse = [slices[0], replace(slices[1], agreement=0.62, shift_mm=shift), slices[2]]
    one = measured(worse)
    assert (one.agreement, one.largest_shift_mm) == (0.62, 5.0)
    assert one.slices[1].largest_shift_mm == 5.0


def test_flags_come_from_the_slices(slices: list[MieSlice]) -> None:
    post = [replace(s, t1_ms=s.t1_ms / 3) for s in slices]
    failed = replace(
        slices[2], registered=np.arange(8) != 4, agreement=0.3, likeness=0.3, septum=math.nan, distance_mm=5.5
    )
    assert [f.code for f in measured(post).flags] == ["contrast_suspected"]
    assert [f.code for f in measured([slices[0], failed], n_inversions=7).flags] == [
        "hearts_differ", "motion_uncorrected", "few_inversions", "slices_apart", "septum_lost",
    ]  # fmt: skip
    mine = Flag(code="mine", message="Something else.")
    assert measured(slices, extra=(mine,)).flags == (mine,)
    e_cc = np.full_like(slices[1].kinematics.e_cc, E_CC)
    moving = replace(slices[1], kinematics=replace(slices[1].kinematics, e_cc=e_cc))
    assert [f.code for f in measured([moving]).flags] == ["scar_moves"]


def test_without_levels_there_is_no_table(slices: list[MieSlice]) -> None:
    one = measured([mie_slice(z, None, ANTERIOR) for z in range(2)])
    assert one.table is None
    assert one.scar_g > 0
    assert [f.code for f in one.flags] == ["levels_unknown"]
    row = csv_row("x", as_record(one))
    assert row["scar_segments"] is None


def test_no_heart_is_an_answer_too() -> None:
    nothing = np.zeros_like(ventricles())
    lost = mie_slice(labels=nothing, labels_ed=nothing, segments=nothing, septum=math.nan, agreement=0.0)
    one = measured([lost])
    assert [f.code for f in one.flags] == ["heart_lost"]
    assert (one.scar_g, one.wall_g) == (0, 0)
    record = json.loads(json.dumps(as_record(one), allow_nan=False))
    assert record["scar_percent"] is None
    assert record["segments"] is None


def test_the_record_says_what_was_measured(found: MieMeasured) -> None:
    record = json.loads(json.dumps(as_record(found), allow_nan=False))
    for name, value in values_of(found).items():
        assert record[name] == pytest.approx(value, abs=0.006)
    assert [s["z"] for s in record["slices"]] == [1, 2, 3]
    assert [s["cine_z"] for s in record["slices"]] == [1, 3, 5]
    assert record["segments"][6]["name"] == "mid anterior"
    assert record["segments"][6]["scar_percent"] == pytest.approx(found.table.scar_percent[6], abs=0.006)
    assert record["confident"]
    assert not as_record(replace(found, flags=(Flag(code="a", message="."),)))["confident"]


def test_a_row_has_every_column(found: MieMeasured) -> None:
    two = tuple(Flag(code=code, message=".") for code in ("a", "b", "a"))
    row = csv_row("p1", as_record(replace(found, flags=two)))
    assert tuple(row) == CSV_COLUMNS
    assert (row["case"], row["flags"], row["scar_segments"], row["n_slices"]) == ("p1", "a;b", "7;13", 3)
    assert row["scar_g"] == pytest.approx(found.scar_g, abs=0.006)
    assert csv_row("p2", as_record(measured([mie_slice()])))["scar_segments"] == ""
