"""Enhanced multi-frame MR: each frame as if it were a classic single-frame file."""

from pydicom.dataset import Dataset

# Enhanced keyword: classic keyword with the same meaning (PS3.3 C.8.13 and C.8.3).
CLASSIC = {
    "EffectiveEchoTime": "EchoTime",
    "InversionTimes": "InversionTime",
    "NominalCardiacTriggerDelayTime": "TriggerTime",
    "TemporalPositionIndex": "TemporalPositionIdentifier",
    "FrameAcquisitionDateTime": "AcquisitionDateTime",
    "FrameType": "ImageType",
    "FrameComments": "ImageComments",
}
SCANNING_SEQUENCE = {"SPIN": ["SE"], "GRADIENT": ["GR"], "BOTH": ["SE", "GR"]}


def classic_view(ds: Dataset, frame: int) -> Dataset:
    """The tags of one frame (0-based) in one flat dataset with classic keywords; sequences of ``ds`` are left out."""
    view = Dataset()
    for element in ds:
        if element.VR != "SQ":
            view[element.tag] = element
    for groups in [*(ds.get("SharedFunctionalGroupsSequence") or [])[:1], ds.PerFrameFunctionalGroupsSequence[frame]]:
        for macro in groups:
            # More than one item (several mappings, several motion corrections) has no classic counterpart.
            for element in macro.value[0] if macro.VR == "SQ" and macro.value else ():
                keyword = CLASSIC.get(element.keyword, element.keyword)
                if keyword and element.VR != "SQ" and not element.is_empty:
                    setattr(view, keyword, element.value)
    view.InstanceNumber = frame + 1
    if view.get("InPlanePhaseEncodingDirection") == "COLUMN":
        view.InPlanePhaseEncodingDirection = "COL"
    if interval := view.get("RRIntervalTimeNominal"):
        view.NominalInterval = round(interval)
    if lines := view.get("MRAcquisitionPhaseEncodingStepsInPlane"):
        read = int(view.get("MRAcquisitionFrequencyEncodingSteps") or 0)
        by_row = view.get("InPlanePhaseEncodingDirection") == "ROW"
        view.AcquisitionMatrix = [0, read, int(lines), 0] if by_row else [read, 0, 0, int(lines)]
    view.ScanningSequence = SCANNING_SEQUENCE.get(str(ds.get("EchoPulseSequence")), ["RM"])
    return view
