"""From synthetic slices to numbers: scar and wall, table by AHA segment, T1, strain, and what casts doubt on them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from cmrsr.batch.flags import Flag, plain_number
from cmrsr.heart.window import READING_MM
from cmrsr.physics.volumes import DENSITY_G_ML, LV, MYOCARDIUM
from cmrsr.physics.wall import SEGMENT_NAMES
from cmrsr.tasks.mie.features.scar import SegmentTable, inner_wall, segment_table, transmurality
from cmrsr.tasks.mie.flags import MieEvidence, find_flags
from cmrsr.tasks.mie.result import MieSlice

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
INNER_BLOOD = 2  # pixels from the edge of the LV cavity to blood that is nothing else
SCARRED_PERCENT = 10.0  # of a segment's area, from which on a row names it: less is the edge of a neighbour
CSV_COLUMNS = (
    "case", "scar_g", "scar_percent", "wall_g", "scar_segments", "t1_wall_ms", "t1_scar_ms", "t1_blood_ms",
    "e_cc_percent", "uncertainty_percent", "agreement", "largest_shift_mm", "n_slices", "flags",
)  # fmt: skip
# What a structured report and the top of a JSON file hold: fields of ``MieMeasured``.
VALUES = (
    "scar_g", "scar_percent", "wall_g", "t1_wall_ms", "t1_scar_ms", "t1_blood_ms", "e_cc_percent", "e_cc_scar_percent",
    "e_cc_rest_percent", "uncertainty_percent", "agreement", "largest_shift_mm",
)  # fmt: skip
_AT_T1, _AT_ED = ("rest", "scarred", "blood"), ("ed", "ed_scar", "ed_rest")  # of ``_Regions``


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceNumbers:
    """Numbers of one slice; z and cine_z from 0. Names as in ``MieMeasured``; NaN where there is nothing."""

    z: int
    cine_z: int
    distance_mm: float
    level: float | None
    agreement: float
    likeness: float
    largest_shift_mm: float
    registered: bool
    wall_mm2: float
    scar_mm2: float
    scar_percent: float
    transmurality_percent: float
    t1_wall_ms: float
    e_cc_percent: float
    uncertainty_percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MieMeasured:
    """The numbers of one T1 series. Masses are areas times the distance between slices: of these slices, not of the
    whole ventricle. NaN where there is nothing to measure.

    table: by segment; None where no slice has segments. wall_g: scar included. scar_percent: of the wall in the slices.
    t1_wall_ms, t1_scar_ms: medians of the wall without and with scar, away from its edges where it is thick enough;
    t1_blood_ms: of the LV cavity. e_cc_percent: mean circumferential strain of the wall at end systole, likewise of
    scar and of the rest. uncertainty_percent: mean over the wall of min(p, 1 - p), p the probability of scar: the share
    of the wall that the model itself expects to be called wrongly. agreement: the least over the slices.
    """

    table: SegmentTable | None
    scar_g: float
    scar_percent: float
    wall_g: float
    t1_wall_ms: float
    t1_scar_ms: float
    t1_blood_ms: float
    e_cc_percent: float
    e_cc_scar_percent: float
    e_cc_rest_percent: float
    uncertainty_percent: float
    agreement: float
    largest_shift_mm: float
    n_inversions: int
    gap_mm: float
    slices: tuple[SliceNumbers, ...]
    flags: tuple[Flag, ...]


def measure(
    slices: Sequence[MieSlice],
    *,
    gap_mm: float,
    n_inversions: int,
    pixel_mm: float = READING_MM,
    extra_flags: Sequence[Flag] = (),
) -> MieMeasured:
    """Everything measured in one or more slices, in any order; gap_mm: between their centres."""
    regions = [_Regions(one) for one in slices]
    numbers = tuple(_slice_numbers(one, r, pixel_mm) for one, r in zip(slices, regions, strict=True))
    wall, scar = (sum(getattr(n, name) for n in numbers) for name in ("wall_mm2", "scar_mm2"))
    gram = gap_mm / 1000 * DENSITY_G_ML
    percent = 100 * scar / wall if wall else math.nan
    t1 = {name: _median([s.t1_ms for s in slices], [getattr(r, name) for r in regions]) for name in _AT_T1}
    strain = {name: 100 * _mean([_e_cc(s) for s in slices], [getattr(r, name) for r in regions]) for name in _AT_ED}
    unsure = _mean([_unsure(s) for s in slices], [r.wall for r in regions])
    evidence = MieEvidence(
        z=np.array([n.z for n in numbers]), wall_mm2=np.array([n.wall_mm2 for n in numbers]),
        agreement=np.array([n.agreement for n in numbers]), likeness=np.array([n.likeness for n in numbers]),
        shift_mm=np.array([n.largest_shift_mm for n in numbers]),
        registered=np.array([n.registered for n in numbers]), distance_mm=np.array([n.distance_mm for n in numbers]),
        septum=np.array([math.isfinite(s.septum) for s in slices]),
        located=all(s.level is not None for s in slices), n_inversions=n_inversions,
        uncertainty_percent=100 * unsure, t1_wall_ms=t1["rest"], t1_blood_ms=t1["blood"], scar_g=scar * gram,
        scar_percent=percent, e_cc_scar_percent=strain["ed_scar"], e_cc_rest_percent=strain["ed_rest"],
    )  # fmt: skip
    return MieMeasured(
        table=_table(slices, pixel_mm), scar_g=scar * gram, scar_percent=percent, wall_g=wall * gram,
        t1_wall_ms=t1["rest"], t1_scar_ms=t1["scarred"], t1_blood_ms=t1["blood"], e_cc_percent=strain["ed"],
        e_cc_scar_percent=strain["ed_scar"], e_cc_rest_percent=strain["ed_rest"], uncertainty_percent=100 * unsure,
        agreement=min(n.agreement for n in numbers), largest_shift_mm=max(n.largest_shift_mm for n in numbers),
        n_inversions=n_inversions, gap_mm=gap_mm, slices=numbers, flags=(*find_flags(evidence), *extra_flags),
    )  # fmt: skip


def as_record(measured: MieMeasured) -> dict[str, Any]:
    """What the JSON file says of a case: plain values, None for what could not be measured, slices from 1."""
    return {name: plain_number(value) for name, value in values_of(measured).items()} | {
        "n_inversions": measured.n_inversions,
        "gap_mm": plain_number(measured.gap_mm),
        "segments": None if measured.table is None else _segment_rows(measured.table),
        "slices": [_slice_row(one) for one in measured.slices],
        "flags": [asdict(flag) for flag in measured.flags],
        "confident": not measured.flags,
    }


def csv_row(case: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """One line of ``mie.csv`` from a case's ``as_record``: a value or None for each of ``CSV_COLUMNS``."""
    rows = record["segments"]
    found = {
        **record,
        "case": case,
        "scar_segments": None if rows is None else ";".join(str(r["segment"]) for r in rows if _scarred(r)),
        "n_slices": len(record["slices"]),
        "flags": ";".join(dict.fromkeys(flag["code"] for flag in record["flags"])),
    }
    return {column: found[column] for column in CSV_COLUMNS}


def values_of(measured: MieMeasured) -> dict[str, float]:
    """The numbers of a case by name and unit; NaN where there is none."""
    return {name: float(getattr(measured, name)) for name in VALUES}


class _Regions:
    """Parts of a slice, masks (y, x)."""

    def __init__(self, of: MieSlice) -> None:
        self.wall = (of.labels == MYOCARDIUM) | of.scar
        inner = inner_wall(self.wall)
        self.rest, self.scarred = (
            (inner & part if (inner & part).any() else part) for part in self._split(of, self.wall)
        )
        self.blood = np.asarray(binary_erosion(of.labels == LV, iterations=INNER_BLOOD))
        self.ed = of.labels_ed == MYOCARDIUM
        self.ed_rest, self.ed_scar = self._split(of, self.ed)

    @staticmethod
    def _split(of: MieSlice, wall: Mask) -> tuple[Mask, Mask]:
        """Without and with scar."""
        return wall & ~of.scar, wall & of.scar


def _slice_numbers(one: MieSlice, regions: _Regions, pixel_mm: float) -> SliceNumbers:
    wall, scar = (float(np.count_nonzero(mask)) * pixel_mm**2 for mask in (regions.wall, one.scar))
    depth = transmurality(one.labels, one.scar, pixel_mm)
    return SliceNumbers(
        z=one.z, cine_z=one.cine_z, distance_mm=one.distance_mm, level=one.level, agreement=one.agreement,
        likeness=one.likeness,
        largest_shift_mm=float(np.hypot(*one.shift_mm.T).max()), registered=bool(one.registered.all()), wall_mm2=wall,
        scar_mm2=scar, scar_percent=100 * scar / wall if wall else math.nan,
        transmurality_percent=100 * _mean([depth], [depth > 0]) if scar else 0.0,
        t1_wall_ms=_median([one.t1_ms], [regions.rest]), e_cc_percent=100 * _mean([_e_cc(one)], [regions.ed]),
        uncertainty_percent=100 * _mean([_unsure(one)], [regions.wall]),
    )  # fmt: skip


def _table(slices: Sequence[MieSlice], pixel_mm: float) -> SegmentTable | None:
    if not any(s.segments.any() for s in slices):
        return None
    labels, labels_ed, segments = (
        np.stack([getattr(s, n) for s in slices]) for n in ("labels", "labels_ed", "segments")
    )
    return segment_table(
        labels, segments, np.stack([s.scar for s in slices]), pixel_mm=pixel_mm,
        t1_ms=np.stack([s.t1_ms for s in slices]), labels_ed=labels_ed, e_cc=np.stack([_e_cc(s) for s in slices]),
        e_rr=np.stack([s.kinematics.e_rr[s.es] for s in slices]),
    )  # fmt: skip


def _e_cc(of: MieSlice) -> NDArray[np.floating[Any]]:
    return np.asarray(of.kinematics.e_cc[of.es])


def _unsure(of: MieSlice) -> NDArray[np.floating[Any]]:
    return np.asarray(np.minimum(of.scar_probability, 1 - of.scar_probability))


def _within(maps: Sequence[NDArray[np.floating[Any]]], masks: Sequence[Mask]) -> Array:
    """The finite values within the masks."""
    values = np.concatenate([np.asarray(m, np.float64)[mask] for m, mask in zip(maps, masks, strict=True)])
    return np.asarray(values[np.isfinite(values)])


def _mean(maps: Sequence[NDArray[np.floating[Any]]], masks: Sequence[Mask]) -> float:
    values = _within(maps, masks)
    return float(values.mean()) if values.size else math.nan


def _median(maps: Sequence[NDArray[np.floating[Any]]], masks: Sequence[Mask]) -> float:
    values = _within(maps, masks)
    return float(np.median(values)) if values.size else math.nan


def _segment_rows(table: SegmentTable) -> list[dict[str, Any]]:
    """One a segment."""
    names = [field.name for field in fields(table)]
    return [
        {"segment": i + 1, "name": name} | {key: plain_number(getattr(table, key)[i]) for key in names}
        for i, name in enumerate(SEGMENT_NAMES)
    ]


def _slice_row(one: SliceNumbers) -> dict[str, Any]:
    row = {name: plain_number(value) if isinstance(value, float) else value for name, value in asdict(one).items()}
    return row | {"z": one.z + 1, "cine_z": one.cine_z + 1}


def _scarred(row: Mapping[str, Any]) -> bool:
    percent = row["scar_percent"]
    return percent is not None and percent >= SCARRED_PERCENT
