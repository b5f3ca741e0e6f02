"""The parts of the heart, and of its wall, that are labelled, in DICOM's terms."""

from dataclasses import dataclass

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

RGB = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Segment:
    """One part; the colours are of Okabe & Ito's palette, which people with colour-vision deficiency can tell apart.

    region: what it is found in, None where the type says that.
    """

    label: str
    type: Code
    colour: RGB
    category: Code = codes.SCT.AnatomicalStructure
    region: Code | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What one object holds, by label, which is the segment number as well; ``title`` ends its series description."""

    name: str
    description: str
    title: str
    segments: dict[int, Segment]


# DICOM has codes for ventricles, none for their cavities: the code is that of the ventricle, as is usual for the blood
# of it, and the label says cavity.
SEGMENTS: dict[int, Segment] = {
    1: Segment("RV cavity", codes.SCT.RightVentricle, (0, 114, 178)),
    2: Segment("LV myocardium", codes.SCT.LeftVentricleMyocardium, (0, 158, 115)),
    3: Segment("LV cavity", codes.SCT.LeftVentricle, (213, 94, 0)),
}
HEART = Parts(name="HEART", description="Ventricles of the heart", title="masks", segments=SEGMENTS)
SCAR = Parts(
    name="SCAR",
    description="Scar of the left ventricle, predicted",
    title="SYNTHETIC scar (cmrsr)",
    segments={
        1: Segment(
            "Scar", codes.SCT.Scar, (230, 159, 0), codes.SCT.MorphologicallyAbnormalStructure,
            codes.SCT.LeftVentricleMyocardium,
        )
    },
)  # fmt: skip
