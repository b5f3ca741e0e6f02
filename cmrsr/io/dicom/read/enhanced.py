"""Enhanced multi-frame MR: each frame as if it were a classic single-frame file."""

from dataclasses import dataclass

import numpy as np
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

# Enhanced keyword: classic keyword with the same meaning (PS3.3 C.8.13 and C.8.3).
CLASSIC = {
    "EffectiveEchoTime": "EchoTime",
    "InversionTimes": "InversionTime",
    "NominalCardiacTriggerDelayTime": "TriggerTime",
    "TemporalPositionIndex": "TemporalPositionIdentifier",
    "FrameAcquisitionDateTime": "AcquisitionDateTime",
    "FrameAcquisitionNumber": "AcquisitionNumber",
    "FrameType": "ImageType",
    "FrameComments": "ImageComments",
}
SCANNING_SEQUENCE = {"SPIN": ["SE"], "GRADIENT": ["GR"], "BOTH": ["SE", "GR"]}
# Dimensions that count time points, and those that count places: what a frame differs in besides is another scan.
_TIME = {
    "TemporalPositionIndex", "NominalCardiacTriggerDelayTime", "NominalPercentageOfCardiacPhase", "TriggerTime",
    "FrameAcquisitionDateTime", "FrameReferenceDateTime", "TemporalPositionTimeOffset", "ActualCardiacTriggerDelayTime",
    "TemporalPositionIdentifier", "InversionTimes",
}  # fmt: skip
_PLACE = {"StackID", "InStackPositionNumber", "ImagePositionPatient", "ImageOrientationPatient", "SliceLocation"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimensions:
    """Dimension indices of one frame (PS3.3 C.7.6.17): time (None without one), and what is neither time nor place."""

    time: int | None = None
    others: tuple[tuple[str, str], ...] = ()


def classic_view(ds: Dataset, frame: int) -> Dataset:
    """The tags of one frame (0-based) in one flat dataset with classic keywords; sequences of ``ds`` are left out.

    The view owns its elements: what is changed in it changes neither ``ds`` nor another view.
    """
    view = Dataset()
    for tag in ds.keys():  # noqa: SIM118  iterating a Dataset converts every value, and one that is garbled raises
        if not (dictionary_has_tag(tag) and dictionary_VR(tag) == "SQ"):
            view[tag] = ds.get_item(tag)
    for groups in [*(ds.get("SharedFunctionalGroupsSequence") or [])[:1], ds.PerFrameFunctionalGroupsSequence[frame]]:
        for macro in groups:
            # More than one item (several mappings, several motion corrections) has no classic counterpart.
            for element in macro.value[0] if macro.VR == "SQ" and macro.value else ():
                keyword = CLASSIC.get(element.keyword, element.keyword)
                if keyword and element.VR != "SQ" and not element.is_empty:
                    _put(view, keyword, element.value)
    _put(view, "InstanceNumber", frame + 1)
    if view.get("InPlanePhaseEncodingDirection") == "COLUMN":
        _put(view, "InPlanePhaseEncodingDirection", "COL")
    if interval := view.get("RRIntervalTimeNominal"):
        _put(view, "NominalInterval", round(interval))
    if lines := view.get("MRAcquisitionPhaseEncodingStepsInPlane"):
        read = int(view.get("MRAcquisitionFrequencyEncodingSteps") or 0)
        by_row = view.get("InPlanePhaseEncodingDirection") == "ROW"
        _put(view, "AcquisitionMatrix", [0, read, int(lines), 0] if by_row else [read, 0, 0, int(lines)])
    _put(view, "ScanningSequence", SCANNING_SEQUENCE.get(str(ds.get("EchoPulseSequence")), ["RM"]))
    return view


def _put(view: Dataset, keyword: str, value: object) -> None:
    """A new element: ``setattr`` would write into one that the view shares with the file."""
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    view[tag] = DataElement(tag, dictionary_VR(tag), value, already_converted=True)  # garbled text stays what it is


def dimensions_of(ds: Dataset, view: Dataset) -> Dimensions:
    """What DimensionIndexValues of a frame's ``view`` mean by the DimensionIndexSequence of its file ``ds``."""
    values = [int(v) for v in np.ravel(view.get("DimensionIndexValues") or ())]
    pointers = [item.get("DimensionIndexPointer") for item in ds.get("DimensionIndexSequence") or ()]
    if not values or len(values) != len(pointers):
        return Dimensions()
    named = [(keyword_for_tag(p) or str(p) if p is not None else "", v) for p, v in zip(pointers, values, strict=True)]
    return Dimensions(
        time=next((value for keyword, value in named if keyword in _TIME), None),
        others=tuple((f"dimension {k}", str(v)) for k, v in named if k not in _TIME and k not in _PLACE),
    )
