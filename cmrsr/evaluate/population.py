"""Whether virtual hearts are as large, strong and thick as real ones: normal values, limits of the ACDC groups."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from cmrsr.errors import UnusableError
from cmrsr.evaluate.report import Picture

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
SEVERAL = 2  # segments with abnormal contraction


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartMeasures:
    """What is true of one heart. Walls are of the left ventricle at end diastole; ``group``: what was asked for.

    n_abnormal_segments: AHA segments that contract less than normally.
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


# --- normal values ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalValue:
    """Mean and standard deviation of healthy adults."""

    measure: Measure
    title: str
    unit: str
    sex: Sex
    mean: float
    sd: float


NORMAL_SOURCE = "Kawel-Boehm et al., J Cardiovasc Magn Reson 2015;17:29 (steady-state free precession)"
_PUBLISHED: tuple[tuple[Measure, str, str, dict[Sex, tuple[float, float]]], ...] = (
    ("lv_edv_ml", "LV end-diastolic volume", "mL", {"m": (160.0, 27.0), "f": (132.0, 23.0)}),
    ("lv_esv_ml", "LV end-systolic volume", "mL", {"m": (54.0, 14.0), "f": (44.0, 11.0)}),
    ("lv_ef_percent", "LV ejection fraction", "%", {"m": (67.0, 5.0), "f": (67.0, 5.0)}),
    ("lv_mass_g", "LV mass", "g", {"m": (134.0, 21.0), "f": (98.0, 21.0)}),
)
NORMAL_VALUES = tuple(
    NormalValue(measure=measure, title=title, unit=unit, sex=sex, mean=mean, sd=sd)
    for measure, title, unit, by_sex in _PUBLISHED
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
        """Of the means, in published standard deviations."""
        return (self.mean - self.normal.mean) / self.normal.sd

    @property
    def sd_ratio(self) -> float | None:
        return None if self.sd is None else self.sd / self.normal.sd


def summarise(measures: Sequence[HeartMeasures]) -> list[SummaryRow]:
    """Mean and standard deviation of every measure and sex beside ``NORMAL_VALUES``; an absent sex has no row.

    The published values are of healthy adults, so hand in healthy subjects (see ``healthy``).
    """
    rows = []
    for normal in NORMAL_VALUES:
        values = [float(getattr(m, normal.measure)) for m in measures if m.sex == normal.sex]
        if values:
            sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
            rows.append(SummaryRow(normal=normal, n=len(values), mean=float(np.mean(values)), sd=sd))
    return rows


def healthy(measures: Sequence[HeartMeasures]) -> list[HeartMeasures]:
    """Those asked for as normal, or not as anything."""
    return [m for m in measures if m.group in (None, "NOR")]


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
    """Of each group asked for, the share of its hearts that meet every group's definition, and that meet "none".

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


# --- the report -------------------------------------------------------------------------------------------------------


def population_report(measures: Sequence[HeartMeasures]) -> tuple[dict[str, Any], list[Picture]]:
    """Healthy virtual subjects beside published values, and all beside the ACDC definitions: plain values, and drawn.

    UnusableError: no measures.
    """
    from cmrsr.evaluate import style
    from cmrsr.evaluate.phantom_figures import disease_figure, population_figure

    if not measures:
        raise UnusableError("found no virtual hearts to judge; expected the measures of at least one")
    record = {
        "n": len(measures),
        "normal_values": {
            "source": NORMAL_SOURCE,
            "rows": [
                {
                    "measure": row.normal.measure, "unit": row.normal.unit, "sex": row.normal.sex, "n": row.n,
                    "mean": row.mean, "sd": row.sd, "published_mean": row.normal.mean, "published_sd": row.normal.sd,
                    "difference_in_published_sd": row.difference, "sd_ratio": row.sd_ratio,
                }
                for row in summarise(healthy(measures))
            ],
        },
        "acdc": {"source": ACDC_SOURCE, "share_meeting": confusion(measures)},
    }  # fmt: skip
    pictures = []
    if healthy(measures):
        pictures.append(
            Picture(
                title="Healthy virtual hearts beside published values",
                caption=f"One dot is one virtual subject; bars are the published mean ± 2 SD: {NORMAL_SOURCE}.",
                data=style.png(population_figure(healthy(measures))),
            )
        )
    pictures.append(
        Picture(
            title="Virtual patients beside the definitions of their disease",
            caption=f"Dashed lines are the limits of the ACDC groups: {ACDC_SOURCE}. A group should lie on its own "
            "side of its lines.",
            data=style.png(disease_figure(measures)),
        )
    )
    return record, pictures
