"""What marks an image that a model made up, so that nobody takes it for one that a scanner acquired."""

from pydicom.dataset import Dataset

from cmrsr.io.dicom.write.derived_tags import MAX_DESCRIPTION, NOTICE
from cmrsr.io.dicom.write.source_tags import put

COMMENT = f"SYNTHETIC: computed by a model, not acquired; the enhancement is not that of a contrast agent. {NOTICE}"
IMAGE_TYPE = ("DERIVED", "SECONDARY", "OTHER", "SYNTHETIC")
# Of a source image, what is still true: no pulse sequence, no inversion time, no contrast agent, no time in the beat.
KEPT = (
    "AcquisitionDate", "AcquisitionTime", "ContentDate", "ContentTime", "LossyImageCompression",
    "LossyImageCompressionRatio", "LossyImageCompressionMethod", "SliceThickness", "SpacingBetweenSlices",
)  # fmt: skip
# Of the source series, what would say that the scanner made this one.
_SCANNER = ("ProtocolName", "StationName", "DeviceSerialNumber", "ManufacturerModelName", "SoftwareVersions")


def mark_synthetic(shared: Dataset, description: str) -> None:
    """Change the tags of a derived series (see ``plan_result``) to those of a synthetic one.

    The description starts with what it is: viewers cut the end off. ContributingEquipmentSequence has to be there.
    """
    for keyword in _SCANNER:
        shared.pop(keyword, None)
    software = shared.ContributingEquipmentSequence[-1]
    put(shared, "SyntheticData", "YES")
    put(shared, "ImageType", list(IMAGE_TYPE))
    put(shared, "SeriesDescription", description[:MAX_DESCRIPTION].strip())
    put(shared, "ImageComments", COMMENT)
    put(shared, "Manufacturer", software.Manufacturer)
    put(shared, "ManufacturerModelName", software.ManufacturerModelName)
    put(shared, "SoftwareVersions", software.SoftwareVersions)
