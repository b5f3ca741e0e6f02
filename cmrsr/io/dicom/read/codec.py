"""Compressed images: what a codestream says of itself, and its samples.

All decoding is done by imagecodecs (libjpeg-turbo, CharLS, OpenJPEG), one decoder for each codestream whatever else is
installed; which it is follows from its first bytes. The transfer syntax is not asked: files exist that name another.
"""

import struct
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnreadableError

Kind = Literal["JPEG", "JPEG-LS", "JPEG 2000", "RLE"]
JPEG, JPEG_2000, JP2 = b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  "
ENDS = b"\xff\xd9"  # of the first three kinds
_SIZES = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})  # JPEG's markers of a frame's size
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
_RLE_RATIO = 64  # at most: 128 equal bytes are two


@dataclass(frozen=True, slots=True)
class Codestream:
    """What the first bytes say; ``shape`` is (y, x), None where they do not say."""

    kind: Kind
    shape: tuple[int, int] | None
    n_components: int
    precision: int | None


def codestream_of(data: bytes) -> Codestream | None:
    """What starts here (as far as ``data`` reaches); None for what is none of the kinds."""
    if data.startswith(JP2):
        data = data[max(data.find(JPEG_2000), 0) :]
    if data.startswith(JPEG_2000) and len(data) >= 43:
        x, y, left, top = struct.unpack_from(">LLLL", data, 8)
        (n_components,) = struct.unpack_from(">H", data, 40)
        return Codestream("JPEG 2000", (y - top, x - left), n_components, (data[42] & 0x7F) + 1)
    if data.startswith(JPEG):
        return _jpeg(data)
    if len(data) >= 64:
        n_segments, *starts = struct.unpack_from("<16L", data)
        used, unused = starts[:n_segments], starts[n_segments:]
        if 1 <= n_segments <= 15 and used[0] == 64 and sorted(used) == used and not any(unused):
            return Codestream("RLE", None, 1, None)
    return None


def _jpeg(data: bytes) -> Codestream | None:
    at = 2
    while at + 10 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF or marker in _ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in _SIZES:
            precision, y, x, n_components = struct.unpack_from(">BHHB", data, at + 4)
            return Codestream("JPEG-LS" if marker == 0xF7 else "JPEG", (y, x) if y else None, n_components, precision)
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return Codestream("JPEG", None, 1, None)


def problem_of(found: Codestream | None, shape: tuple[int, int]) -> str | None:
    """Why a codestream cannot be the image that the header describes; None where nothing is against it."""
    if found is None:
        return "compressed in a way that is not read; decompress it first"
    if found.shape not in (None, shape):
        return (
            f"its header says {shape[0]} x {shape[1]} pixels, its compressed image {found.shape[0]} x {found.shape[1]}"
        )
    if found.n_components != 1:
        return f"a compressed image of {found.n_components} colours, expected greyscale"
    return None


def decode(data: bytes, shape: tuple[int, int], itemsize: int) -> tuple[NDArray[Any], int | None]:
    """The samples ``(y, x)`` as the codestream has them, and of how many bits (None: RLE). Raises UnreadableError.

    itemsize: bytes of a stored pixel, which a codestream of kind RLE does not say.
    """
    import imagecodecs

    found = codestream_of(data)
    if (problem := problem_of(found, shape)) is not None or found is None:
        raise UnreadableError(str(problem))
    try:
        if found.kind == "RLE":
            if shape[0] * shape[1] * itemsize > _RLE_RATIO * len(data):
                raise UnreadableError("pixel data cut off")
            samples = _rle(bytes(imagecodecs.dicomrle_decode(data, np.dtype(f"<u{itemsize}"))), shape, itemsize)
        elif found.kind == "JPEG":
            samples = np.asarray(imagecodecs.jpeg8_decode(data))
        elif found.kind == "JPEG-LS":
            samples = np.asarray(imagecodecs.jpegls_decode(data))
        else:
            samples = np.asarray(imagecodecs.jpeg2k_decode(data))
    except UnreadableError:
        raise
    except Exception as error:  # each codec has an error of its own, and some raise ValueError or MemoryError
        raise UnreadableError(f"damaged {found.kind} image ({one_line(error)})") from None
    if samples.shape != shape:
        raise UnreadableError(f"expected {shape} pixels as in the header, decoded {samples.shape}")
    return samples, found.precision


def _rle(data: bytes, shape: tuple[int, int], itemsize: int) -> NDArray[Any]:
    samples = np.frombuffer(data, f"<u{itemsize}")
    n = shape[0] * shape[1]
    if samples.size < n:
        raise UnreadableError(f"pixel data cut off: {samples.size} of {n} pixels")
    return samples[:n].reshape(shape)


def one_line(said: object) -> str:
    """What an error says, or holds of a file, in one line without control characters."""
    words = " ".join(str(said).split()) or type(said).__name__
    return "".join(c if c.isprintable() else "?" for c in words)[:200]
