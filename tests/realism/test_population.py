"""Normal values and the limits of the ACDC groups."""

import json
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmrsr.phantom import patient as phantom
from cmrsr.phantom.patient import draw_patient
from cmrsr.phantom.truth import heart_truth
from cmrsr.realism import population
from cmrsr.realism.population import (
    GROUPS,
    NORMAL_VALUES,
    Group,
    HeartMeasures,
    acdc_group,
    confusion,
    measures,
    population_record,
    summarise,
)

BSA = {"m": 2.0, "f": 1.7}


def heart(sex: population.Sex = "m", group: Group | None = None, **changes: object) -> HeartMeasures:
    """A healthy heart, indices as in the middle of the normal range."""
    made = HeartMeasures(
        name="virtual", sex=sex, bsa_m2=BSA[sex], lv_edv_ml=75 * BSA[sex], lv_esv_ml=26 * BSA[sex], lv_ef_percent=65.0,
        lv_mass_g=60 * BSA[sex], rv_edv_ml=85 * BSA[sex], rv_ef_percent=58.0, min_wall_mm=6.0, mean_wall_mm=8.0,
        max_wall_mm=10.0, n_abnormal_segments=0, group=group,
    )  # fmt: skip
    return replace(made, **changes)


TYPICAL: dict[Group, dict[str, object]] = {
    "NOR": {},
    "MINF": {"lv_ef_percent": 30.0, "n_abnormal_segments": 5},
    "DCM": {"lv_ef_percent": 25.0, "lv_edv_ml": 290.0},
    "HCM": {"lv_ef_percent": 70.0, "max_wall_mm": 20.0},
    "RV": {"rv_edv_ml": 250.0},
}


def hearts() -> st.SearchStrategy[HeartMeasures]:
    positive = {"allow_nan": False, "allow_infinity": False}
    return st.builds(
        heart,
        sex=st.sampled_from(["m", "f"]),
        lv_ef_percent=st.floats(5, 90, **positive),
        lv_edv_ml=st.floats(50, 400, **positive),
        rv_edv_ml=st.floats(50, 400, **positive),
        rv_ef_percent=st.floats(5, 90, **positive),
        max_wall_mm=st.floats(4, 30, **positive),
        n_abnormal_segments=st.integers(0, 17),
    )


def test_published_volumes_agree_with_the_published_ejection_fraction() -> None:
    value = {(n.measure, n.sex): n.mean for n in NORMAL_VALUES}
    for sex in ("m", "f"):
        from_volumes = 100 * (1 - value["lv_esv_ml", sex] / value["lv_edv_ml", sex])
        assert from_volumes == pytest.approx(value["lv_ef_percent", sex], abs=1.5)
    assert len(value) == len(NORMAL_VALUES) == 8


def test_summary_of_the_published_population_shows_no_difference() -> None:
    half = 0.5**0.5  # two values at mean ± sd / sqrt(2) have the standard deviation sd
    subjects = []
    for sex in ("m", "f"):
        normal = {n.measure: n for n in NORMAL_VALUES if n.sex == sex}
        for side in (-half, half):
            subjects.append(heart(sex, **{key: n.mean + side * n.sd for key, n in normal.items()}))
    rows = summarise(subjects)
    assert [row.normal for row in rows] == list(NORMAL_VALUES)
    for row in rows:
        assert row.n == 2
        assert row.difference == pytest.approx(0, abs=1e-9)
        assert row.sd_ratio == pytest.approx(1)


def test_summary_is_in_published_standard_deviations() -> None:
    men = [heart(lv_edv_ml=160 + 27 * shift) for shift in (0.0, 1.0, 2.0)]
    volume = summarise(men)[0]
    assert (volume.normal.measure, volume.n) == ("lv_edv_ml", 3)
    assert volume.difference == pytest.approx(1)
    assert volume.sd_ratio == pytest.approx(1)
    assert {row.normal.sex for row in summarise(men)} == {"m"}
    assert (summarise(men[:1])[0].sd, summarise(men[:1])[0].sd_ratio) == (None, None)


@pytest.mark.parametrize("sex", ["m", "f"])
@pytest.mark.parametrize("group", GROUPS)
def test_a_typical_heart_of_each_group_meets_that_group_alone(group: Group, sex: population.Sex) -> None:
    assert acdc_group(heart(sex, **TYPICAL[group])) == {group}


@pytest.mark.parametrize(
    ("group", "change"),
    [
        ("NOR", {"lv_ef_percent": 50.0}), ("NOR", {"max_wall_mm": 12.0}), ("NOR", {"n_abnormal_segments": 1}),
        ("NOR", {"lv_edv_ml": 91 * 2.0}), ("NOR", {"rv_edv_ml": 101 * 2.0}), ("NOR", {"rv_ef_percent": 40.0}),
        ("MINF", {"lv_ef_percent": 40.0}), ("MINF", {"n_abnormal_segments": 1}),
        ("DCM", {"lv_ef_percent": 40.0}), ("DCM", {"lv_edv_ml": 99 * 2.0}), ("DCM", {"max_wall_mm": 12.0}),
        ("HCM", {"lv_ef_percent": 55.0}), ("HCM", {"max_wall_mm": 15.0}),
        ("RV", {"rv_edv_ml": 109 * 2.0}),
    ],
)  # fmt: skip
def test_every_limit_of_a_definition_counts(group: Group, change: dict[str, object]) -> None:
    assert group not in acdc_group(heart(**{**TYPICAL[group], **change}))


def test_women_have_lower_limits_of_volume() -> None:
    for sex, lv, rv in (("m", 85, 105), ("f", 85, 105)):
        large = heart(sex, lv_edv_ml=lv * BSA[sex])
        assert ("NOR" in acdc_group(large)) == (sex == "m")
        assert ("RV" in acdc_group(heart(sex, rv_edv_ml=rv * BSA[sex]))) == (sex == "f")


def test_a_weak_right_ventricle_is_enough() -> None:
    assert acdc_group(heart(rv_ef_percent=35.0)) == {"RV"}


@given(hearts())
def test_normal_hearts_meet_no_other_definition_and_strong_ones_are_not_weak(one: HeartMeasures) -> None:
    found = acdc_group(one)
    assert "NOR" not in found or found == {"NOR"}
    assert "HCM" not in found or not found & {"MINF", "DCM"}
    assert found <= set(GROUPS)


@given(hearts(), st.floats(0, 30))
def test_a_weaker_ventricle_never_leaves_the_groups_of_weak_ventricles(one: HeartMeasures, loss: float) -> None:
    weaker = replace(one, lv_ef_percent=one.lv_ef_percent - loss)
    assert acdc_group(one) & {"MINF", "DCM"} <= acdc_group(weaker)


def test_confusion_counts_what_each_group_meets() -> None:
    asked = [
        heart(group="DCM", **TYPICAL["DCM"]),
        heart(group="DCM", **TYPICAL["DCM"], n_abnormal_segments=6),  # MINF as well
        heart(group="DCM", max_wall_mm=13.0),  # nothing
        heart(group="DCM"),  # normal
        heart(group="RV", **TYPICAL["RV"]),
        heart(),
    ]
    table = confusion(asked)
    assert list(table) == ["DCM", "RV"]
    assert table["DCM"] == {"NOR": 0.25, "MINF": 0.25, "DCM": 0.5, "HCM": 0, "RV": 0, "none": 0.25}
    assert table["RV"]["RV"] == 1


def test_a_value_agrees_only_where_mean_and_spread_do() -> None:
    men = next(n for n in NORMAL_VALUES if (n.measure, n.sex) == ("lv_mass_g", "m"))

    def agrees(shift: float, spread: float) -> bool:
        side = spread * men.sd * 0.5**0.5
        subjects = [heart(lv_mass_g=men.mean + shift * men.sd + sign * side) for sign in (-1, 1)]
        return next(row for row in summarise(subjects) if row.normal == men).agrees

    assert agrees(0, 1)
    assert agrees(0.29, 0.71)
    assert agrees(-0.29, 1.29)
    assert not agrees(0.31, 1)
    assert not agrees(-0.31, 1)
    assert not agrees(0, 0.69)
    assert not agrees(0, 1.31)
    assert not any(row.agrees for row in summarise([heart()]))  # one subject has no spread


def test_measures_of_a_virtual_patient_are_its_truth() -> None:
    patient = draw_patient(3, 5, "normal")
    truth, found = heart_truth(patient), measures(patient)
    assert (found.name, found.group, found.sex) == ("subject005", "NOR", patient.identity.sex.lower())
    assert found.bsa_m2 == patient.identity.bsa_m2
    assert found.lv_edv_index == pytest.approx(truth["lv"]["edv_ml"] / patient.identity.bsa_m2)
    assert found.lv_ef_percent == pytest.approx(100 * (1 - found.lv_esv_ml / found.lv_edv_ml))
    assert (found.lv_mass_g, found.rv_ef_percent) == (truth["lv"]["mass_g"], truth["rv"]["ef_percent"])
    walls = [s["wall_ed_mm"] for s in truth["segments"][:16]]
    assert (found.min_wall_mm, found.max_wall_mm) == (min(walls), max(walls))
    assert found.mean_wall_mm == pytest.approx(sum(walls) / 16)


@pytest.mark.parametrize("group", get_args(phantom.Group))
def test_virtual_patients_are_measured_in_the_group_they_were_drawn_in(group: phantom.Group) -> None:
    assert measures(draw_patient(3, 1, group)).group == population.PHANTOM_GROUPS[group]


def test_a_weak_ventricle_has_abnormal_segments_and_a_strong_one_none() -> None:
    """The same heart at other ejection fractions: its segments thicken less and less."""
    counts = [measures(draw_patient(3, 2, "normal", ef)).n_abnormal_segments for ef in (0.7, 0.4, 0.1)]
    assert counts[0] == 0
    assert counts == sorted(counts)
    assert counts[2] == 16  # the apex has no ring of wall to thicken


def test_the_record_judges_healthy_hearts_by_normal_values_and_all_by_their_groups() -> None:
    mixed = [heart(sex, group, **TYPICAL[group]) for group in GROUPS for sex in ("m", "f")]
    record = population_record(mixed[:2], mixed)
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    rows = record["normal_values"]["rows"]
    assert {row["n"] for row in rows} == {1}
    assert rows[0]["difference_in_published_sd"] == pytest.approx((150 - 160) / 27)
    acdc = record["acdc"]
    assert {group: shares[group] for group, shares in acdc["share_meeting"].items()} == dict.fromkeys(GROUPS, 1)
    assert acdc["n"] == dict.fromkeys(GROUPS, 2)
    assert "30 %" in acdc["abnormal_segment"]
