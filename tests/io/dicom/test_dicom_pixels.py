"""Stored pixels of every kind: what decodes comes back exactly, what is cut off or contradicts itself is refused."""

import shutil
import struct
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from dicom_files import dataset, images, save, write_enhanced
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from cmrsr.errors import UnreadableError
from cmrsr.io.dicom.read.header import LAYOUT, damage_of, header_in, read_header, stored_pixels
from cmrsr.io.dicom.read.stored import frame

Pixels = NDArray[Any]
Encode = Callable[[Pixels], bytes]
SHAPE = (41, 37)  # odd, so that frames of bytes have an odd length
PLENTY_MB = 16
KINDS = {
    "u8": (np.uint8, 8),
    "u12": (np.uint16, 12),
    "u16": (np.uint16, 16),
    "s12": (np.int16, 12),
    "s16": (np.int16, 16),
}


def image(kind: str) -> Pixels:
    """A disc in noise that uses all bits of the kind."""
    dtype, bits = KINDS[kind]
    y, x = np.indices(SHAPE)
    grey = np.hypot(y - 20, x - 15) / 40 + np.random.default_rng(3).random(SHAPE) / 8
    low = -(1 << (bits - 1)) if kind.startswith("s") else 0
    return np.clip(np.round(grey * 2**bits) + low, low, low + 2**bits - 1).astype(dtype)


def unsigned(pixels: Pixels) -> Pixels:
    return np.ascontiguousarray(pixels).view(f"u{pixels.itemsize}")


ENCODERS: dict[str, tuple[str, Encode]] = {
    "lossless": (JPEGLosslessSV1, lambda a: imagecodecs.jpeg8_encode(
        unsigned(a), lossless=True, predictor=1, bitspersample=8 * a.itemsize)),
    "ls": (JPEGLSLossless, lambda a: imagecodecs.jpegls_encode(unsigned(a))),
    "2000": (JPEG2000Lossless, lambda a: imagecodecs.jpeg2k_encode(
        np.ascontiguousarray(a), level=0, codecformat="j2k", reversible=True)),
}  # fmt: skip


def native(kind: str, **tags: object) -> pydicom.Dataset:
    bits = KINDS[kind][1]
    return dataset(image(kind), 0, 0, **{"SOPInstanceUID": "1.2.3", "BitsStored": bits, "HighBit": bits - 1} | tags)


def compressed(path: Path, kind: str, how: str, n_frames: int = 1, **encapsulation: Any) -> Path:
    """The image, and after it the image turned by 90, 180 degrees and so on, cut to its shape."""
    syntax, encode = ENCODERS[how]
    ds = native(kind)
    if n_frames > 1:
        ds.NumberOfFrames = n_frames
    ds.PixelData = encapsulate([encode(np.roll(image(kind), k, axis=0)) for k in range(n_frames)], **encapsulation)
    ds["PixelData"].is_undefined_length, ds["PixelData"].VR = True, "OB"
    ds.file_meta.TransferSyntaxUID = syntax
    return save(ds, path)


def decoded(path: Path, index: int = 0) -> Pixels:
    with path.open("rb") as file:
        return frame(stored_pixels(header_in(file, path, LAYOUT), file), index)


def check(path: Path, kind: str, index: int = 0) -> None:
    assert damage_of(read_header(path), path) is None
    found, expected = decoded(path, index), np.roll(image(kind), index, axis=0)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def damage(path: Path) -> str:
    found = damage_of(read_header(path), path)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ENCODERS)
def test_lossless_images_come_back(tmp_path: Path, kind: str, how: str) -> None:
    check(compressed(tmp_path / "a", kind, how), kind)
    check(compressed(tmp_path / "b", kind, how, fragments_per_frame=3), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_run_lengths_come_back(tmp_path: Path, kind: str) -> None:
    """Encoded by pydicom."""
    ds = native(kind)
    ds.compress(RLELossless, generate_instance_uid=False)
    check(save(ds, tmp_path / "a"), kind)


@pytest.mark.parametrize("kind", ["u8", "u16", "s16"])
def test_an_independent_encoder_agrees_on_jpeg_2000(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("openjpeg")
    ds = native(kind)
    ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    check(save(ds, tmp_path / "a"), kind)


def test_high_throughput_jpeg_2000(tmp_path: Path) -> None:
    encode = getattr(imagecodecs, "htj2k_encode", None)
    if encode is None or not imagecodecs.HTJ2K.available:
        pytest.skip("no encoder to make the file with")
    ds = native("u16")
    ds.PixelData = encapsulate([encode(image("u16"))])
    ds["PixelData"].is_undefined_length, ds["PixelData"].VR = True, "OB"
    ds.file_meta.TransferSyntaxUID = HTJ2KLossless
    check(save(ds, tmp_path / "a"), "u16")


def by_dcmtk(tool: str, *arguments: object) -> None:
    if not shutil.which(tool):
        pytest.skip(f"{tool} (dcmtk) is not installed")
    subprocess.run([tool, *map(str, arguments)], check=True, capture_output=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("option", ["+e1", "+el +sv 2", "+el +sv 4", "+el +sv 6", "+el +sv 7"])
def test_dcmtks_lossless_jpeg_comes_back(tmp_path: Path, kind: str, option: str) -> None:
    """Process 14 with its predictors."""
    save(native(kind), tmp_path / "a")
    by_dcmtk("dcmcjpeg", *option.split(), tmp_path / "a", tmp_path / "b")
    check(tmp_path / "b", kind)


@pytest.mark.parametrize("kind", KINDS)
def test_dcmtks_jpeg_ls_comes_back(tmp_path: Path, kind: str) -> None:
    save(native(kind), tmp_path / "a")
    by_dcmtk("dcmcjpls", "+el", tmp_path / "a", tmp_path / "b")
    check(tmp_path / "b", kind)
    if not kind.startswith("s"):  # DCMTK writes no signed images with losses
        by_dcmtk("dcmcjpls", "+en", "+md", 3, tmp_path / "a", tmp_path / "c")
        assert np.abs(decoded(tmp_path / "c").astype(int) - image(kind)).max() <= 3


@pytest.mark.parametrize(("kind", "option"), [("u8", "+eb"), ("u8", "+ee"), ("u12", "+ee")])
def test_lossy_jpeg_is_what_dcmtk_makes_of_it(tmp_path: Path, kind: str, option: str) -> None:
    """Baseline and extended (12 bits), the same to the last bit."""
    save(native(kind), tmp_path / "a")
    by_dcmtk("dcmcjpeg", option, tmp_path / "a", tmp_path / "b")
    by_dcmtk("dcmdjpeg", tmp_path / "b", tmp_path / "c")
    np.testing.assert_array_equal(decoded(tmp_path / "b"), pydicom.dcmread(tmp_path / "c").pixel_array)


@pytest.mark.parametrize(
    "encapsulation",
    [{}, {"has_bot": False}, {"fragments_per_frame": 2}, {"fragments_per_frame": 2, "has_bot": False}],
    ids=["table", "no table", "fragments", "fragments, no table"],
)
@pytest.mark.parametrize("how", ENCODERS)
def test_frames_are_told_apart(tmp_path: Path, how: str, encapsulation: dict[str, Any]) -> None:
    path = compressed(tmp_path / "a", "u12", how, n_frames=3, **encapsulation)
    for index in range(3):
        check(path, "u12", index)


END = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)


@pytest.mark.parametrize("how", ENCODERS)
@pytest.mark.parametrize(
    "after", [b"", bytes(8), bytes(4), END + bytes(100), struct.pack("<HH2sHL", 0xFFFC, 0xFFFC, b"OB", 0, 2)]
)
def test_what_may_stand_in_place_of_the_delimiter(tmp_path: Path, how: str, after: bytes) -> None:
    path = compressed(tmp_path / "a", "u16", how)
    data = path.read_bytes()
    assert data.endswith(END)
    path.write_bytes(data[: -len(END)] + after)
    check(path, "u16")


@pytest.mark.parametrize("how", ENCODERS)
@pytest.mark.parametrize("padded", [False, True])
def test_fragments_of_odd_length(tmp_path: Path, how: str, padded: bool) -> None:
    """As some write them: without the padding byte, or with one that the length does not count."""
    path = compressed(tmp_path / "a", "u16", how)
    data = path.read_bytes()
    at = data.rindex(struct.pack("<HH", 0xFFFE, 0xE000))
    (length,) = struct.unpack_from("<L", data, at + 4)
    stream = data[at + 8 : at + 8 + length].rstrip(b"\0")
    if len(stream) % 2 == 0:
        stream = stream[:2] + b"\xff" + stream[2:] if how != "2000" else stream + b"\0"
    odd = struct.pack("<HHL", 0xFFFE, 0xE000, len(stream)) + stream + (b"\0" if padded else b"")
    path.write_bytes(data[:at] + odd + END)
    check(path, "u16")


def test_a_padding_byte_that_was_counted_but_not_written(tmp_path: Path) -> None:
    path = compressed(tmp_path / "a", "u16", "lossless")
    data = path.read_bytes()
    at = data.rindex(struct.pack("<HH", 0xFFFE, 0xE000))
    (length,) = struct.unpack_from("<L", data, at + 4)
    path.write_bytes(data[: at + 4] + struct.pack("<L", length + 1) + data[at + 8 : -len(END)])
    check(path, "u16")
    path.write_bytes(data[: at + 4] + struct.pack("<L", length + 2) + data[at + 8 : -len(END)])
    assert damage(path) == "compressed pixel data cut off"


@pytest.mark.parametrize("how", ENCODERS)
def test_frames_or_fragments_that_are_not_there(tmp_path: Path, how: str) -> None:
    """Cut where a fragment ends, so that all that is left is whole."""
    path = compressed(tmp_path / "a", "u16", how, n_frames=3)
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(struct.pack("<HH", 0xFFFE, 0xE000))])
    assert damage(path) == "compressed pixel data cut off: 2 of 3 frames"
    path = compressed(tmp_path / "b", "u16", how, fragments_per_frame=4)
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(struct.pack("<HH", 0xFFFE, 0xE000))])
    assert damage(path) == "compressed pixel data cut off"
    with pytest.raises(UnreadableError, match="cut off"):
        decoded(path)


@pytest.mark.parametrize("how", [*ENCODERS, "rle", "native"])
def test_a_header_that_lies_about_the_size_takes_no_memory(tmp_path: Path, how: str) -> None:
    if how in ENCODERS:
        path = compressed(tmp_path / "a", "u16", how)
    else:
        ds = native("u16")
        if how == "rle":
            ds.compress(RLELossless, generate_instance_uid=False)
        path = save(ds, tmp_path / "a")
    data = path.read_bytes()
    for tag, size in ((0x10, SHAPE[0]), (0x11, SHAPE[1])):
        old = struct.pack("<HH2sHH", 0x28, tag, b"US", 2, size)
        assert old in data
        data = data.replace(old, struct.pack("<HH2sHH", 0x28, tag, b"US", 2, 16000))
    path.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(UnreadableError, match=r"cut off|its header says 16000 x 16000 pixels"):
        decoded(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < PLENTY_MB << 20


@pytest.mark.parametrize(("keyword", "dtype"), [("FloatPixelData", np.float32), ("DoubleFloatPixelData", np.float64)])
def test_pixels_that_are_floats(tmp_path: Path, keyword: str, dtype: type[np.floating[Any]]) -> None:
    ds = native("u16", PixelData=None, BitsStored=None, HighBit=None, PixelRepresentation=None)
    values = np.random.default_rng(1).normal(size=SHAPE).astype(dtype)
    setattr(ds, keyword, values.tobytes())
    ds.BitsAllocated = 8 * values.itemsize
    np.testing.assert_array_equal(decoded(save(ds, tmp_path / "a")), values)
    ds.BitsAllocated = 16
    assert "its floats have" in damage(save(ds, tmp_path / "b"))


def test_native_pixels_may_lack_the_padding_byte_alone(tmp_path: Path) -> None:
    path = save(native("u8"), tmp_path / "a")
    data = path.read_bytes()
    assert len(image("u8").tobytes()) % 2
    path.write_bytes(data[:-1])
    check(path, "u8")
    path.write_bytes(data[:-2])
    assert damage(path) == f"pixel data cut off: {image('u8').size - 1} of {image('u8').size} bytes"
    with pytest.raises(UnreadableError, match="cut off"):
        decoded(path)


def test_pixels_that_were_decompressed_under_the_old_name(tmp_path: Path) -> None:
    """Some archives unpack the pixels and leave the transfer syntax; the element's length tells."""
    ds = native("s12")
    ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
    ds["PixelData"].is_undefined_length = False
    path = tmp_path / "a"
    save(native("s12"), path)
    data = path.read_bytes()
    old = b"1.2.840.10008.1.2.1\0"
    path.write_bytes(data.replace(old, b"1.2.840.10008.1.2.5\0"))
    check(path, "s12")


def test_another_codestream_than_the_syntax_says(tmp_path: Path) -> None:
    path = compressed(tmp_path / "a", "u12", "2000")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.4.70"))
    check(path, "u12")


def test_what_is_compressed_in_no_known_way(tmp_path: Path) -> None:
    ds = native("u8")
    ds.PixelData = encapsulate([b"\0\0\1\xba" * 500])
    ds["PixelData"].is_undefined_length, ds["PixelData"].VR = True, "OB"
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"
    assert damage(save(ds, tmp_path / "a")) == "compressed in a way that is not read; decompress it first"


def test_single_frames_of_an_enhanced_file(tmp_path: Path) -> None:
    frames = images(3, 2)
    path = write_enhanced(tmp_path / "a", frames)
    stored = frames.transpose(1, 0, 2, 3).reshape(-1, *frames.shape[2:])  # slices by slices
    found = np.stack([decoded(path, k) for k in range(6)])
    assert sorted(map(bytes, found)) == sorted(map(bytes, stored.astype(found.dtype)))
    with pytest.raises(UnreadableError, match="no frame 7"):
        decoded(path, 6)


@pytest.mark.parametrize("how", [*ENCODERS, "rle"])
def test_damaged_codestreams_raise_nothing_else(tmp_path: Path, how: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Nor do the decoders print anything."""
    if how == "rle":
        ds = native("u16")
        ds.compress(RLELossless, generate_instance_uid=False)
        path = save(ds, tmp_path / "a")
    else:
        path = compressed(tmp_path / "a", "u16", how)
    whole, rng = path.read_bytes(), np.random.default_rng(5)
    start = whole.rindex(b"\xe0\x7f\x10\x00")
    refused = 0
    for _ in range(150):
        data = bytearray(whole)
        for at in rng.integers(start, len(data), 4):
            data[at] = int(rng.integers(256))
        path.write_bytes(data)
        try:
            decoded(path)
        except UnreadableError as error:
            refused += str(error).isprintable()
    assert refused
    assert capfd.readouterr() == ("", "")
