"""From labels to numbers: volumes over the beat, ED and ES, mass, output, wall, and what casts doubt on them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.batch.flags import Flag, plain_number
from cmrsr.physics.volumes import (
    DENSITY_G_ML,
    LV,
    MYOCARDIUM,
    RV,
    STRUCTURES,
    Ventricle,
    base_is_first,
    disc_areas,
    find_phases,
    ventricle,
    volumes_ml,
)
from cmrsr.physics.wall import SEGMENT_NAMES, SegmentWall, wall_by_segment
from cmrsr.runtime.bundle import Confidence
from cmrsr.tasks.function.confidence import Readings, intervals
from cmrsr.tasks.function.flags import LEAST_MASS_G, Evidence, find_flags

__all__ = ["CSV_COLUMNS", "Flag", "Measured", "Measurer", "as_record", "csv_row", "values_of"]

Array = NDArray[np.float64]
Labels = NDArray[np.uint8]
_RV, _WALL, _LV = (STRUCTURES.index(s) for s in (RV, MYOCARDIUM, LV))
INDEXED = ("lv_edv_ml_m2", "lv_esv_ml_m2", "lv_mass_g_m2", "rv_edv_ml_m2", "rv_esv_ml_m2")  # to body surface
CSV_COLUMNS = (
    "case", "lv_edv_ml", "lv_esv_ml", "lv_sv_ml", "lv_ef_percent", "lv_mass_g", "rv_edv_ml", "rv_esv_ml",
    "rv_ef_percent", "cardiac_output_l_min", *INDEXED, "abnormal_probability", "ed_frame", "es_frame", "flags",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The function of one heart. Tables of areas and volumes are in the order RV, myocardium, LV; frames from 0."""

    areas_mm2: Array  # (t, z, 3) of the masks
    regressed_mm2: Array  # (t, z, 3) by direct regression
    gap_mm: float  # between slice centres
    lv_ml: Array  # (t,)
    rv_ml: Array
    myocardium_ml: Array
    regressed_lv_ml: Array
    ed: int
    es: int
    lv: Ventricle
    rv: Ventricle
    regressed: Ventricle  # the LV by direct regression, at the same frames
    mass_g: float  # of the myocardium at ED; NaN where it is too small to be a heart's
    heart_rate_bpm: float | None
    cardiac_output_l_min: float | None
    abnormal_probability: float  # of an EF below 50 %
    base_first: bool  # whether the first slice lies at the base
    wall: SegmentWall | None
    flags: tuple[Flag, ...]
    body_surface_m2: float | None = None
    intervals: Mapping[str, float] = field(default_factory=dict)  # half the 90 % interval, by quantity

    @property
    def confident(self) -> bool:
        """Whether nothing speaks against the numbers; notes on what a stack covers do not."""
        return not any(flag.doubt for flag in self.flags)

    @property
    def indexed(self) -> dict[str, float]:
        """Volumes in mL/m2 and mass in g/m2 of body surface by name; empty where that is unknown."""
        values = (self.lv.edv_ml, self.lv.esv_ml, self.mass_g, self.rv.edv_ml, self.rv.esv_ml)
        area = self.body_surface_m2
        return {name: value / area for name, value in zip(INDEXED, values, strict=True)} if area else {}


class Measurer:
    """Collects the numbers of one series frame by frame; keeps tables only, whatever the number of frames.

    pixel_mm: (y, x) of the labels. gap_mm: between slice centres. mirrored: whether the affine's determinant (voxel
    x, y, z to RAS) is negative.
    """

    def __init__(
        self,
        n_frames: int,
        n_slices: int,
        *,
        pixel_mm: tuple[float, float],
        gap_mm: float,
        heart_rate_bpm: float | None,
        mirrored: bool,
        body_surface_m2: float | None = None,
    ) -> None:
        self._pixel_mm, self._gap_mm = pixel_mm, gap_mm
        self._heart_rate_bpm, self._mirrored, self._body_surface_m2 = heart_rate_bpm, mirrored, body_surface_m2
        self._areas = np.full((n_frames, n_slices, len(STRUCTURES)), np.nan)
        self._regressed = np.full_like(self._areas, np.nan)
        self._certainty = np.full((n_frames, n_slices), np.nan)
        self._centres = np.full((n_frames, n_slices, 2), np.nan)  # of the LV cavity, mm (y, x)

    def add(self, t: int, labels: Labels, regressed_mm2: Array, certainty: Array) -> None:
        """One frame: cleaned labels (z, y, x), regressed areas (z, 3) in mm2, mean certainty of the labels (z,)."""
        self._areas[t] = disc_areas(labels, self._pixel_mm[0] * self._pixel_mm[1])
        self._regressed[t], self._certainty[t] = regressed_mm2, certainty
        for z in np.flatnonzero(self._areas[t, :, _LV]):
            self._centres[t, z] = np.argwhere(labels[z] == LV).mean(0) * self._pixel_mm

    def phases(self) -> tuple[int, int]:
        """Frames (ed, es), from 0, by the masks, once all frames are in."""
        missing = np.flatnonzero(np.isnan(self._areas).any((1, 2)))
        assert not missing.size, f"frames {missing.tolist()} were never added"
        return find_phases(volumes_ml(self._areas, self._gap_mm)[:, _LV])

    def regressed_ef(self) -> float:
        """The LV's EF by direct regression as a fraction 0..1, once all frames are in; 0 where it found no LV."""
        ef = self._ventricle(self._regressed, _LV).ef_percent / 100
        return float(np.clip(np.nan_to_num(ef), 0, 1))

    def finish(
        self,
        abnormal_probability: float,
        labels_ed: Labels | None,
        labels_es: Labels | None,
        *,
        window_pixel_mm: tuple[float, float] | None = None,
        extra_flags: Sequence[Flag] = (),
        readings_mm2: Array | None = None,
        laws: Mapping[str, Confidence] | None = None,
    ) -> Measured:
        """Everything measured. labels_ed, labels_es: (z, y, x) of ``phases``, for the wall; None: without the wall.

        window_pixel_mm: (y, x) of these two; None: as of the labels that were added. readings_mm2, laws: areas
        (n, 2, 3) of ED and ES in other orientations, and what follows from how they differ, see ``confidence``.
        """
        ed, es = self.phases()
        volumes = volumes_ml(self._areas, self._gap_mm)
        lv, rv = self._ventricle(self._areas, _LV), self._ventricle(self._areas, _RV)
        regressed = self._ventricle(self._regressed, _LV)
        mass_ed, mass_es = (float(volumes[t, _WALL]) * DENSITY_G_ML for t in (ed, es))
        base_first = base_is_first(self._areas[ed, :, _LV], self._areas[es, :, _LV])
        wall = None
        if labels_ed is not None and labels_es is not None:
            wall = wall_by_segment(
                labels_ed, labels_es, window_pixel_mm or self._pixel_mm, base_first=base_first, mirrored=self._mirrored
            )
        halves: dict[str, float] = {}
        if readings_mm2 is not None and laws:
            per_slice = np.stack([self._regressed[t].sum(0) for t in (ed, es)])
            volumes_read = Readings(masks=readings_mm2 * self._gap_mm / 1000, regressed=per_slice * self._gap_mm / 1000)
            halves = intervals(volumes_read, laws)
        evidence = Evidence(
            areas_mm2=self._areas, centres_mm=self._centres, certainty=self._certainty, ed=ed, es=es,
            base_first=base_first, lv=lv, rv=rv, regressed=regressed, mass_ed_g=mass_ed, mass_es_g=mass_es,
            ef_within=halves.get("lv_ef_percent"),
        )  # fmt: skip
        rate = self._heart_rate_bpm
        return Measured(
            areas_mm2=self._areas, regressed_mm2=self._regressed, gap_mm=self._gap_mm, lv_ml=volumes[:, _LV],
            rv_ml=volumes[:, _RV], myocardium_ml=volumes[:, _WALL],
            regressed_lv_ml=volumes_ml(self._regressed, self._gap_mm)[:, _LV], ed=ed, es=es, lv=lv, rv=rv,
            regressed=regressed, mass_g=mass_ed if mass_ed >= LEAST_MASS_G else float("nan"), heart_rate_bpm=rate,
            cardiac_output_l_min=None if rate is None else lv.sv_ml * rate / 1000,
            abnormal_probability=abnormal_probability, base_first=base_first, wall=wall,
            flags=(*find_flags(evidence), *extra_flags),
            body_surface_m2=self._body_surface_m2, intervals=halves,
        )  # fmt: skip

    def _ventricle(self, areas_mm2: Array, structure: int) -> Ventricle:
        """Volumes of one ventricle from a table of areas, at the phases of the masks."""
        return ventricle(volumes_ml(areas_mm2, self._gap_mm)[:, structure], *self.phases())


def as_record(measured: Measured) -> dict[str, Any]:
    """What the JSON file says of a case: plain values, None for what could not be measured, frames from 1."""
    curves = {"lv": measured.lv_ml, "rv": measured.rv_ml, "myocardium": measured.myocardium_ml}
    return {
        "lv": _rounded(asdict(measured.lv)) | {"mass_g": plain_number(measured.mass_g)},
        "rv": _rounded(asdict(measured.rv)),
        "regressed": _rounded(asdict(measured.regressed)),
        "ed_frame": measured.ed + 1,
        "es_frame": measured.es + 1,
        "volume_ml": {name: [plain_number(v) for v in curve] for name, curve in curves.items()},
        "heart_rate_bpm": plain_number(measured.heart_rate_bpm),
        "cardiac_output_l_min": plain_number(measured.cardiac_output_l_min),
        "body_surface_m2": plain_number(measured.body_surface_m2),
        "indexed": _rounded(measured.indexed),
        "abnormal_probability": plain_number(measured.abnormal_probability, 4),
        "base_first": measured.base_first,
        "wall": None if measured.wall is None else _wall_rows(measured.wall),
        "flags": [asdict(flag) for flag in measured.flags],
        "confident": measured.confident,
        "within_90_percent": _rounded(dict(measured.intervals)),
    }


def csv_row(case: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """One line of ``function.csv`` from a case's ``as_record``: a value or None for each of ``CSV_COLUMNS``."""
    sides = {f"{side}_{name}": value for side in ("lv", "rv") for name, value in record[side].items()}
    codes = dict.fromkeys(flag["code"] for flag in record["flags"] if flag["doubt"])
    found = {**dict.fromkeys(INDEXED), **record["indexed"], **record, **sides, "case": case, "flags": ";".join(codes)}
    return {column: found[column] for column in CSV_COLUMNS}


def values_of(measured: Measured) -> dict[str, float | None]:
    """The numbers that a structured report holds, by name and unit; None or NaN where there is none."""
    sides = {"lv": measured.lv, "rv": measured.rv}
    return {f"{side}_{name}": value for side, one in sides.items() for name, value in asdict(one).items()} | {
        "lv_mass_g": measured.mass_g,
        "heart_rate_bpm": measured.heart_rate_bpm,
        "cardiac_output_l_min": measured.cardiac_output_l_min,
        "abnormal_probability": measured.abnormal_probability,
    }


def _wall_rows(wall: SegmentWall) -> list[dict[str, Any]]:
    """One a segment."""
    return [
        {"segment": i + 1, "name": name}
        | {key: plain_number(getattr(wall, key)[i]) for key in ("ed_mm", "es_mm", "thickening_percent")}
        for i, name in enumerate(SEGMENT_NAMES)
    ]


def _rounded(values: dict[str, float]) -> dict[str, float | None]:
    return {name: plain_number(value) for name, value in values.items()}
