"""Damaged DICOM files from headers to a result: ``python -m tests.fuzz.dicom --number 10000 --seed 1``.

A seed is a small series in one of many encodings; of one of its files elements are removed, doubled, exchanged, given
other values, lengths and VRs, or bytes are changed, cut out and repeated.
"""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from cmrsr.errors import CmrsrError, UnreadableError
from cmrsr.io.derivation import Derivation
from cmrsr.io.dicom.read.elements import EXPLICIT, element_at, end_of_value
from cmrsr.io.dicom.read.group import assemble, group
from cmrsr.io.dicom.read.instance import read_headers
from cmrsr.io.dicom.read.window import CutOffError, Window
from cmrsr.io.dicom.write.series import dicom_writer
from cmrsr.io.series import Series
from tests.fuzz.harness import command
from tests.io.dicom.dicom_files import images, write_enhanced, write_series

DERIVATION = Derivation(
    task="sr", engine="tiny", engine_version="1", engine_digest="0" * 64, software_version="0", parameters={"seed": 1}
)
Generator = np.random.Generator
Mutation = Callable[[bytes, Generator], bytes]
VRS = [b"SQ", b"UN", b"OB", b"DS", b"IS", b"FD", b"US", b"SS", b"UI", b"PN", b"TM", b"DA", b"AT", b"UT", b"zz", b"\0\0"]
SYNTAXES = [
    b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.2", b"1.2.840.10008.1.2.1.99",
    b"1.2.840.10008.1.2.5", b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.4.70", b"1.2.840.10008.1.2.4.80",
    b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.4.100", b"1.2.840.113619.5.2", b"1.2.3", b"", b"\xff\xfe",
]  # fmt: skip
VALUES = [
    b"", b"\0", b" ", b"0", b"-1", b"1e400", b"nan", b"inf", b"0,5", b"1\\2\\3\\4\\5\\6\\7", b"\\\\\\", b"abc",
    b"9" * 40, b"\xff\xff", b"\0\0", b"\xff\xff\xff\x7f", b"\x1b$B\x80\x81", b"19990231", b"256061.9", b"1.02.003",
    b"\r\n\t\x07",
]  # fmt: skip
LENGTHS = (0, 1, 2, 3, 7, 8, 64, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)


def seed_files(rng: Generator, folder: Path) -> list[Path]:
    """Two times of two slices: single files in a random encoding, or one enhanced file."""
    frames = images(2, 2, 34, 33)
    if rng.random() < 0.25:
        return [write_enhanced(folder / "e", frames)]
    kind = int(rng.integers(8))

    def encode(ds: Dataset, t: int, z: int) -> None:
        pixels, syntax = frames[t, z], None
        if kind == 1:
            syntax = ImplicitVRLittleEndian
        elif kind == 2:
            syntax = ExplicitVRBigEndian
            ds.PixelData = pixels.astype(">u2").tobytes()
        elif kind == 3:
            syntax = DeflatedExplicitVRLittleEndian
        elif kind == 4:
            ds.compress(RLELossless, generate_instance_uid=False)
        elif kind > 4:
            import imagecodecs

            syntax, stream = {
                5: (JPEGLosslessSV1, lambda: imagecodecs.jpeg8_encode(pixels, lossless=True, bitspersample=16)),
                6: (JPEGLSLossless, lambda: imagecodecs.jpegls_encode(pixels)),
                7: (JPEG2000Lossless, lambda: imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True)),
            }[kind]
            ds.PixelData = encapsulate([stream()])
            ds["PixelData"].is_undefined_length, ds["PixelData"].VR = True, "OB"
        if syntax is not None:
            ds.file_meta.TransferSyntaxUID = syntax

    return write_series(folder, frames, edit=encode)


# --- mutations: of the bytes of a file ------------------------------------------------------------------------------


def _any(rng: Generator, values: list[bytes]) -> bytes:
    return values[int(rng.integers(len(values)))]


def elements(data: bytes) -> list[tuple[int, int, int]]:
    """Where each element, its value and the next start, read as explicit little endian."""
    window, at = Window(io.BytesIO(data), len(data)), 132
    found = []
    try:
        while window.has(at + 8):
            element = element_at(window, at, EXPLICIT)
            following = end_of_value(window, element, EXPLICIT)[1]
            found.append((at, element.value, min(following, len(data))))
            at = following
    except (CutOffError, UnreadableError):
        pass
    return found or [(132, 140, len(data))]


def change_byte(data: bytes, rng: Generator) -> bytes:
    at = int(rng.integers(len(data)))
    return data[:at] + bytes([int(rng.integers(256))]) + data[at + 1 :]


def take_out(data: bytes, rng: Generator) -> bytes:
    at = int(rng.integers(len(data)))
    return data[:at] + data[at + int(rng.integers(1, 60)) :]


def repeat(data: bytes, rng: Generator) -> bytes:
    at = int(rng.integers(len(data)))
    return data[:at] + data[at : at + int(rng.integers(1, 60))] + data[at:]


def cut(data: bytes, rng: Generator) -> bytes:
    return data[: int(rng.integers(len(data)))]


def headless(data: bytes, rng: Generator) -> bytes:
    return data[int(_any(rng, [b"128", b"132", b"4", b"200"])) :]


def remove_element(data: bytes, rng: Generator) -> bytes:
    found = elements(data)
    start, _, end = found[int(rng.integers(len(found)))]
    return data[:start] + data[end:]


def move_element(data: bytes, rng: Generator) -> bytes:
    """Doubled, or out of order."""
    found = elements(data)
    start, _, end = found[int(rng.integers(len(found)))]
    place = found[int(rng.integers(len(found)))][0]
    return data[:place] + data[start:end] + data[place:]


def change_vr(data: bytes, rng: Generator) -> bytes:
    found = elements(data)
    start = found[int(rng.integers(len(found)))][0]
    return data[: start + 4] + _any(rng, VRS) + data[start + 6 :]


def change_value(data: bytes, rng: Generator) -> bytes:
    """Of any length that is written truly."""
    found = elements(data)
    start, value, end = found[int(rng.integers(len(found)))]
    new = _any(rng, VALUES) if rng.random() < 0.7 else rng.bytes(int(rng.integers(1, 30)))
    new += b"\0" * (len(new) % 2 and rng.random() < 0.8)
    length = struct.pack("<H", len(new)) if value - start == 8 else struct.pack("<L", len(new))
    return data[: value - len(length)] + length + new + data[end:]


def change_length(data: bytes, rng: Generator) -> bytes:
    found = elements(data)
    start, value, _ = found[int(rng.integers(len(found)))]
    length = LENGTHS[int(rng.integers(len(LENGTHS)))]
    written = struct.pack("<H", length & 0xFFFF) if value - start == 8 else struct.pack("<L", length)
    return data[: value - len(written)] + written + data[value:]


def change_syntax(data: bytes, rng: Generator) -> bytes:
    for start, value, end in elements(data):
        if data[start : start + 4] == b"\2\0\x10\0":
            new = _any(rng, SYNTAXES)
            new += b"\0" * (len(new) % 2)
            return data[: value - 2] + struct.pack("<H", len(new)) + new + data[end:]
    return data


MUTATIONS: tuple[Mutation, ...] = (
    change_byte, take_out, repeat, cut, headless, remove_element, move_element, change_vr, change_value, change_value,
    change_value, change_length, change_syntax,
)  # fmt: skip


def make(rng: Generator, folder: Path) -> None:
    paths = seed_files(rng, folder)
    for path in paths if rng.random() < 0.3 else [paths[int(rng.integers(len(paths)))]]:
        data = path.read_bytes()
        for _ in range(int(rng.integers(1, 4))):
            data = MUTATIONS[int(rng.integers(len(MUTATIONS)))](data, rng) or b"\0"
        path.write_bytes(data)


def read(folder: Path) -> None:
    """All series that are among the files, their frames, and a result written from each and read back.

    Raises the first error after all have been tried.
    """
    instances, skipped = read_headers(sorted(folder.iterdir()))
    assert instances or skipped
    errors: list[CmrsrError] = []
    for k, found in enumerate(group(instances)):
        try:
            series = assemble(found)
            frames = series.array()
            if np.isfinite(frames).all():
                write(folder / f"result{k}", series, frames)
        except CmrsrError as error:
            errors.append(error)
    errors += [UnreadableError(one.reason) for one in skipped]
    assert all("\n" not in str(error) for error in errors)
    if errors:
        raise errors[0]


def write(folder: Path, series: Series, frames: NDArray[np.float32]) -> None:
    """The series as a result of itself; what is written reads back as one series of the same shape."""
    with dicom_writer(folder, series, DERIVATION, shape=frames.shape, affine=series.affine) as writer:
        for frame in frames:
            writer.write(frame)
    instances, skipped = read_headers(sorted(folder.iterdir()))
    assert not skipped, skipped
    [again] = group(instances)
    assert assemble(again).shape == frames.shape


if __name__ == "__main__":
    raise SystemExit(command(make, read, __doc__))
