"""The parts of the heart that are labelled, in DICOM's terms."""

from dataclasses import dataclass

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

RGB = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Segment:
    """One part; the colours are of Okabe & Ito's palette, which people with colour-vision deficiency can tell apart."""

    label: str
    type: Code
    colour: RGB


# By label, which is the segment number as well. DICOM has codes for ventricles, none for their cavities: the code is
# that of the ventricle, as is usual for the blood of it, and the label says cavity.
SEGMENTS: dict[int, Segment] = {
    1: Segment("RV cavity", codes.SCT.RightVentricle, (0, 114, 178)),
    2: Segment("LV myocardium", codes.SCT.LeftVentricleMyocardium, (0, 158, 115)),
    3: Segment("LV cavity", codes.SCT.LeftVentricle, (213, 94, 0)),
}
CATEGORY: Code = codes.SCT.AnatomicalStructure
