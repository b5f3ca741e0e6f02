"""Whether virtual hearts are as large, strong and thick as real ones: normal values, limits of the ACDC groups."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from cmrsr.phantom import patient as phantom
from cmrsr.phantom.truth import heart_truth

Sex = Literal["m", "f"]
Group = Literal["NOR", "MINF", "DCM", "HCM", "RV"]
Measure = Literal["lv_edv_ml", "lv_esv_ml", "lv_ef_percent", "lv_mass_g"]

GROUPS: tuple[Group, ...] = get_args(Group)
GROUP_NAMES: Mapping[Group, str] = {
    "NOR": "normal",
    "MINF": "myocardial infarction",
    "DCM": "dilated cardiomyopathy",
    "HCM": "hypertrophic cardiomyopathy",
    "RV": "abnormal right ventricle",
}
PHANTOM_GROUPS: Mapping[phantom.Group, Group] = {
    "normal": "NOR", "infarct": "MINF", "dilated": "DCM", "hypertrophic": "HCM", "rv": "RV"
}  # fmt: skip
MEETING = 0.95  # share of a group's hearts that meet its definition, for the group to be what it is called
SEVERAL = 2  # segments with abnormal contraction
LEAST_THICKENING = 0.3  # of a segment that contracts normally, relative to its wall at end diastole
THICKENING_SOURCE = "J Cardiovasc Magn Reson 2009;11:22 (a segment that thickens by less than 30 % is infarcted)"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartMeasures:
    """What is true of one heart. Walls are of the left ventricle at end diastole; ``group``: what was asked for.

    n_abnormal_segments: AHA segments whose wall thickens by less than ``LEAST_THICKENING`` until end systole.
    """

    name: str
    sex: Sex
    bsa_m2: float
    lv_edv_ml: float
    lv_esv_ml: float
    lv_ef_percent: float
    lv_mass_g: float
    rv_edv_ml: float
    rv_ef_percent: float
    min_wall_mm: float
    mean_wall_mm: float
    max_wall_mm: float
    n_abnormal_segments: int
    group: Group | None = None

    @property
    def lv_edv_index(self) -> float:
        """mL/m2."""
        return self.lv_edv_ml / self.bsa_m2

    @property
    def rv_edv_index(self) -> float:
        """mL/m2."""
        return self.rv_edv_ml / self.bsa_m2


def measures(patient: phantom.VirtualPatient) -> HeartMeasures:
    """The measures of a virtual patient, as they truly are; walls by AHA segment (without the apex), no image needed.

    A definition speaks of segments, so ``max_wall_mm`` is the mean of the thickest one.
    """
    truth = heart_truth(patient)
    lv, rv = truth["lv"], truth["rv"]
    walls = np.array([(s["wall_ed_mm"], s["wall_es_mm"]) for s in truth["segments"] if s["wall_ed_mm"] > 0])
    return HeartMeasures(
        name=patient.identity.name, sex="m" if patient.identity.sex == "M" else "f", bsa_m2=patient.identity.bsa_m2,
        lv_edv_ml=lv["edv_ml"], lv_esv_ml=lv["esv_ml"], lv_ef_percent=lv["ef_percent"], lv_mass_g=lv["mass_g"],
        rv_edv_ml=rv["edv_ml"], rv_ef_percent=rv["ef_percent"], min_wall_mm=float(walls[:, 0].min()),
        mean_wall_mm=float(walls[:, 0].mean()), max_wall_mm=float(walls[:, 0].max()),
        n_abnormal_segments=int((walls[:, 1] / walls[:, 0] - 1 < LEAST_THICKENING).sum()),
        group=PHANTOM_GROUPS[patient.group],
    )  # fmt: skip


# --- normal values ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalValue:
    """Mean and standard deviation of healthy adults."""

    measure: Measure
    title: str
    short: str
    unit: str
    sex: Sex
    mean: float
    sd: float


AGREEING_SD, AGREEING_SD_RATIO = 0.3, (0.7, 1.3)  # of published standard deviations
NORMAL_SOURCE = "Kawel-Boehm et al., J Cardiovasc Magn Reson 2015;17:29 (steady-state free precession)"
_PUBLISHED: tuple[tuple[Measure, str, str, str, dict[Sex, tuple[float, float]]], ...] = (
    ("lv_edv_ml", "LV end-diastolic volume", "LV EDV", "mL", {"m": (160.0, 27.0), "f": (132.0, 23.0)}),
    ("lv_esv_ml", "LV end-systolic volume", "LV ESV", "mL", {"m": (54.0, 14.0), "f": (44.0, 11.0)}),
    ("lv_ef_percent", "LV ejection fraction", "LV EF", "%", {"m": (67.0, 5.0), "f": (67.0, 5.0)}),
    ("lv_mass_g", "LV mass", "LV mass", "g", {"m": (134.0, 21.0), "f": (98.0, 21.0)}),
)
NORMAL_VALUES = tuple(
    NormalValue(measure=measure, title=title, short=short, unit=unit, sex=sex, mean=mean, sd=sd)
    for measure, title, short, unit, by_sex in _PUBLISHED
    for sex, (mean, sd) in by_sex.items()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryRow:
    """Virtual subjects of one sex beside the published values; ``sd`` and ``sd_ratio`` are None for one subject."""

    normal: NormalValue
    n: int
    mean: float
    sd: float | None

    @property
    def difference(self) -> float:
        """Difference of the means, in published standard deviations."""
        return (self.mean - self.normal.mean) / self.normal.sd

    @property
    def sd_ratio(self) -> float | None:
        return None if self.sd is None else self.sd / self.normal.sd

    @property
    def agrees(self) -> bool:
        """Whether mean and spread are so close to the published ones that no reader would tell."""
        low, high = AGREEING_SD_RATIO
        return abs(self.difference) <= AGREEING_SD and self.sd_ratio is not None and low <= self.sd_ratio <= high


def summarise(measures: Sequence[HeartMeasures]) -> list[SummaryRow]:
    """Mean and standard deviation of every measure and sex beside ``NORMAL_VALUES``; an absent sex has no row.

    The published values are of healthy adults, so hand in healthy subjects.
    """
    rows = []
    for normal in NORMAL_VALUES:
        values = [float(getattr(m, normal.measure)) for m in measures if m.sex == normal.sex]
        if values:
            sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
            rows.append(SummaryRow(normal=normal, n=len(values), mean=float(np.mean(values)), sd=sd))
    return rows


# --- the ACDC groups --------------------------------------------------------------------------------------------------


def _nor(m: HeartMeasures) -> bool:
    return (
        m.lv_ef_percent > 50
        and m.max_wall_mm < 12
        and m.lv_edv_index < (90 if m.sex == "m" else 80)
        and m.rv_edv_index < 100
        and m.rv_ef_percent > 40
        and m.n_abnormal_segments == 0
    )


def _minf(m: HeartMeasures) -> bool:
    return m.lv_ef_percent < 40 and m.n_abnormal_segments >= SEVERAL


def _dcm(m: HeartMeasures) -> bool:
    return m.lv_ef_percent < 40 and m.lv_edv_index > 100 and m.max_wall_mm < 12


def _hcm(m: HeartMeasures) -> bool:
    return m.lv_ef_percent > 55 and m.max_wall_mm > 15


def _rv(m: HeartMeasures) -> bool:
    return m.rv_edv_index > (110 if m.sex == "m" else 100) or m.rv_ef_percent < 40


ACDC_SOURCE = "Bernard et al., IEEE Trans Med Imaging 2018;37:2514-2525"
DEFINITIONS: Mapping[Group, Callable[[HeartMeasures], bool]] = {
    "NOR": _nor,
    "MINF": _minf,
    "DCM": _dcm,
    "HCM": _hcm,
    "RV": _rv,
}


def acdc_group(measures: HeartMeasures) -> set[Group]:
    """The groups whose definition a heart meets: none, one or several (Bernard 2018, section II).

    NOR: EF > 50 %, wall < 12 mm, LV EDV < 90 (men) or 80 (women) mL/m2, RV EDV < 100 mL/m2, RV EF > 40 %, normal
    contraction. MINF: EF < 40 % and several segments that contract abnormally. DCM: EF < 40 %, EDV > 100 mL/m2, wall
    < 12 mm. HCM: EF > 55 % and a wall > 15 mm; a mass above 110 g/m2 is common in it, not required. RV: RV EDV > 110
    (men) or 100 (women) mL/m2, or RV EF < 40 %. Readers settle what is met twice: a large LV with infarcted segments is
    MINF, a large LV beside a large RV is DCM.
    """
    return {group for group, meets in DEFINITIONS.items() if meets(measures)}


def confusion(measures: Sequence[HeartMeasures]) -> dict[Group, dict[str, float]]:
    """Fraction of the hearts of each requested group that meet every group's definition, or "none".

    ``confusion(...)["DCM"]["DCM"]`` is the share that are what was asked for; a row may sum to more than 1, as a heart
    may meet several definitions. Hearts without a group are left out.
    """
    table: dict[Group, dict[str, float]] = {}
    for asked in GROUPS:
        met = [acdc_group(m) for m in measures if m.group == asked]
        if met:
            table[asked] = {group: sum(group in groups for groups in met) / len(met) for group in GROUPS}
            table[asked]["none"] = sum(not groups for groups in met) / len(met)
    return table


def population_record(healthy: Sequence[HeartMeasures], mixed: Sequence[HeartMeasures]) -> dict[str, Any]:
    """Healthy virtual subjects beside published values, and all groups beside the ACDC definitions: plain values."""
    return {
        "normal_values": {
            "source": NORMAL_SOURCE,
            "n": len(healthy),
            "rows": [
                {
                    "measure": row.normal.measure, "unit": row.normal.unit, "sex": row.normal.sex, "n": row.n,
                    "mean": row.mean, "sd": row.sd, "published_mean": row.normal.mean, "published_sd": row.normal.sd,
                    "difference_in_published_sd": row.difference, "sd_ratio": row.sd_ratio, "agrees": row.agrees,
                }
                for row in summarise(healthy)
            ],
        },
        "acdc": {
            "source": ACDC_SOURCE,
            "abnormal_segment": f"wall thickening below {100 * LEAST_THICKENING:g} %: {THICKENING_SOURCE}",
            "n": {group: sum(m.group == group for m in mixed) for group in GROUPS},
            "share_meeting": confusion(mixed),
        },
    }  # fmt: skip
