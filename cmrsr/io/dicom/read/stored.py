"""Where the pixels of each frame lie in a DICOM file, as they are stored: native, or in fragments of compressed images.

Source: PS3.5 section 8 and annex A.4. Tolerated, as other readers do: no delimiter after the last fragment or zeros in
its place, fragments of odd length, a last fragment that counts a padding byte which is not there.
"""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from cmrsr.errors import UnreadableError
from cmrsr.io.dicom.read.codec import ENDS, codestream_of, decode, problem_of
from cmrsr.io.dicom.read.elements import ITEM, SEQUENCE_END, UNDEFINED, Element
from cmrsr.io.dicom.read.window import Window

FLOATS = {0x7FE00008: 4, 0x7FE00009: 8}  # bytes of Float and Double Float Pixel Data
SNIFFED = 1 << 16  # bytes of a codestream in which it says its size
MAX_PIXELS = 1 << 28  # of one image: 16384 x 16384
Fragment = tuple[int, int]  # offset, length


@dataclass(frozen=True, slots=True)
class Layout:
    """What the header says of the pixels."""

    shape: tuple[int, int]
    n_frames: int
    allocated: int
    stored: int
    signed: bool

    @property
    def frame_bytes(self) -> int:
        return self.shape[0] * self.shape[1] * self.allocated // 8


def layout_of(ds: Dataset) -> Layout:
    """Raises UnreadableError where a value is none that an image can have."""
    rows, columns = _count(ds, "Rows", None), _count(ds, "Columns", None)
    allocated = _count(ds, "BitsAllocated", 16)
    stored, sign = _count(ds, "BitsStored", allocated), _count(ds, "PixelRepresentation", 0)
    n_frames = _count(ds, "NumberOfFrames", 1) or 1
    if min(rows, columns) < 1 or rows * columns > MAX_PIXELS or n_frames < 1:
        raise UnreadableError(f"{n_frames} x {rows} x {columns} pixels, as its header says, are no image")
    if allocated not in (8, 16, 32, 64):
        raise UnreadableError(f"BitsAllocated (0028,0100) is {allocated}, expected 8, 16 or 32")
    stored = stored if 1 <= stored <= allocated else allocated
    return Layout((rows, columns), n_frames, allocated, stored, sign == 1)


def _count(ds: Dataset, keyword: str, default: int | None) -> int:
    try:
        value = ds.get(keyword)
        if value is None or value == "":
            if default is None:
                raise UnreadableError(f"no {keyword} in its header")
            return default
        return int(value)
    except UnreadableError:
        raise
    except Exception:  # a VR that does not fit the value makes pydicom raise anything
        tag = {"Rows": "0010", "Columns": "0011", "BitsAllocated": "0100", "BitsStored": "0101"}.get(keyword)
        where = f" (0028,{tag})" if tag else ""
        raise UnreadableError(f"damaged DICOM header: {keyword}{where} is no number") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The pixel data element of an open file; ``little`` is of native pixels, fragments always are."""

    window: Window
    element: Element
    little: bool
    layout: Layout

    @property
    def compressed(self) -> bool:
        return self.element.length == UNDEFINED


def missing(stored: Stored) -> str | None:
    """What of the pixel data is missing, or contradicts the header, without decoding it."""
    layout, window = stored.layout, stored.window
    if stored.compressed:
        frames = fragments_of_frames(stored)
        at, length = frames[0][0]
        return problem_of(codestream_of(window.read(at, min(length, SNIFFED))), layout.shape)
    expected = layout.frame_bytes * layout.n_frames
    present = window.left(stored.element.value, min(stored.element.length, expected))
    return f"pixel data cut off: {present} of {expected} bytes" if present < expected else None


def frame(stored: Stored, index: int) -> NDArray[np.generic]:
    """One frame (0-based), samples as numbers ``(y, x)``. Raises UnreadableError."""
    layout, element, used = stored.layout, stored.element, stored.layout.stored
    if not 0 <= index < layout.n_frames:
        raise UnreadableError(f"no frame {index + 1} in it")
    kind = f"{'f' if element.tag in FLOATS else 'u'}{layout.allocated // 8}"
    if stored.compressed:
        pieces = fragments_of_frames(stored)[index]
        data = b"".join([stored.window.read(at, length) for at, length in pieces])
        samples, precision = decode(data, layout.shape, layout.allocated // 8)
        # A codestream knows how many bits its samples have, but not that they have a sign.
        used = min(precision or layout.stored, layout.stored)
        if precision is not None and not layout.signed:
            used = layout.allocated
    else:
        if (problem := missing(stored)) is not None:
            raise UnreadableError(problem)
        data = stored.window.read(element.value + index * layout.frame_bytes, layout.frame_bytes)
        if layout.allocated == 8 and not stored.little and element.vr == "OW":
            data = np.frombuffer(data, ">u2").astype("<u2").tobytes()
        samples = np.frombuffer(data, f"{'<' if stored.little else '>'}{kind}").reshape(layout.shape)
    if samples.dtype.kind == "f":
        return samples
    typed = samples.astype(f"{'i' if layout.signed else 'u'}{layout.allocated // 8}")
    unused = layout.allocated - used  # old files keep an overlay in the bits above
    return (typed << unused) >> unused if unused else typed


def fragments_of_frames(stored: Stored) -> list[list[Fragment]]:
    """The fragments of each frame. Raises UnreadableError where some are missing, or cannot be told apart."""
    n_frames = stored.layout.n_frames
    table, fragments, whole = _fragments(stored)
    if len(fragments) < n_frames:
        raise UnreadableError(f"compressed pixel data cut off: {len(fragments)} of {n_frames} frames")
    if n_frames == 1:
        frames = [fragments]
    elif len(fragments) == n_frames:
        frames = [[fragment] for fragment in fragments]
    else:
        first = fragments[0][0] - 8
        offsets = {first + offset for offset in struct.unpack_from(f"<{len(table) // 4}L", table)}
        starts = [i for i, (at, _) in enumerate(fragments) if at - 8 in offsets]
        if len(starts) != n_frames:
            starts = [i for i, (at, n) in enumerate(fragments) if _starts_image(stored.window, at, n)]
        if len(starts) != n_frames or starts[0]:
            raise UnreadableError(f"{len(fragments)} compressed fragments and no table of its {n_frames} frames")
        frames = [fragments[a:b] for a, b in zip(starts, [*starts[1:], len(fragments)], strict=True)]
    if not whole and not _ends(stored.window, frames[-1]):
        raise UnreadableError("compressed pixel data cut off")
    return frames


def _fragments(stored: Stored) -> tuple[bytes, list[Fragment], bool]:
    """The Basic Offset Table, the fragments, and whether a delimiter says that these are all."""
    window, at = stored.window, stored.element.value
    found: list[Fragment] = []
    whole = False
    while window.has(at + 8):
        tag, length = _item(window, at)
        if tag != ITEM and found and sum(found[-1]) == at and sum(found[-1]) % 2:  # padded, but not counted
            tag, length = _item(window, at + 1) if window.has(at + 9) else (0, 0)
            at += 1
        if tag != ITEM:
            if tag not in (SEQUENCE_END, 0) and tag < 0x7FE00010:
                raise UnreadableError("damaged compressed pixel data")
            whole = tag == SEQUENCE_END
            break
        if not window.has(at + 8 + length):
            if not window.has(at + 7 + length):
                raise UnreadableError("compressed pixel data cut off")
            length -= 1
        found.append((at + 8, length))
        at += 8 + length
    if found and _starts_image(window, *found[0]):  # some leave out the table
        return b"", found, whole
    return window.read(*found[0]) if found else b"", found[1:], whole


def _item(window: Window, at: int) -> tuple[int, int]:
    data, index = window.at(at, 8)
    group, number, length = struct.unpack_from("<HHL", data, index)
    return group << 16 | number, length


def _starts_image(window: Window, at: int, length: int) -> bool:
    return codestream_of(window.read(at, min(length, SNIFFED))) is not None


def _ends(window: Window, fragments: list[Fragment]) -> bool:
    """Whether the last bytes are the end of an image, padded or not; of RLE, which has none, the decoder will know."""
    found = codestream_of(window.read(fragments[0][0], min(fragments[0][1], SNIFFED)))
    if found is None or found.kind == "RLE":
        return True
    at, length = fragments[-1]
    last = min(length, 64)
    return ENDS in window.read(at + length - last, last)
