"""The bytes of DICOM headers: every encoding that exists, bytes that are no DICOM, damage, and bombs."""

import io
import json
import struct
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from dicom_files import dataset, images, item, save, write_enhanced
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from cmrsr.errors import UnreadableError
from cmrsr.io.dicom.read.elements import BIG, EXPLICIT, IMPLICIT, MAX_DEPTH, MAX_ITEMS, Encoding
from cmrsr.io.dicom.read.header import GE_BIG_PIXELS, Header, damage_of, read_header
from cmrsr.io.dicom.read.instance import read_headers
from cmrsr.io.dicom.read.pixels import read_pixels

PIXELS = images(y=40, x=36)[0, 0]
ENCODINGS = {"implicit": IMPLICIT, "explicit": EXPLICIT, "big": BIG}
PLENTY_MB = 16


def written(encoding: Encoding, **tags: object) -> bytes:
    """A dataset alone: no preamble, no file meta information."""
    ds = dataset(PIXELS, 0, 0, SOPInstanceUID="1.2.3", **tags)
    del ds.file_meta
    if not encoding.little:
        ds.PixelData = PIXELS.astype(">u2").tobytes()
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = encoding.implicit, encoding.little
    write_dataset(file, ds)
    return file.getvalue()


def file_of(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def good(path: Path, **tags: object) -> bytes:
    return save(dataset(PIXELS, 0, 0, SOPInstanceUID="1.2.3", **tags), path).read_bytes()


def tried(path: Path, *, all_tags: bool = False) -> Header | str:
    """The header, or why it is refused; anything else that is raised goes through."""
    try:
        return read_header(path, all_tags=all_tags)
    except UnreadableError as error:
        return str(error)


def refusal(path: Path) -> str:
    said = tried(path)
    assert isinstance(said, str)
    assert said.isprintable()
    return said


def assert_reads(path: Path) -> None:
    header = read_header(path)
    assert damage_of(header, path) is None
    [instance], skipped = read_headers([path])
    assert not skipped
    np.testing.assert_array_equal(read_pixels(instance), PIXELS)


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("before", [b"", bytes(128) + b"DICM"], ids=["nothing", "preamble"])
def test_a_dataset_without_meta_information(tmp_path: Path, name: str, before: bytes) -> None:
    path = file_of(tmp_path / "a", before + written(ENCODINGS[name]))
    assert_reads(path)
    header = read_header(path)
    assert (header.encoding, header.syntax, header.deflated_at) == (ENCODINGS[name], None, None)


@pytest.mark.parametrize("name", ENCODINGS)
def test_meta_information_without_a_transfer_syntax(tmp_path: Path, name: str) -> None:
    meta = struct.pack("<HH2sH", 2, 2, b"UI", 26) + b"1.2.840.10008.5.1.4.1.1.4\0"
    assert_reads(file_of(tmp_path / "a", bytes(128) + b"DICM" + meta + written(ENCODINGS[name])))


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("said", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_transfer_syntax_that_is_not_so(tmp_path: Path, name: str, said: str) -> None:
    value = said.encode() + b"\0" * (len(said) % 2)
    meta = struct.pack("<HH2sH", 2, 0x10, b"UI", len(value)) + value
    assert_reads(file_of(tmp_path / "a", bytes(128) + b"DICM" + meta + written(ENCODINGS[name])))


def test_ges_private_syntax_has_big_pixels_after_an_implicit_header(tmp_path: Path) -> None:
    meta = struct.pack("<HH2sH", 2, 0x10, b"UI", 18) + GE_BIG_PIXELS.encode()
    swapped = written(IMPLICIT).replace(PIXELS.tobytes(), PIXELS.astype(">u2").tobytes())
    assert_reads(file_of(tmp_path / "a", bytes(128) + b"DICM" + meta + swapped))
    explicit = file_of(tmp_path / "b", bytes(128) + b"DICM" + meta + written(EXPLICIT))
    assert damage_of(read_header(explicit), explicit) == (
        "unknown transfer syntax '1.2.840.113619.5.2'; convert it to a standard one first"
    )


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("a.dcm", written(EXPLICIT))
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"DICM", bytes(10_000), b"\2\0" * 500, b"\x08\0" * 500, b"words and more words\n" * 100,
        json.dumps({"a": list(range(300))}).encode(), b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(500), archive(),
        np.random.default_rng(0).bytes(5000), b"%PDF-1.7\n" + bytes(300), struct.pack("<i", 348) + bytes(400),
    ],
    ids=["empty", "magic", "zeros", "twos", "eights", "text", "json", "png", "zip", "random", "pdf", "nifti"],
)  # fmt: skip
def test_what_is_no_dicom(tmp_path: Path, data: bytes) -> None:
    assert refusal(file_of(tmp_path / "a", data)) == "not a DICOM file"


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    refusal(file_of(tmp_path_factory.getbasetemp() / "any", data))


def test_a_vr_that_does_not_exist_is_the_standards(tmp_path: Path) -> None:
    data = good(tmp_path / "a")
    at = data.index(struct.pack("<HH2s", 0x8, 0x103E, b"LO"))
    path = file_of(tmp_path / "b", data[: at + 5] + b"\xbc" + data[at + 6 :])
    assert read_header(path).dataset.SeriesDescription == "perfusion rest"
    assert_reads(path)
    private = good(tmp_path / "c").replace(data[at : at + 6], struct.pack("<HH2s", 0x9, 0x103E, b"\x01\n"))
    assert (
        refusal(file_of(tmp_path / "d", private)) == r"damaged DICOM header: (0009,103E) has the unknown VR b'\x01\n'"
    )


@pytest.mark.parametrize("vr", [b"FD", b"UL", b"FL"])
def test_numbers_that_do_not_fit_their_vr_are_of_the_standards(tmp_path: Path, vr: bytes) -> None:
    data = good(tmp_path / "a")
    rows = struct.pack("<HH", 0x28, 0x10)
    path = file_of(tmp_path / "b", data.replace(rows + b"US", rows + vr))
    assert read_header(path).dataset.Rows == PIXELS.shape[0]
    assert_reads(path)


def test_rows_that_are_no_number_are_named(tmp_path: Path) -> None:
    data = good(tmp_path / "a")
    rows = struct.pack("<HH2sH", 0x28, 0x10, b"US", 2) + struct.pack("<H", PIXELS.shape[0])
    bad = rows[:4] + b"CS" + rows[6:8] + b"ab"
    path = file_of(tmp_path / "b", data.replace(rows, bad))
    assert damage_of(read_header(path), path) == "damaged DICOM header: Rows (0028,0010) is no number"


@pytest.mark.parametrize("bits", [0, 1, 7, 12, 65535])
def test_sizes_of_pixels_that_are_none(tmp_path: Path, bits: int) -> None:
    good(tmp_path / "a", BitsAllocated=bits)
    damage = damage_of(read_header(tmp_path / "a"), tmp_path / "a")
    assert damage == f"BitsAllocated (0028,0100) is {bits}, expected 8, 16 or 32"


def test_a_length_beyond_the_file_takes_no_memory(tmp_path: Path) -> None:
    data = good(tmp_path / "a")
    at = data.index(struct.pack("<HH2s", 0x8, 0x103E, b"LO"))
    lying = data[:at] + struct.pack("<HH2sHL", 0x8, 0x103E, b"UT", 0, 0xFFFFFFF0) + data[at + 8 :]
    path = file_of(tmp_path / "b", lying)
    tracemalloc.start()
    assert refusal(path) == "cut off in its header, in (0008,103E)"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < PLENTY_MB << 20


def test_a_header_that_is_cut_anywhere(tmp_path: Path) -> None:
    """Whatever is left is refused, or is an image without pixel data; nothing else is raised."""
    data = good(tmp_path / "a")
    for end in range(0, len(data) - PIXELS.nbytes - 12, 7):
        path = file_of(tmp_path / "cut", data[:end])
        found = tried(path)
        if isinstance(found, str):
            assert found.startswith(("cut off in its header", "not a DICOM file"))
        else:
            assert found.pixels_at is None


def with_sequence(data: bytes, value: bytes) -> bytes:
    """A sequence that nobody needs, of undefined length, before the patient's name."""
    at = data.index(struct.pack("<HH2s", 0x10, 0x10, b"PN"))
    return data[:at] + struct.pack("<HH2sHL", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF) + value + data[at:]


SEQUENCE_END = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
ITEM_END = struct.pack("<HHL", 0xFFFE, 0xE00D, 0)


def nested(depth: int) -> bytes:
    head = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    inner = struct.pack("<HH2sHL", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    return head + (inner + head) * (depth - 1) + (ITEM_END + SEQUENCE_END) * depth


@pytest.mark.parametrize("all_tags", [False, True])
def test_bombs_of_items_are_refused_soon(tmp_path: Path, all_tags: bool) -> None:
    data = good(tmp_path / "a")
    items = struct.pack("<HHL", 0xFFFE, 0xE000, 0) * (MAX_ITEMS + 1)
    many = file_of(tmp_path / "many", with_sequence(data, items + SEQUENCE_END))
    deep = file_of(tmp_path / "deep", with_sequence(data, nested(100_000)))
    start = time.process_time()
    with pytest.raises(UnreadableError, match=rf"more than {MAX_ITEMS} items in \(0008,1140\)"):
        read_header(many, all_tags=all_tags)
    with pytest.raises(UnreadableError, match=rf"more than {MAX_DEPTH} sequences deep in \(0008,1140\)"):
        read_header(deep, all_tags=all_tags)
    assert time.process_time() - start < 5
    assert_reads(file_of(tmp_path / "few", with_sequence(data, nested(MAX_DEPTH - 1))))


def test_items_of_defined_length_are_counted_as_well(tmp_path: Path) -> None:
    """What a reader would build of a sequence that is wanted, at any depth."""
    items = struct.pack("<HHL", 0xFFFE, 0xE000, 0) * (MAX_ITEMS + 1)
    inner = struct.pack("<HH2sHL", 8, 0x1140, b"SQ", 0, len(items)) + items
    value = struct.pack("<HHL", 0xFFFE, 0xE000, len(inner)) + inner + SEQUENCE_END
    path = file_of(tmp_path / "b", with_sequence(good(tmp_path / "a"), value))
    assert_reads(path)
    with pytest.raises(UnreadableError, match="items in"):
        read_header(path, all_tags=True)


def deflated(path: Path, body: bytes) -> Path:
    meta = struct.pack("<HH2sH", 2, 0x10, b"UI", 22) + DeflatedExplicitVRLittleEndian.encode()
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return file_of(path, bytes(128) + b"DICM" + meta + packer.compress(body) + packer.flush())


def test_a_deflated_bomb_is_refused_before_it_fills_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmrsr.io.dicom.read.header.MAX_INFLATED", 4 << 20)
    body = written(EXPLICIT)
    at = body.index(struct.pack("<HH2s", 0x10, 0x10, b"PN"))
    zeros = struct.pack("<HH2sHL", 9, 0x1010, b"UN", 0, 64 << 20) + bytes(64 << 20)
    bomb = deflated(tmp_path / "bomb", body[:at] + zeros + body[at:])
    assert bomb.stat().st_size < 100_000
    tracemalloc.start()
    assert refusal(bomb) == "its deflated data inflates to more than 4 MB"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < PLENTY_MB << 20
    assert_reads(deflated(tmp_path / "good", body))


def test_deflated_pixels_that_are_not_there(tmp_path: Path) -> None:
    path = deflated(tmp_path / "a", written(EXPLICIT, Rows=16000, Columns=16000))
    damage = damage_of(read_header(path), path)
    assert damage is not None
    assert damage.startswith("pixel data cut off")
    whole = deflated(tmp_path / "b", written(EXPLICIT)).read_bytes()
    path = file_of(tmp_path / "c", whole[:-200])
    damage = damage_of(read_header(path), path)
    assert damage is not None
    assert "cut off" in damage


def test_sequences_of_every_kind_come_back(tmp_path: Path) -> None:
    """Undefined and defined lengths, in VR UN too, private, and an image within the header."""
    ds = dataset(PIXELS, 0, 0, SOPInstanceUID="1.2.3")
    ds.ReferencedImageSequence = [item(ReferencedSOPInstanceUID=f"1.2.{k}") for k in range(3)]
    ds.RequestAttributesSequence = [item(ScheduledProcedureStepID="x")]
    ds["RequestAttributesSequence"].is_undefined_length = True
    icon = item(Rows=2, Columns=2, BitsAllocated=8)
    icon.PixelData = bytes(4)
    icon["PixelData"].VR = "OB"
    ds.IconImageSequence = [icon]
    block = ds.private_block(0x29, "VENDOR", create=True)
    block.add_new(0x10, "SQ", [item(SeriesDescription="inside")])
    path = save(ds, tmp_path / "a")
    header = read_header(path, all_tags=True)
    found = header.dataset
    assert [x.ReferencedSOPInstanceUID for x in found.ReferencedImageSequence] == ["1.2.0", "1.2.1", "1.2.2"]
    assert found.RequestAttributesSequence[0].ScheduledProcedureStepID == "x"
    assert found.IconImageSequence[0].PixelData == bytes(4)
    assert found.private_block(0x29, "VENDOR")[0x10].value[0].SeriesDescription == "inside"
    assert "PixelData" not in found
    assert_reads(path)
    implicit = Dataset()
    implicit.ReferencedSOPInstanceUID = "1.2.9"
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = True, True
    write_dataset(file, implicit)
    value = struct.pack("<HHL", 0xFFFE, 0xE000, len(file.getvalue())) + file.getvalue() + SEQUENCE_END
    unknown = with_sequence(good(tmp_path / "b"), value).replace(
        struct.pack("<HH2sH", 8, 0x1140, b"SQ", 0), struct.pack("<HH2sH", 8, 0x1140, b"UN", 0)
    )
    path = file_of(tmp_path / "c", unknown)
    assert read_header(path, all_tags=True).dataset.ReferencedImageSequence[0].ReferencedSOPInstanceUID == "1.2.9"


def test_text_is_read_in_its_character_set(tmp_path: Path) -> None:
    good(tmp_path / "a", SpecificCharacterSet="ISO_IR 192", SeriesDescription="Herzkränzchen")
    assert read_header(tmp_path / "a").dataset.SeriesDescription == "Herzkränzchen"
    good(tmp_path / "b", SpecificCharacterSet="ISO_IR 100", SeriesDescription="Herzkränzchen")
    assert read_header(tmp_path / "b", all_tags=True).dataset.SeriesDescription == "Herzkränzchen"


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Files of several encodings."""
    folder = tmp_path_factory.mktemp("seeds")
    found = [good(folder / "a"), bytes(128) + b"DICM" + written(IMPLICIT), written(BIG)]
    for k, syntax in enumerate((RLELossless, JPEG2000Lossless)):
        ds = dataset(PIXELS, 0, 0, SOPInstanceUID="1.2.3")
        ds.compress(syntax, generate_instance_uid=False)
        found.append(save(ds, folder / f"c{k}").read_bytes())
    found.append(write_enhanced(folder / "e", images(2, 2, 6, 5)).read_bytes())
    found.append(deflated(folder / "d", written(EXPLICIT)).read_bytes())
    return found


@pytest.mark.parametrize("which", range(7))
def test_damage_raises_nothing_else(seeds: list[bytes], which: int, tmp_path: Path) -> None:
    """Bytes changed, taken out and doubled: each file is read, or refused in one line."""
    rng = np.random.default_rng(which)
    path, refused = tmp_path / "a", 0
    for _ in range(150):
        data = bytearray(seeds[which])
        for _ in range(rng.integers(1, 6)):
            at = int(rng.integers(len(data)))
            kind = rng.integers(3)
            if kind == 0:
                data[at] = int(rng.integers(256))
            elif kind == 1:
                del data[at : at + int(rng.integers(1, 40))]
            else:
                data[at:at] = data[at : at + int(rng.integers(1, 40))]
        path.write_bytes(data)
        for all_tags in (False, True):
            found = tried(path, all_tags=all_tags)
            refused += isinstance(found, str)
            said = found if isinstance(found, str) else damage_of(found, path)
            assert said is None or said.isprintable()
    assert refused
