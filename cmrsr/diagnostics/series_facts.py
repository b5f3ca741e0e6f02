"""What a series is, in numbers and words, from its headers alone and without anything about the patient."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.io.candidate import Candidate
from cmrsr.io.planes import normal_of
from cmrsr.io.series import Series

# From base to apex the left ventricle points to the left, forward and down (RAS); it varies by some 20 degrees.
HEART_AXIS = np.array([-0.66, 0.56, -0.50]) / np.linalg.norm([-0.66, 0.56, -0.50])
SHORT_AXIS_DEG = 32.0  # between the normal of the slices and the heart's axis, at most
LONG_AXIS_DEG = 62.0  # at least: the slices contain the axis
STRAIGHT_DEG = 15.0  # from an axis of the body: axial, sagittal or coronal
STACK = 3  # slices: a stack whose normal is roughly the heart's axis is a short-axis one
STACK_DEG = 45.0
LEAST_GAP_MM = 0.05
_TIME_FROM = re.compile(r"time order from (\w+)|(\w+\.json) lists")
_SCANNER_TAGS = ("Manufacturer", "ManufacturerModelName", "MagneticFieldStrength", "SpecificCharacterSet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Of the frames, ms: the first and the last, the median step, whether steps are equal, and where they came from."""

    first_ms: float
    last_ms: float
    step_ms: float
    even: bool
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFacts:
    """What ``cmrsr info`` reports of one series. None or "": the headers do not say.

    component: "" of magnitude images, else what they are: "phase images", "a map".
    """

    kind: str
    component: str
    shape_tzyx: tuple[int, int, int, int]
    spacing_mm_zyx: tuple[float, float, float]
    slice_gap_mm: float | None
    times: Times | None
    plane: str
    phase_axis: str | None
    scanner: str
    notes: tuple[str, ...]


def facts_of(series: Series) -> SeriesFacts:
    """Everything the headers say; reads the header of one file once more for the scanner."""
    notes = series.source.notes
    return SeriesFacts(
        kind=series.kind, component=_component(series), shape_tzyx=series.shape, spacing_mm_zyx=series.spacing_mm,
        slice_gap_mm=_gap_mm(series),
        times=_times(series), plane="" if any("gives no orientation" in note for note in notes) else plane_of(series),
        phase_axis=series.phase_axis, scanner=_scanner(series), notes=notes,
    )  # fmt: skip


def _component(series: Series) -> str:
    component = series.source.header.table[0][0].component if series.source.format == "dicom" else "magnitude"
    return "" if component == "magnitude" else "a map" if component == "map" else f"{component} images"


def size_bytes(candidate: Candidate) -> int:
    """Of all files of a series; those that have gone count nothing."""
    return sum(_size(path) for path in candidate.paths)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def plane_of(series: Series) -> str:
    """The plane of the slices in words: "axial", "sagittal", "coronal", "short axis", "long axis" or "oblique"."""
    normal = np.abs(normal_of(series.affine))
    if not np.isfinite(normal).all():
        return ""
    body = int(normal.argmax())
    if _angle_deg(float(normal[body])) <= STRAIGHT_DEG:
        return ("sagittal", "coronal", "axial")[body]
    tilt = _angle_deg(abs(float(normal_of(series.affine) @ HEART_AXIS)))
    if tilt <= (STACK_DEG if series.shape[1] >= STACK else SHORT_AXIS_DEG):
        return "short axis"
    return "long axis" if tilt >= LONG_AXIS_DEG else "oblique"


def _angle_deg(cosine: float) -> float:
    return float(np.degrees(np.arccos(min(1.0, cosine))))


def _gap_mm(series: Series) -> float | None:
    """Between neighbouring slices; negative where they overlap. None where the thickness is unknown."""
    thickness = None if series.source.format != "dicom" else series.source.header.table[0][0].thickness_mm
    if thickness is None or series.shape[1] < 2:
        return None
    gap = series.spacing_mm[0] - float(thickness)
    return gap if abs(gap) >= LEAST_GAP_MM else 0.0


def _times(series: Series) -> Times | None:
    if series.times_ms is None or series.n_frames < 2:
        return None
    times: NDArray[np.float64] = np.asarray(series.times_ms, np.float64).reshape(series.n_frames, -1).mean(1)
    steps = np.diff(times)
    found = next((m for note in series.source.notes if (m := _TIME_FROM.search(note))), None)
    source = (found[1] or found[2]) if found else "header" if series.source.format == "nifti" else ""
    return Times(
        first_ms=float(times[0]), last_ms=float(times[-1]), step_ms=float(np.median(steps)), source=source,
        even=bool(np.ptp(steps) <= 0.05 * abs(float(np.median(steps)))),
    )  # fmt: skip


def _scanner(series: Series) -> str:
    """Maker, model and field strength."""
    if series.source.format != "dicom":
        return ""
    import pydicom

    try:
        ds = pydicom.dcmread(
            series.source.paths[0], stop_before_pixels=True, force=True, specific_tags=list(_SCANNER_TAGS)
        )
        maker, model, field = (str(ds.get(tag) or "").strip() for tag in _SCANNER_TAGS[:3])
    except Exception:  # of a damaged header; the reader of the images has had its say
        return ""
    model = model.removeprefix(maker).strip() if maker else model
    tesla = f"{float(field):g} T" if re.fullmatch(r"\d+(\.\d+)?", field) and float(field) < 30 else ""
    return " ".join(part for part in (maker, model, tesla) if part)


def record_of(facts: SeriesFacts) -> Mapping[str, Any]:
    """For JSON."""
    times = facts.times
    return {
        "kind": facts.kind, "component": facts.component or "magnitude", "shape_tzyx": facts.shape_tzyx,
        "spacing_mm_zyx": facts.spacing_mm_zyx,
        "slice_gap_mm": facts.slice_gap_mm,
        "times_ms": None if times is None else {
            "first": times.first_ms, "last": times.last_ms, "step": times.step_ms, "even": times.even,
            "from": times.source,
        },
        "plane": facts.plane, "phase_axis": facts.phase_axis, "scanner": facts.scanner, "notes": facts.notes,
    }  # fmt: skip
