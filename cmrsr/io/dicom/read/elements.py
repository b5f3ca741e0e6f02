"""The elements of a DICOM dataset: where they start and end, without building anything of their values.

Source: PS3.5 section 7 (the data set).
"""

import struct
from dataclasses import dataclass
from typing import NamedTuple

from pydicom.datadict import dictionary_VR

from cmrsr.errors import UnreadableError
from cmrsr.io.dicom.read.window import CutOffError, Window

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
VRS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)
LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # their length takes four bytes
MAX_ITEMS = 200_000  # of one element; a frame of an enhanced image has about ten
MAX_DEPTH = 16  # of sequences in sequences; the deepest of the standard have about six
SURE = 6  # elements that make sense in a row: what other file would have them


@dataclass(frozen=True, slots=True)
class Encoding:
    """How elements are written."""

    implicit: bool
    little: bool


EXPLICIT, IMPLICIT, BIG = Encoding(False, True), Encoding(True, True), Encoding(False, False)
_ITEM_BYTES = (b"\xfe\xff", b"\xff\xfe")
_HEAD = {True: struct.Struct("<HHL").unpack_from, False: struct.Struct(">HHL").unpack_from}
_SHORT = {True: struct.Struct("<HH2sH").unpack_from, False: struct.Struct(">HH2sH").unpack_from}
_LENGTH = {True: struct.Struct("<L").unpack_from, False: struct.Struct(">L").unpack_from}


class Element(NamedTuple):
    """Tag, VR (None where it is not written), offset of the value, and length as written."""

    tag: int
    vr: str | None
    value: int
    length: int


def name_of(tag: int) -> str:
    """As the standard writes it: (gggg,eeee)."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def element_at(window: Window, offset: int, encoding: Encoding, *, mend: bool = True) -> Element:
    """The element that starts at ``offset``. Raises CutOffError, and UnreadableError for a VR that does not exist.

    mend: where the VR is none but the standard knows the tag, that of the standard is taken.
    """
    data, index = window.at(offset, 8)
    if encoding.implicit or data[index : index + 2] in _ITEM_BYTES:
        group, number, length = _HEAD[encoding.little](data, index)
        return Element(group << 16 | number, None, offset + 8, length)
    group, number, vr, length = _SHORT[encoding.little](data, index)
    tag = group << 16 | number
    if vr not in VRS:
        known = standard_vr(tag) if mend else None
        if known is None or tag >> 16 & 1:
            raise UnreadableError(f"damaged DICOM header: {name_of(tag)} has the unknown VR {vr!r}")
        vr = known[:2].encode()
    if vr not in LONG:
        return Element(tag, vr.decode(), offset + 8, length)
    data, index = window.at(offset + 8, 4)
    return Element(tag, vr.decode(), offset + 12, _LENGTH[encoding.little](data, index)[0])


def standard_vr(tag: int) -> str | None:
    """The VR that the standard gives a tag; "UN" for private tags and group lengths, None where it has no such tag."""
    if tag >> 16 & 1 or not tag & 0xFFFF:
        return "UN"
    try:
        return dictionary_VR(tag)
    except KeyError:
        return None


def end_of_value(window: Window, element: Element, encoding: Encoding, *, deep: bool = False) -> tuple[int, int]:
    """Where the value ends and where the next element starts; sequences of undefined length are followed to their end.

    deep: follow sequences and items of defined length too, for what a reader would build of them. Takes no memory and
    no recursion. Raises CutOffError at the end of the file, UnreadableError beyond MAX_ITEMS or MAX_DEPTH.
    """
    if element.length != UNDEFINED and not (deep and element.vr == "SQ"):
        return element.value + element.length, element.value + element.length
    # Whether it holds items or elements, where it ends if that is written, and how it is written.
    stack: list[tuple[bool, int | None, Encoding]] = [_inside(element, encoding)]
    offset, n_items = element.value, 0
    while True:
        of_items, end, inner = stack[-1]
        if end is not None and offset >= end:
            stack.pop()
            if not stack:
                return end, end
        elif of_items:
            data, index = window.at(offset, 8)
            group, number, length = _HEAD[inner.little](data, index)
            tag = group << 16 | number
            if tag == SEQUENCE_END or tag == length == 0:  # some write zeros in place of the delimiter
                stack.pop()
                if not stack:
                    return offset, offset + 8
                offset += 8
                continue
            n_items += 1
            if tag != ITEM or n_items > MAX_ITEMS:
                what = f"more than {MAX_ITEMS} items" if tag == ITEM else f"{name_of(tag)} where an item should be"
                raise UnreadableError(f"damaged DICOM header: {what} in {name_of(element.tag)}")
            offset += 8
            if length == UNDEFINED or deep:
                stack.append((False, None if length == UNDEFINED else offset + length, inner))
            else:
                offset += length
        else:
            found = element_at(window, offset, inner)
            offset = found.value
            if found.tag == ITEM_END:
                stack.pop()
            elif found.length == UNDEFINED or (deep and found.vr == "SQ"):
                stack.append(_inside(found, inner))
            else:
                offset += found.length
        if len(stack) > 2 * MAX_DEPTH:
            raise UnreadableError(
                f"damaged DICOM header: more than {MAX_DEPTH} sequences deep in {name_of(element.tag)}"
            )


def _inside(element: Element, encoding: Encoding) -> tuple[bool, int | None, Encoding]:
    # PS3.5 6.2.2, note 3: a sequence of VR UN and undefined length is written in implicit little endian.
    inner = IMPLICIT if element.vr == "UN" else encoding
    return True, None if element.length == UNDEFINED else element.value + element.length, inner


def is_dataset(window: Window, offset: int, encoding: Encoding) -> bool:
    """Whether a dataset starts at ``offset``: several tags that increase, from group 2 or 8 on, of lengths that fit."""
    last, found = 0, 0
    try:
        while found < SURE and window.has(offset + 8):
            element = element_at(window, offset, encoding, mend=False)
            if element.tag >> 16 == 0x7FE0:
                break
            if element.tag <= last or (not last and element.tag >> 16 not in (2, 8)) or not standard_vr(element.tag):
                return False
            offset = end_of_value(window, element, encoding)[1]
            if not window.has(offset):
                return False
            last, found = element.tag, found + 1
    except (CutOffError, UnreadableError):
        return False
    return found >= SURE // 2
