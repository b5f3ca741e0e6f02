"""The tags that are read of every DICOM file to tell what it is; all others are skipped, for speed."""

from pydicom.tag import BaseTag, Tag

# Tags in which images of one place and one time may differ: each makes a scan of its own.
SEPARATING = (
    "AcquisitionNumber", "EchoNumbers", "DiffusionBValue", "VelocityEncodingDirection", "VelocityEncodingMaximumValue",
    "VelocityEncodingMinimumValue", "SequenceName", "PulseSequenceName", "FlipAngle", "ScanOptions",
    "ContrastBolusAgent", "RepetitionTime", "StackID", "ProtocolName", "ImageComments", "ImageType",
)  # fmt: skip
# What vendors say in private tags: (creator, group, element within the creator's block).
GE_DATA_TYPE = ("GEMS_PARM_01", 0x0043, 0x2F)  # 0 magnitude, 1 phase, 2 real, 3 imaginary
PHILIPS_TYPE = ("Philips MR Imaging DD 001", 0x2005, 0x11)  # M, P, R, I
SIEMENS_TYPE = ("SIEMENS MR HEADER", 0x0051, 0x16)  # the image type again, such as "M/NORM/DIS2D"
SIEMENS_B_VALUE = ("SIEMENS MR HEADER", 0x0019, 0x0C)
SIEMENS_FLOW = ("SIEMENS MR HEADER", 0x0051, 0x14)  # velocity encoding, such as "v150_in"
SIEMENS_MOSAIC = ("SIEMENS MR HEADER", 0x0019, 0x0A)  # number of images in a mosaic
GE_B_VALUE = ("GEMS_PARM_01", 0x0043, 0x39)
GE_VENC = ("GEMS_ACQU_01", 0x0019, 0xCC)
PHILIPS_B_VALUE = ("Philips Imaging DD 001", 0x2001, 0x03)
PRIVATE = (
    GE_DATA_TYPE, PHILIPS_TYPE, SIEMENS_TYPE, SIEMENS_B_VALUE, SIEMENS_FLOW, SIEMENS_MOSAIC, GE_B_VALUE, GE_VENC,
    PHILIPS_B_VALUE,
)  # fmt: skip
PRIVATE_BLOCKS = (0x10, 0x11, 0x12)  # vendors use the first free block; later ones come from archives that renumber
_KEYWORDS = (
    "SpecificCharacterSet", "ImageType", "SOPClassUID", "SOPInstanceUID", "Modality", "SeriesDescription",
    "ProtocolName", "SequenceName", "ImageComments", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber",
    "FrameOfReferenceUID", "ComplexImageComponent", "AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime",
    "ContentDate", "ContentTime", "InstanceNumber", "TemporalPositionIdentifier", "TriggerTime", "InversionTime",
    "EchoTime", "NominalInterval", "HeartRate", "SliceThickness", "PixelSpacing",
    "ImagePositionPatient", "ImageOrientationPatient", "InPlanePhaseEncodingDirection", "AcquisitionMatrix",
    "PercentPhaseFieldOfView", "RescaleSlope", "RescaleIntercept", "Rows", "Columns", "SamplesPerPixel",
    "PhotometricInterpretation", "NumberOfFrames", "BitsAllocated", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "DimensionIndexSequence", "PatientID", "StudyDate",
)  # fmt: skip
_PRIVATE_TAGS = {(group << 16) | (block << 8) | element for _, group, element in PRIVATE for block in PRIVATE_BLOCKS}
_CREATORS = {(group << 16) | block for _, group, _ in PRIVATE for block in PRIVATE_BLOCKS}
TAGS: list[BaseTag] = [
    *(Tag(keyword) for keyword in dict.fromkeys((*_KEYWORDS, *SEPARATING))),
    *(Tag(number) for number in sorted(_PRIVATE_TAGS | _CREATORS)),
]
