"""The header of one DICOM file, where its pixel data starts, and whether all of the pixel data is there."""

import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom import config
from pydicom.dataset import FileDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from cmrsr.errors import UnreadableError
from cmrsr.io.dicom_wanted import TAGS

UNDEFINED_LENGTH = 0xFFFFFFFF
SEQUENCE_END = (0xFFFE, 0xE0DD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A dataset without its pixel data, and the offset of the pixel data element in the file (None: there is none)."""

    dataset: FileDataset
    pixels_at: int | None


def read_header(path: Path, *, all_tags: bool = False) -> Header:
    """The header up to the pixel data: only ``TAGS`` unless ``all_tags``. Raises UnreadableError if it is not DICOM."""
    try:
        with path.open("rb") as file, warnings.catch_warnings(), config.disable_value_validation():
            # pydicom warns of every tag that breaks a rule; what matters here is checked value by value.
            warnings.simplefilter("ignore")
            size = path.stat().st_size
            ds = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=None if all_tags else TAGS)
            offset = file.tell()
    except pydicom.errors.InvalidDicomError:
        raise UnreadableError("not a DICOM file") from None
    except OSError as error:
        raise UnreadableError(f"cannot be opened ({error.strerror})") from None
    except Exception as error:  # a damaged header makes pydicom raise anything from EOFError to RecursionError
        raise UnreadableError(f"damaged DICOM header ({' '.join(str(error).split())})") from None
    deflated = ds.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
    return Header(dataset=ds, pixels_at=offset if offset < size or deflated else None)


def damage_of(header: Header, path: Path) -> str | None:
    """What is missing of the pixel data, without decoding it; None when it is all there (or cannot be told)."""
    ds = header.dataset
    syntax = ds.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        return "no transfer syntax in its header"
    if syntax == DeflatedExplicitVRLittleEndian or header.pixels_at is None:
        return None
    endian = "<" if syntax.is_little_endian else ">"
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(header.pixels_at)
        element = file.read(8 if syntax.is_implicit_VR else 12)
        if len(element) < (8 if syntax.is_implicit_VR else 12):
            return "cut off before its pixel data"
        (length,) = struct.unpack(f"{endian}L", element[-4:])
        start = file.tell()
        if syntax.is_compressed:
            while len(item := file.read(8)) == 8:
                group, number, item_length = struct.unpack("<HHL", item)
                if (group, number) == SEQUENCE_END:
                    return None
                file.seek(item_length, 1)
            return "compressed pixel data cut off"
    bits = int(ds.get("BitsAllocated") or 16) * int(ds.get("NumberOfFrames") or 1)
    expected = int(ds.get("Rows") or 0) * int(ds.get("Columns") or 0) * bits // 8
    present = size - start if length == UNDEFINED_LENGTH else min(length, size - start)
    return f"pixel data cut off: {present} of {expected} bytes" if present < expected else None
