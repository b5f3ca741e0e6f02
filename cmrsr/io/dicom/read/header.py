"""The header of one DICOM file, how it is written, where its pixel data starts, and whether all of that is there.

No stricter than what else reads the format (DCMTK, dcm2niix, pydicom with ``force``): preamble, file meta information
and transfer syntax may be missing. What no reader can make sense of is an UnreadableError, whatever the bytes are.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom import config
from pydicom.charset import convert_encodings
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    AllTransferSyntaxes,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)
from pydicom.values import convert_string

from cmrsr.errors import UnreadableError
from cmrsr.io.dicom.read.codec import one_line
from cmrsr.io.dicom.read.elements import (
    BIG,
    EXPLICIT,
    IMPLICIT,
    ITEM,
    UNDEFINED,
    Element,
    Encoding,
    element_at,
    end_of_value,
    is_dataset,
    name_of,
    standard_vr,
)
from cmrsr.io.dicom.read.stored import FLOATS, Stored, layout_of, missing
from cmrsr.io.dicom.read.wanted import TAGS
from cmrsr.io.dicom.read.window import CutOffError, Inflated, Window

PIXEL_DATA = (*FLOATS, 0x7FE00010)
GE_BIG_PIXELS = "1.2.840.113619.5.2"  # private: a header in implicit little endian, pixels in big endian
MAX_DEFLATION = 1032  # no deflated byte becomes more
MAX_INFLATED = 64 << 20  # bytes of a deflated dataset up to its pixel data
Raw = dict[BaseTag, DataElement | RawDataElement]
SIZES = {"AT": 4, "FD": 8, "FL": 4, "SL": 4, "SS": 2, "SV": 8, "UL": 4, "US": 2, "UV": 8}  # bytes of a number
LAYOUT = frozenset({0x00280008, 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280103})  # what pixels need
_WANTED = frozenset(map(int, TAGS)) | LAYOUT


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A dataset without its pixel data, and the offset of the pixel data element (None: there is none).

    ``encoding`` is how the dataset is really written, ``syntax`` what the file says of it (None: nothing). Offsets are
    in the file; of a deflated dataset in what it inflates to, and ``deflated_at`` is then where it starts in the file.
    """

    dataset: FileDataset
    pixels_at: int | None
    encoding: Encoding
    syntax: str | None
    deflated_at: int | None

    @property
    def little_pixels(self) -> bool:
        """Whether native pixels are little endian."""
        return self.encoding.little and self.syntax != GE_BIG_PIXELS


def read_header(path: Path, *, all_tags: bool = False) -> Header:
    """The header up to the pixel data: only the tags of ``dicom_wanted`` unless ``all_tags``.

    Raises UnreadableError, and nothing else.
    """
    try:
        with path.open("rb") as file:
            return header_in(file, path, None if all_tags else _WANTED)
    except OSError as error:
        raise UnreadableError(f"cannot be opened ({error.strerror})") from None
    except CutOffError:
        raise UnreadableError("cut off in its header") from None


def header_in(file: BinaryIO, path: Path, wanted: frozenset[int] | None) -> Header:
    """As ``read_header``, of an open file, and of ``wanted`` tags (None: all). Also raises CutOffError and OSError."""
    window = Window(file, file.seek(0, 2))
    meta, start = _file_meta(window)
    syntax = _text(meta[BaseTag(0x00020010)].value) if BaseTag(0x00020010) in meta else None
    if syntax == DeflatedExplicitVRLittleEndian:
        encoding, deflated_at = EXPLICIT, start
        window, start = Inflated(file, start, MAX_INFLATED), 0
    else:
        encoding, deflated_at = _encoding(window, start, syntax), None
    raw, pixels_at = _elements(window, start, encoding, wanted)
    with config.disable_value_validation(), warnings.catch_warnings():
        # pydicom warns of every value that breaks a rule; what matters here is checked value by value.
        warnings.simplefilter("ignore")
        ds = FileDataset(path, raw, None, FileMetaDataset(meta), encoding.implicit, encoding.little)
        charset = raw.get(BaseTag(0x00080005))
        names = convert_string(charset.value or b"", encoding.little) if charset is not None else ""
        ds.set_original_encoding(encoding.implicit, encoding.little, convert_encodings(names))
        for tag in [tag for tag, element in raw.items() if element.VR == "SQ"]:
            _build(ds, tag, needed=tag in _WANTED)
    return Header(dataset=ds, pixels_at=pixels_at, encoding=encoding, syntax=syntax, deflated_at=deflated_at)


def _file_meta(window: Window) -> tuple[Raw, int]:
    """Group 2, as far as there is one, and where the dataset starts. UnreadableError if it is no DICOM file."""
    start = 132 if window.has(132) and window.read(128, 4) == b"DICM" else 0
    if not start and not any(is_dataset(window, 0, encoding) for encoding in (EXPLICIT, IMPLICIT, BIG)):
        raise UnreadableError("not a DICOM file")
    encoding = EXPLICIT  # by the standard; some write implicit
    if window.has(start + 6) and window.read(start, 2) == b"\2\0" and not window.read(start + 4, 2).isalpha():
        encoding = IMPLICIT
    meta: Raw = {}
    while window.has(start + 8) and window.read(start, 2) == b"\2\0":
        element = element_at(window, start, encoding)
        if (vr := _fitting(element, element.length)) != "":
            tag = BaseTag(element.tag)
            meta[tag] = _raw(window, tag, element, vr, encoding, element.value + element.length)
        start = element.value + element.length
    return meta, start


def _encoding(window: Window, start: int, syntax: str | None) -> Encoding:
    """How the dataset is written: as the file says, if that makes sense, else what makes sense."""
    known = {ImplicitVRLittleEndian: IMPLICIT, GE_BIG_PIXELS: IMPLICIT, ExplicitVRBigEndian: BIG}
    said = known.get(syntax or "", EXPLICIT)
    return next((each for each in (said, EXPLICIT, IMPLICIT, BIG) if is_dataset(window, start, each)), said)


def _elements(window: Window, offset: int, encoding: Encoding, wanted: frozenset[int] | None) -> tuple[Raw, int | None]:
    """The elements up to the pixel data, as pydicom keeps what is not yet used, and where the pixel data starts."""
    raw: Raw = {}
    while window.has(offset + 8):
        element = element_at(window, offset, encoding)
        if element.tag in PIXEL_DATA:
            return raw, offset
        if element.tag == 0:  # padding
            break
        if element.tag >= ITEM:  # a delimiter too many
            offset = element.value
            continue
        keep = wanted is None or element.tag in wanted
        if keep and (element.length == UNDEFINED or (element.vr or standard_vr(element.tag)) == "SQ"):
            element = element._replace(vr="UN" if element.vr == "UN" else "SQ")
        try:
            end, following = end_of_value(window, element, encoding, deep=keep)
        except CutOffError:
            end = following = 1 << 62
        if not window.has(following):
            raise UnreadableError(f"cut off in its header, in {name_of(element.tag)}")
        if keep and (vr := _fitting(element, end - element.value)) != "":
            tag = BaseTag(element.tag)
            raw[tag] = _raw(window, tag, element, vr, encoding, end)
        offset = following
    return raw, None


def _fitting(element: Element, length: int) -> str | None:
    """The VR as written (None: not at all) or, if its numbers do not fill the value, the standard's; "": neither."""
    if length % SIZES.get(element.vr or "", 1) == 0 and element.vr is not None:
        return element.vr
    known = (standard_vr(element.tag) or "UN")[:2]
    if length % SIZES.get(known, 1):
        return ""
    return known if element.vr is not None else None


def _raw(
    window: Window, tag: BaseTag, element: Element, vr: str | None, encoding: Encoding, end: int
) -> RawDataElement:
    implicit, little = encoding.implicit, encoding.little
    if vr == "UN" and element.length == UNDEFINED:
        vr, implicit, little = "SQ", True, True
    value = window.read(element.value, end - element.value)
    return RawDataElement(tag, vr, len(value), value, element.value, implicit, little)


def _build(ds: FileDataset, tag: BaseTag, *, needed: bool) -> None:
    """Turn the bytes of a sequence into its items; what cannot be is an error, or left out where it is not needed."""
    try:
        list(ds[tag].value)
    except Exception as error:  # a damaged sequence makes pydicom raise anything from EOFError to RecursionError
        if needed:
            raise UnreadableError(f"damaged DICOM header: {name_of(tag)} ({one_line(error)})") from None
        del ds[tag]


def _text(value: object) -> str:
    return value.decode("latin-1").strip("\0 ") if isinstance(value, bytes) else ""


def stored_pixels(header: Header, file: BinaryIO) -> Stored:
    """The pixel data of the file that the header was read from. Raises UnreadableError and CutOffError."""
    if header.pixels_at is None:
        raise UnreadableError("no pixel data in it")
    layout, size = layout_of(header.dataset), file.seek(0, 2)
    n_bytes = layout.frame_bytes * layout.n_frames
    if header.deflated_at is None:
        window = Window(file, size)
    elif n_bytes > MAX_DEFLATION * size:
        raise UnreadableError(f"pixel data cut off: {size} deflated bytes cannot hold {n_bytes}")
    else:
        window = Inflated(file, header.deflated_at, header.pixels_at + n_bytes + MAX_INFLATED)
    element = element_at(window, header.pixels_at, header.encoding)
    named = header.syntax is None or header.syntax in AllTransferSyntaxes
    named = named or (header.syntax == GE_BIG_PIXELS and header.encoding == IMPLICIT)
    if not named and element.length != UNDEFINED:
        raise UnreadableError(f"unknown transfer syntax {header.syntax!r}; convert it to a standard one first")
    if element.tag in FLOATS and layout.allocated != 8 * FLOATS[element.tag]:
        raise UnreadableError(
            f"BitsAllocated (0028,0100) is {layout.allocated}, its floats have {8 * FLOATS[element.tag]}"
        )
    return Stored(window=window, element=element, little=header.little_pixels, layout=layout)


def damage_of(header: Header, path: Path) -> str | None:
    """What is wrong with the pixel data, without decoding it; None when nothing is (or it cannot be known)."""
    try:
        with path.open("rb") as file:
            return missing(stored_pixels(header, file))
    except UnreadableError as error:
        return str(error)
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    except CutOffError:
        return "cut off before its pixel data"
