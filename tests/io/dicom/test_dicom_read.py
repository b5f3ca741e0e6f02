"""Reading single DICOM files: what is taken, what is skipped and why, and the pixels."""

from pathlib import Path

import numpy as np
import pytest
from dicom_files import dataset, images, item, put_pixels, put_unchecked, save, write_enhanced, write_series
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    MediaStorageDirectoryStorage,
    RLELossless,
)

from cmrsr.errors import UnreadableError
from cmrsr.io.dicom.read.group import assemble, group
from cmrsr.io.dicom.read.instance import DicomInstance, read_headers
from cmrsr.io.dicom.read.pixels import read_pixels
from cmrsr.io.dicom.tags import clock_ms

PIXELS = images(y=48, x=40)[0, 0]


def read_one(path: Path) -> DicomInstance:
    instances, skipped = read_headers([path])
    assert not skipped, skipped
    return instances[0]


def skipped_reason(path: Path) -> tuple[str, bool]:
    instances, skipped = read_headers([path])
    assert not instances
    assert skipped[0].path == path
    return skipped[0].reason, skipped[0].unreadable


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_pixels_come_back_rescaled(tmp_path: Path, dtype: type[np.generic]) -> None:
    stored = (PIXELS.astype(np.int32) - (300 if dtype is np.int16 else 0)).astype(dtype)
    path = save(dataset(stored, 0, 0, RescaleSlope="0.5", RescaleIntercept="-7"), tmp_path / "no extension")
    np.testing.assert_array_equal(read_pixels(read_one(path)), stored * np.float32(0.5) - 7)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_transfer_syntaxes(tmp_path: Path, syntax: str) -> None:
    ds = dataset(PIXELS, 0, 0, SOPInstanceUID="1.2.3")
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = PIXELS.astype(">u2").tobytes()
    ds.file_meta.TransferSyntaxUID = syntax
    np.testing.assert_array_equal(read_pixels(read_one(save(ds, tmp_path / "a"))), PIXELS)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_compressed_pixels(tmp_path: Path, syntax: str, dtype: type[np.generic]) -> None:
    if syntax == JPEGLSLossless:
        pytest.importorskip("jpeg_ls", reason="no JPEG-LS encoder to make the file with")
    stored = PIXELS.astype(dtype)
    ds = dataset(stored, 0, 0, SOPInstanceUID="1.2.3")
    ds.compress(syntax, generate_instance_uid=False)
    instance = read_one(save(ds, tmp_path / "a"))
    assert instance.damage is None
    np.testing.assert_array_equal(read_pixels(instance), stored)


def test_bits_beyond_the_stored_ones_are_ignored(tmp_path: Path) -> None:
    """Old files keep an overlay in the unused high bits."""
    ds = dataset(PIXELS, 0, 0, BitsStored=12, HighBit=11)
    ds.PixelData = (PIXELS | 0x8000).tobytes()
    np.testing.assert_array_equal(read_pixels(read_one(save(ds, tmp_path / "a"))), PIXELS)


def test_monochrome1_keeps_its_stored_values(tmp_path: Path) -> None:
    path = save(dataset(PIXELS, 0, 0, PhotometricInterpretation="MONOCHROME1"), tmp_path / "a")
    np.testing.assert_array_equal(read_pixels(read_one(path)), PIXELS)


def test_enhanced_frames_are_single_images(tmp_path: Path) -> None:
    frames = images(6, 2)
    instances, _ = read_headers([write_enhanced(tmp_path / "a.dcm", frames)])
    assert len(instances) == 12
    series = assemble(*group(instances))
    assert series.shape == frames.shape
    assert series.kind == "cine"
    assert series.phase_axis == "y"
    assert series.acquired_fraction == pytest.approx(0.5)
    assert series.times_ms is not None
    np.testing.assert_allclose(series.times_ms, 40.0 * np.arange(6))
    np.testing.assert_array_equal(series.array(), 2.0 * frames - 10)


def test_missing_optional_tags(tmp_path: Path) -> None:
    optional = ("EchoTime", "TriggerTime", "AcquisitionDate", "SliceThickness", "SeriesDescription", "SeriesNumber",
                "PatientName", "FrameOfReferenceUID", "InPlanePhaseEncodingDirection", "ImageType")  # fmt: skip
    instance = read_one(save(dataset(PIXELS, 0, 0, **dict.fromkeys(optional)), tmp_path / "a"))
    series = assemble(*group([instance]))
    assert series.source.name == "series"
    assert series.phase_axis is None
    np.testing.assert_array_equal(series.frame(0)[0], PIXELS)


def test_invalid_values_are_taken_as_missing(tmp_path: Path) -> None:
    path = save(dataset(PIXELS, 0, 0, TriggerTime="100", EchoTime="1.1"), tmp_path / "a")
    data = path.read_bytes().replace(b"\x18\x00\x60\x10DS\x06\x00100.0 ", b"\x18\x00\x60\x10DS\x06\x00wrong ")
    path.write_bytes(data.replace(b"\x18\x00\x60\x10DS\x04\x00100 ", b"\x18\x00\x60\x10DS\x04\x00bad "))
    instance = read_one(path)
    assert instance.trigger_time_ms is None
    assert instance.echo_time_ms == 1.1


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"SOPClassUID": CTImageStorage, "Modality": "CT"}, "wrong modality: CT"),
        ({"ImageType": ["DERIVED", "PRIMARY", "M", "MOSAIC"]}, "mosaic"),
        ({"ImagePositionPatient": None}, "ImagePositionPatient"),
        ({"PixelSpacing": ["0", "1"]}, "PixelSpacing"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "ImageOrientationPatient"),
        ({"NumberOfFrames": 2}, "multi-frame"),
    ],
)
def test_images_of_no_use(tmp_path: Path, tags: dict[str, object], words: str) -> None:
    reason, unreadable = skipped_reason(save(dataset(PIXELS, 0, 0, **tags), tmp_path / "a"))
    assert words in reason
    assert not unreadable


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
def test_a_garbled_scale_is_no_default(tmp_path: Path, keyword: str) -> None:
    ds = dataset(PIXELS, 0, 0)
    put_unchecked(ds, keyword, "1;5")
    assert skipped_reason(save(ds, tmp_path / "a")) == (f"no usable {keyword} (found '1;5')", False)


def test_a_number_of_frames_that_is_none_leaves_no_file_unmentioned(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "a", images(2, 2))
    data = path.read_bytes()
    old = b"(\0\x08\0IS\x02\x004 "
    assert old in data
    for value in (b"-1", b".5"):
        path.write_bytes(data.replace(old, old[:-2] + value))
        instances, skipped = read_headers([path])
        assert len(instances) == 1 or skipped


def test_reasons_are_one_line_whatever_a_tag_holds(tmp_path: Path) -> None:
    path = save(dataset(PIXELS, 0, 0, Modality="CT"), tmp_path / "a")
    path.write_bytes(path.read_bytes().replace(b"CS\x02\x00CT", b"CS\x02\x00\n\x1b"))
    assert skipped_reason(path) == ("wrong modality: ?, expected MR", False)


def test_colour_images(tmp_path: Path) -> None:
    ds = dataset(PIXELS, 0, 0, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    put_pixels_rgb(ds)
    reason, unreadable = skipped_reason(save(ds, tmp_path / "a"))
    assert "colour" in reason
    assert not unreadable


def put_pixels_rgb(ds: Dataset) -> None:
    rgb = np.zeros((*PIXELS.shape, 3), np.uint8)
    put_pixels(ds, rgb[..., 0])
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.PixelData = rgb.tobytes()


def test_files_that_are_no_images(tmp_path: Path) -> None:
    words = tmp_path / "LICENSE"
    words.write_text("words\n" * 100)
    assert skipped_reason(words) == ("not a DICOM file", True)
    empty = tmp_path / "empty.dcm"
    empty.touch()
    assert skipped_reason(empty) == ("not a DICOM file", True)
    report = save(dataset(PIXELS, 0, 0, PixelData=None, Rows=None, Modality="SR"), tmp_path / "report")
    assert skipped_reason(report) == ("no image in it (SR)", True)
    directory = Dataset()
    directory.file_meta = dataset(PIXELS, 0, 0).file_meta
    directory.SOPClassUID, directory.SOPInstanceUID = MediaStorageDirectoryStorage, "1.2.3"
    directory.DirectoryRecordSequence = [item(DirectoryRecordType="PATIENT")]
    assert "DICOMDIR" in skipped_reason(save(directory, tmp_path / "DICOMDIR"))[0]


def test_a_file_cut_in_its_header(tmp_path: Path) -> None:
    path = save(dataset(PIXELS, 0, 0), tmp_path / "a")
    path.write_bytes(path.read_bytes()[: -PIXELS.nbytes - 40])
    reason, unreadable = skipped_reason(path)
    assert "truncated" in reason
    assert unreadable


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kept", [0.0, 0.6, 0.99])
def test_a_file_cut_in_its_pixels(tmp_path: Path, compressed: bool, kept: float) -> None:
    ds = dataset(PIXELS, 0, 0, SOPInstanceUID="1.2.3")
    if compressed:
        ds.compress(RLELossless, generate_instance_uid=False)
    path = save(ds, tmp_path / "cut.dcm")
    data = path.read_bytes()
    start = data.rindex(b"\xe0\x7f\x10\x00")
    path.write_bytes(data[: start + 12 + int(kept * (len(data) - start - 12))])
    instance = read_one(path)
    assert instance.damage is not None
    with pytest.raises(UnreadableError, match=r"cut off.*cut\.dcm"):
        assemble(*group([instance]))


def test_pixels_that_do_not_decode(tmp_path: Path) -> None:
    ds = dataset(PIXELS, 0, 0, SOPInstanceUID="1.2.3")
    ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    path = save(ds, tmp_path / "bad.dcm")
    data = bytearray(path.read_bytes())
    middle = data.index(b"\xff\x4f\xff\x51")
    data[middle : middle + 60] = bytes(60)
    path.write_bytes(data)
    with pytest.raises(UnreadableError, match=r"bad\.dcm"):
        read_pixels(read_one(path))


def test_a_file_that_disappears(tmp_path: Path) -> None:
    [path] = write_series(tmp_path, images(1, 1))
    series = assemble(*group([read_one(path)]))
    path.unlink()
    with pytest.raises(UnreadableError, match="I000"):
        series.frame(0)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"AcquisitionTime": "000001.5"}, 1500.0),
        ({"AcquisitionTime": "01:02:03"}, 3723000.0),
        ({"AcquisitionDateTime": "20240102000001.250+0100", "AcquisitionTime": "235959"}, 738887 * 86.4e6 + 1250),
        ({"AcquisitionDate": "20240102", "AcquisitionTime": "000001"}, 738887 * 86.4e6 + 1000),
        ({"AcquisitionTime": "noon"}, None),
        ({}, None),
    ],
)
def test_clock(tags: dict[str, str], expected: float | None) -> None:
    ds = Dataset()
    for keyword, value in tags.items():
        ds.add_new(keyword, "LO", value)
    assert clock_ms(ds, "Acquisition") == expected
