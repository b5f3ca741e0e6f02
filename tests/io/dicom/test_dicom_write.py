"""DICOM out: the round trip, identity, provenance, geometry, and what other people's tools say of the files."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_files import ROOT, images, item, lps_position, put_unchecked, series_in, write_enhanced, write_series
from numpy.typing import NDArray
from pydicom import config
from pydicom.dataset import Dataset

from cmrsr.errors import OutputError, UnreadableError
from cmrsr.io.derivation import Derivation
from cmrsr.io.dicom.read.group import assemble, group
from cmrsr.io.dicom.read.instance import read_headers
from cmrsr.io.dicom.write.series import dicom_writer
from cmrsr.io.nifti.series import read_nifti
from cmrsr.io.series import Series, Source
from tests.dicom_tools import complaints

DERIVATION = Derivation(
    task="sr", engine="perfgen-s", engine_version="1.0", engine_digest="ab" * 32, software_version="0.1.0",
    parameters={"steps": 5, "samples": 8, "seed": 3}, resampled=True,
)  # fmt: skip


def write(folder: Path, like: Series, frames: NDArray[Any] | None = None, **options: Any) -> tuple[Series, list[str]]:
    """Write the frames (the source's own by default), and read them back."""
    derivation = options.pop("derivation", DERIVATION)
    data = like.array() if frames is None else np.asarray(frames, np.float32)
    options = {"affine": like.affine, **options}
    with dicom_writer(folder, like, derivation, shape=data.shape, **options) as writer:
        for frame in data:
            writer.write(frame)
    return series_in(folder), writer.notes


def headers(folder: Path) -> list[Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.glob("IM_*.dcm"))]


def invalid(folder: Path) -> set[str]:
    return {line for path in sorted(folder.glob("*.dcm")) for line in complaints("dciodvfy", "-new", str(path))}


def inconsistent(tmp_path: Path, paths: list[Path]) -> list[str]:
    listing = tmp_path / "files.txt"
    listing.write_text("\n".join(str(path) for path in paths))
    return complaints("dcentvfy", "-f", str(listing))


@pytest.fixture
def perfusion(tmp_path: Path) -> Series:
    write_series(tmp_path / "in", images(6, 3))
    return series_in(tmp_path / "in")


# --- round trip and identity -----------------------------------------------------------------------------------------


def test_round_trip(tmp_path: Path, perfusion: Series) -> None:
    result, notes = write(tmp_path / "out", perfusion)
    assert notes == []
    np.testing.assert_array_equal(result.array(), perfusion.array())
    np.testing.assert_allclose(result.affine, perfusion.affine, atol=1e-6)
    assert perfusion.times_ms is not None
    assert result.times_ms is not None
    np.testing.assert_array_equal(result.times_ms, perfusion.times_ms)
    assert (result.kind, result.phase_axis) == (perfusion.kind, perfusion.phase_axis)
    assert [p.name for p in result.source.paths][:2] == ["IM_0001.dcm", "IM_0002.dcm"]


def test_a_rerun_writes_the_same_bytes_and_another_seed_other_identifiers(tmp_path: Path, perfusion: Series) -> None:
    again = replace(DERIVATION, parameters={**DERIVATION.parameters, "seed": 4})
    for name, derivation in (("a", DERIVATION), ("b", DERIVATION), ("c", again)):
        write(tmp_path / name, perfusion, derivation=derivation)
    a, b = ([p.read_bytes() for p in sorted((tmp_path / n).iterdir())] for n in "ab")
    assert a == b
    uids = [{h.SOPInstanceUID for h in headers(tmp_path / n)} for n in "ac"]
    assert not uids[0] & uids[1]
    assert len(uids[0]) == 18
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids[0])
    assert headers(tmp_path / "a")[0].SeriesInstanceUID != headers(tmp_path / "c")[0].SeriesInstanceUID


def test_offset_and_suffix_make_another_series(tmp_path: Path, perfusion: Series) -> None:
    write(tmp_path / "a", perfusion)
    write(tmp_path / "b", perfusion, series_offset=1, description_suffix="SR sample 1")
    a, b = headers(tmp_path / "a")[0], headers(tmp_path / "b")[0]
    assert (a.SeriesNumber, b.SeriesNumber) == (501, 502)
    assert b.SeriesDescription == "perfusion rest SR sample 1"
    assert a.SeriesInstanceUID != b.SeriesInstanceUID
    assert a.SOPInstanceUID != b.SOPInstanceUID


def test_the_number_of_a_derivation_is_added_and_its_method_is_not_guessed(tmp_path: Path, perfusion: Series) -> None:
    other = replace(DERIVATION, resampled=False, number=3)
    write(tmp_path / "a", perfusion, derivation=other)
    header = headers(tmp_path / "a")[0]
    assert header.SeriesNumber == 504
    assert "DerivationCodeSequence" not in header
    assert other.digest("x") == DERIVATION.digest("x")


def test_long_descriptions_keep_their_suffix(tmp_path: Path) -> None:
    write_series(tmp_path / "in", images(1, 1), SeriesDescription="perf " + "x" * 59, SeriesNumber=2_000_000_000)
    write(tmp_path / "out", series_in(tmp_path / "in"))
    header = headers(tmp_path / "out")[0]
    assert len(header.SeriesDescription) == 64
    assert header.SeriesDescription.endswith(" SR")
    assert header.SeriesNumber == 1


# --- provenance ------------------------------------------------------------------------------------------------------


def test_provenance(tmp_path: Path, perfusion: Series) -> None:
    write(tmp_path / "out", perfusion)
    source = [pydicom.dcmread(p) for p in perfusion.source.paths]
    written = headers(tmp_path / "out")
    for before, after in zip(source, written, strict=True):
        for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName", "StudyDate",
                        "AcquisitionTime", "ContentTime", "TriggerTime", "EchoTime", "FlipAngle"):  # fmt: skip
            assert before[keyword].value == after[keyword].value, keyword
        assert after.SeriesInstanceUID != before.SeriesInstanceUID
        assert list(after.ImageType[:2]) == ["DERIVED", "SECONDARY"]
        assert after.DerivationDescription == DERIVATION.describe()
        assert after.DerivationCodeSequence[0].CodeValue == "113085"
        [reference] = after.SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == before.SOPInstanceUID
        assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        [equipment] = after.ContributingEquipmentSequence
        assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
        assert (after.ContentQualification, after.BurnedInAnnotation, after.BodyPartExamined) == (
            "RESEARCH",
            "NO",
            "HEART",
        )
        assert after.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert [h.TemporalPositionIdentifier for h in written] == [t + 1 for t in range(6) for _ in range(3)]
    assert [h.InstanceNumber for h in written] == list(range(1, 19))


def test_what_could_mislead_is_left_behind(tmp_path: Path) -> None:
    def clutter(ds: Dataset, t: int, z: int) -> None:
        ds.private_block(0x0029, "VENDOR", create=True).add_new(1, "LO", "secret")
        ds.SmallestImagePixelValue, ds.LargestImagePixelValue = 1, 2
        ds.add_new(0x60003000, "OW", b"\0\0")
        ds.IconImageSequence = [item(Rows=2)]
        ds.OperatorsName = "Someone^Else"
        ds.LossyImageCompression, ds.LossyImageCompressionRatio = "01", "10"
        inner = item(Manufacturer="Other", PurposeOfReferenceCodeSequence=[item(CodeValue="109104")])
        inner.private_block(0x0029, "VENDOR", create=True).add_new(1, "LO", "secret")
        ds.ContributingEquipmentSequence = [inner]

    write_series(tmp_path / "in", images(2, 1), edit=clutter)
    write(tmp_path / "out", series_in(tmp_path / "in"))
    header = headers(tmp_path / "out")[0]
    assert not [e for e in header.iterall() if e.tag.is_private or e.tag.group == 0x6000]
    for keyword in ("SmallestImagePixelValue", "LargestImagePixelValue", "IconImageSequence", "OperatorsName"):
        assert keyword not in header
    assert (header.LossyImageCompression, header.LossyImageCompressionRatio) == ("01", 10)
    assert [e.Manufacturer for e in header.ContributingEquipmentSequence] == ["Other", "cmrsr"]


def test_a_cine_of_several_series_becomes_one(tmp_path: Path) -> None:
    def phases(ds: Dataset, t: int, z: int) -> None:
        ds.TriggerTime = f"{t * (40 + z):g}"
        ds.SeriesTime = f"10000{z}"

    write_series(tmp_path / "in", images(8, 3), series_per_slice=True, SeriesDescription="cine", edit=phases)
    source = series_in(tmp_path / "in")
    result, _ = write(tmp_path / "out", source)
    np.testing.assert_array_equal(result.array(), source.array())
    assert source.times_ms is not None
    assert result.times_ms is not None
    np.testing.assert_allclose(result.times_ms, source.times_ms)
    assert len({(h.SeriesInstanceUID, h.SeriesNumber, h.SeriesTime) for h in headers(tmp_path / "out")}) == 1
    assert {h.CardiacNumberOfImages for h in headers(tmp_path / "out")} == {8}


def every_second_new(n: int) -> list[tuple[int, ...]]:
    """Twice the frames of a beat of n: the acquired ones, and one after each."""
    return [sources for t in range(n) for sources in ((t,), (t, (t + 1) % n))]


def halfway(frames: NDArray[Any]) -> NDArray[np.float32]:
    """A frame after each of ``frames``, halfway to the next."""
    data = frames.astype(np.float32)
    pairs = np.stack([data, (data + np.roll(data, -1, axis=0)) / 2], axis=1)
    return pairs.reshape(-1, *data.shape[1:])


def test_interpolated_frames_name_both_neighbours(tmp_path: Path) -> None:
    write_series(tmp_path / "in", images(8, 2), SeriesDescription="cine",
                 edit=lambda ds, t, z: setattr(ds, "TriggerTime", str(40 * t)))  # fmt: skip
    source = series_in(tmp_path / "in")
    times = np.arange(16) * 20.0
    result, _ = write(
        tmp_path / "out", source, halfway(source.array()), times_ms=times, between=every_second_new(8)
    )  # fmt: skip
    assert result.times_ms is not None
    np.testing.assert_array_equal(result.times_ms, times)
    before = [pydicom.dcmread(p).SOPInstanceUID for p in source.source.paths]
    after = headers(tmp_path / "out")
    named = [[r.ReferencedSOPInstanceUID for r in h.SourceImageSequence] for h in after]
    assert named[4 * 2 + 1] == [before[2 * 2 + 1]]
    assert named[5 * 2 + 1] == [before[2 * 2 + 1], before[3 * 2 + 1]]
    assert named[15 * 2] == [before[7 * 2], before[0]]  # past the last phase the beat begins again
    assert {h.CardiacNumberOfImages for h in after} == {16}
    assert {h.NumberOfTemporalPositions for h in after} == {16}
    assert [h.TemporalPositionIdentifier for h in after[::2]] == list(range(1, 17))
    assert ["INTERPOLATED" in h.ImageType for h in after] == [False, False, True, True] * 8
    assert after[4 * 2].ImageComments.startswith("acquired image, passed through to a series that has")
    assert after[5 * 2].ImageComments.startswith("interpolated between images at 80 and 120 ms. Research use only")
    assert invalid(tmp_path / "out") == set()
    assert inconsistent(tmp_path, [*source.source.paths, *result.source.paths]) == []


def test_interpolated_images_lie_between_the_times_of_their_own_slice(tmp_path: Path) -> None:
    write_series(tmp_path / "in", images(3, 2), SeriesDescription="cine",
                 edit=lambda ds, t, z: setattr(ds, "TriggerTime", str(40 * t + 7.25 * z)))  # fmt: skip
    source = series_in(tmp_path / "in")
    assert source.times_ms is not None
    times = halfway(source.times_ms).astype(np.float64)
    times[-1] = 100
    write(tmp_path / "out", source, halfway(source.array()), times_ms=times, between=every_second_new(3))
    after = headers(tmp_path / "out")
    np.testing.assert_allclose([float(h.TriggerTime) for h in after], times.ravel())
    assert [h.ImageComments.split("images ")[1][:18] for h in after[2:4]] == [
        "at 0 and 40 ms. Re",
        "at 7.2 and 47.2 ms",
    ]


def test_without_times_no_image_claims_one(tmp_path: Path) -> None:
    write_series(tmp_path / "in", images(3, 1), TriggerTime="12", AcquisitionTime=None, ContentTime=None)
    source = series_in(tmp_path / "in")
    assert source.times_ms is None
    write(tmp_path / "out", source, halfway(source.array()), between=every_second_new(3))
    after = headers(tmp_path / "out")
    assert ["TriggerTime" in h for h in after] == [True, False] * 3
    assert after[3].ImageComments.startswith("interpolated between images 2 and 3 of the source")


@pytest.mark.parametrize(
    ("dtype", "tags"),
    [
        (np.uint16, {}),
        (np.uint16, {"RescaleSlope": "2", "RescaleIntercept": "-100"}),
        (np.uint16, {"RescaleSlope": "2.5", "RescaleIntercept": "-100"}),
        (np.uint16, {"RescaleSlope": "0.0123", "RescaleIntercept": "-3.1"}),
        (np.int16, {}),
        (np.int16, {"RescaleSlope": "0.7", "RescaleIntercept": "11"}),
        (np.uint8, {}),
    ],
)
def test_acquired_images_come_back_bit_for_bit(tmp_path: Path, dtype: type, tags: dict[str, str]) -> None:
    """Over the whole range of the stored type; new frames beyond it are clipped."""
    limits = np.iinfo(dtype)
    stored = np.random.default_rng(3).integers(limits.min, limits.max, (3, 2, 12, 10), endpoint=True).astype(dtype)
    stored[1, :, 0, :2] = limits.min, limits.max
    write_series(tmp_path / "in", stored, **tags)
    source = series_in(tmp_path / "in")
    frames = halfway(source.array())
    frames[1::2] = 1.3 * frames[1::2] - 50
    result, _ = write(
        tmp_path / "out", source, frames, times_ms=np.arange(6) * 20.0, between=every_second_new(3)
    )  # fmt: skip
    np.testing.assert_array_equal(result.array()[::2], source.array())
    low, high = source.array().min(), source.array().max()
    step = float(tags.get("RescaleSlope", 1))
    inside = (frames > low) & (frames < high)
    np.testing.assert_allclose(result.array()[inside], frames[inside], atol=0.5001 * max(step, 1))
    assert result.array().max() >= high


def test_acquired_images_come_back_bit_for_bit_where_each_has_a_scale_of_its_own(tmp_path: Path) -> None:
    def scales(ds: Dataset, t: int, z: int) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = f"{0.31 + 1.7 * t + 0.4 * z:g}", str(3 * t)

    stored = np.random.default_rng(3).integers(0, 65535, (3, 2, 12, 10), endpoint=True).astype(np.uint16)
    write_series(tmp_path / "in", stored, edit=scales)
    source = series_in(tmp_path / "in")
    frames = halfway(source.array())
    result, _ = write(
        tmp_path / "out", source, frames, times_ms=np.arange(6) * 20.0, between=every_second_new(3)
    )  # fmt: skip
    np.testing.assert_array_equal(result.array()[::2], source.array())
    np.testing.assert_allclose(result.array()[1::2], frames[1::2], atol=0.5001 * frames.max() / 30_000)


@pytest.mark.parametrize(("dtype", "slope", "inter"), [(np.uint8, 1, 0), (np.int16, 0.37, 5), (np.uint16, 3, -1)])
def test_acquired_nifti_integers_come_back_from_dicom(tmp_path: Path, dtype: type, slope: float, inter: float) -> None:
    limits = np.iinfo(dtype)
    stored = np.random.default_rng(4).integers(limits.min, limits.max, (10, 12, 2, 3), endpoint=True).astype(dtype)
    image = nib.Nifti1Image(stored, np.diag([1.5, 1.5, 8, 1]))
    image.header["scl_slope"], image.header["scl_inter"] = slope, inter
    nib.save(image, tmp_path / "x.nii")
    with (tmp_path / "x.nii").open("r+b") as file:  # nibabel leaves the scale of integers out
        file.seek(112)
        file.write(np.array([slope, inter], "<f4").tobytes())
    source = read_nifti(tmp_path / "x.nii")
    assert source.array().max() == np.float32(stored.max() * np.float64(np.float32(slope)) + inter)
    result, _ = write(
        tmp_path / "out", source, halfway(source.array()), times_ms=np.arange(6) * 20.0, between=every_second_new(3)
    )  # fmt: skip
    # The readers round the same product of the same integer differently in the last bit of float32.
    np.testing.assert_allclose(result.array()[::2], source.array(), rtol=2e-7)


def test_one_image_made_of_all_frames_names_all(tmp_path: Path, perfusion: Series) -> None:
    write(tmp_path / "out", perfusion, perfusion.array().mean(axis=0, keepdims=True))
    assert len(headers(tmp_path / "out")[0].SourceImageSequence) == 6


# --- geometry and pixels ---------------------------------------------------------------------------------------------


def test_a_finer_matrix_moves_the_first_pixel(tmp_path: Path, perfusion: Series) -> None:
    """Twice the matrix: the corner of the image stays, so the centre of its first pixel moves by a quarter pixel."""
    affine = perfusion.affine @ np.diag([0.5, 0.5, 1, 1])
    affine[:3, 3] += perfusion.affine[:3, :3] @ [-0.25, -0.25, 0]
    fine = perfusion.array().repeat(2, axis=2).repeat(2, axis=3)
    result, _ = write(tmp_path / "out", perfusion, fine, affine=affine)
    np.testing.assert_allclose(result.affine, affine, atol=1e-6)
    corners = [s.affine @ [-0.5, -0.5, 0, 1] for s in (perfusion, result)]
    np.testing.assert_allclose(corners[0], corners[1], atol=1e-6)
    np.testing.assert_array_equal(result.array(), fine)
    assert headers(tmp_path / "out")[0].PixelSpacing == [0.75, 0.625]


@pytest.mark.parametrize(
    ("slope", "intercept", "factor", "rescaled"),
    [("2", "-100", 1.0, False), ("0.01", "-3", 1.0, True), ("1", "0", 200.0, True), ("1", "0", 0.9, False)],
)
def test_the_intensity_scale_is_kept(tmp_path: Path, slope: str, intercept: str, factor: float, rescaled: bool) -> None:
    """In whole numbers where they are fine enough (MR images have no rescale of their own), else with a rescale."""
    write_series(
        tmp_path / "in", images(3, 1), RescaleSlope=slope, RescaleIntercept=intercept, ImageType=["A", "B", "P"]
    )
    source = series_in(tmp_path / "in")
    result, _ = write(tmp_path / "out", source, source.array() * factor)
    header = headers(tmp_path / "out")[0]
    step = float(header.get("RescaleSlope", 1))
    assert ("RescaleSlope" in header) == rescaled
    np.testing.assert_allclose(result.array(), source.array() * factor, atol=0.5001 * step, rtol=1e-6)
    assert step <= max(1, factor)


def test_magnitudes_below_zero_are_clipped(tmp_path: Path, perfusion: Series) -> None:
    result, _ = write(tmp_path / "out", perfusion, perfusion.array() - 100)
    np.testing.assert_array_equal(result.array(), np.maximum(perfusion.array() - 100, 0))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_floats_of_any_scale(tmp_path: Path, scale: float) -> None:
    frames = np.random.default_rng(0).normal(size=(2, 1, 8, 9)).astype(np.float32) * scale
    result, _ = write(tmp_path / "out", Series.from_array(frames), frames)
    np.testing.assert_allclose(result.array(), frames, atol=np.abs(frames).max() / 25_000)


def test_window_covers_the_data(tmp_path: Path, perfusion: Series) -> None:
    write(tmp_path / "out", perfusion)
    windows = {(float(h.WindowCenter), float(h.WindowWidth)) for h in headers(tmp_path / "out")}
    [(centre, width)] = windows  # one for all frames: a movie must not flicker
    assert centre - width / 2 < np.percentile(perfusion.array(), 3)
    assert centre + width / 2 > np.percentile(perfusion.array(), 97)


def test_enhanced_source(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "in" / "a.dcm", images(8, 2))
    source = series_in(tmp_path / "in")
    result, _ = write(tmp_path / "out", source)
    np.testing.assert_array_equal(result.array(), np.maximum(source.array(), 0))
    assert result.times_ms is not None
    np.testing.assert_allclose(result.times_ms, 40.0 * np.arange(8))
    assert headers(tmp_path / "out")[2].SourceImageSequence[0].ReferencedFrameNumber == 2
    assert headers(tmp_path / "out")[2].EchoTime == 1.1
    assert invalid(tmp_path / "out") == set()


# --- a new study -----------------------------------------------------------------------------------------------------


def memory_series(name: str, kind: str = "perfusion") -> Series:
    frames = np.random.default_rng(1).uniform(0, 900, (6, 2, 12, 10)).round()
    return replace(
        Series.from_array(frames, times_ms=100 + np.arange(6) * 750.0, phase_axis="y", source=Source(name=name)),
        kind=kind,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["perfusion", "cine", "t1", "unknown"])
def test_series_from_memory_becomes_a_study(tmp_path: Path, kind: str) -> None:
    source = memory_series("virtual-1/rest perf", kind)
    result, _ = write(tmp_path / "out", source)
    np.testing.assert_array_equal(result.array(), source.array())
    np.testing.assert_allclose(result.affine, source.affine, atol=1e-9)
    assert result.phase_axis == "y"
    assert result.times_ms is not None
    np.testing.assert_allclose(result.times_ms, 100 + np.arange(6) * 750.0)
    header = headers(tmp_path / "out")[0]
    assert (header.PatientID, header.SeriesDescription) == ("virtual-1", "rest perf SR")
    assert "SourceImageSequence" not in header
    assert invalid(tmp_path / "out") == set()
    assert inconsistent(tmp_path, list(result.source.paths)) == []


def test_series_of_one_virtual_patient_share_a_study(tmp_path: Path) -> None:
    phantom = replace(DERIVATION, task="phantom")
    write(tmp_path / "rest", memory_series("virtual-1/rest"), derivation=phantom)
    write(tmp_path / "stress", memory_series("virtual-1/stress"), derivation=phantom)
    write(tmp_path / "other", memory_series("virtual-2/stress"), derivation=phantom)
    a, b, c = (headers(tmp_path / name)[0] for name in ("rest", "stress", "other"))
    assert (a.StudyInstanceUID, a.FrameOfReferenceUID) == (b.StudyInstanceUID, b.FrameOfReferenceUID)
    assert a.StudyInstanceUID != c.StudyInstanceUID
    assert inconsistent(tmp_path, [p for n in ("rest", "stress", "other") for p in (tmp_path / n).iterdir()]) == []


def test_files_of_one_name_are_not_one_study(tmp_path: Path) -> None:
    uids = []
    for k in range(2):
        path = tmp_path / str(k) / "perf.nii.gz"
        path.parent.mkdir()
        path.write_bytes(bytes([k]))
        source = Source(name="perf", format="nifti", paths=(path,))
        write(tmp_path / f"out{k}", replace(memory_series("perf"), source=source))
        uids.append(headers(tmp_path / f"out{k}")[0].StudyInstanceUID)
    assert uids[0] != uids[1]


# --- sick sources ----------------------------------------------------------------------------------------------------


def test_sick_tags_are_mended_and_said(tmp_path: Path) -> None:
    def sick(ds: Dataset, t: int, z: int) -> None:
        ds.ImageType = ["ORIGINAL"]
        ds.MagneticFieldStrength, ds.ImagingFrequency = "15000", "638639460"
        ds.InversionTime = "130"
        ds.ScanOptions = ["VB_GEMS", "PFP"]
        ds.Laterality = ""
        ds.add_new("NominalInterval", "IS", "857")
        for keyword in (
            "StudyID",
            "AccessionNumber",
            "PatientBirthDate",
            "PositionReferenceIndicator",
            "EchoTrainLength",
        ):
            del ds[keyword]

    write_series(tmp_path / "in", images(4, 2), edit=sick)
    _, notes = write(tmp_path / "out", series_in(tmp_path / "in"))
    header = headers(tmp_path / "out")[0]
    assert (header.MagneticFieldStrength, header.ImagingFrequency) == (1.5, 63.863946)
    assert list(header.ScanOptions) == ["PFP", "CG"]
    assert "InversionTime" not in header
    for word in ("MagneticFieldStrength", "ImagingFrequency", "VB_GEMS", "InversionTime", "CG"):
        assert any(word in note for note in notes), word
    assert len(notes) == len(set(notes))
    missing_study_id = "Missing attribute or value that would be needed to build DICOMDIR"  # must equal the source's
    assert [line for line in invalid(tmp_path / "out") if missing_study_id not in line] == []


@pytest.mark.filterwarnings("ignore:Invalid value for VR", "ignore:The value length")
def test_invalid_values_are_left_out_and_said(tmp_path: Path) -> None:
    def invalid_values(ds: Dataset, t: int, z: int) -> None:
        ds.SequenceName = "longer than the sixteen characters of an SH"
        ds.PatientAge = "fifty"
        ds.SpacingBetweenSlices = "8.00000000000000000001"

    write_series(tmp_path / "in", images(2, 2), edit=invalid_values)
    _, notes = write(tmp_path / "out", series_in(tmp_path / "in"))
    header = headers(tmp_path / "out")[0]
    assert "SequenceName" not in header
    assert "PatientAge" not in header
    assert float(header.SpacingBetweenSlices) == pytest.approx(8)
    assert sorted(note.split()[0] for note in notes) == ["PatientAge", "SequenceName"]


# --- files -----------------------------------------------------------------------------------------------------------


ILL = f"{ROOT}.007"  # leading zeros, as an anonymiser writes them


def ill(ds: Dataset, t: int, z: int) -> None:
    """A file as an anonymiser leaves it: UIDs that are none, a date that is none, a frame of reference of its own."""
    for keyword, uid in (
        ("StudyInstanceUID", f"{ILL}.1"), ("SeriesInstanceUID", f"{ILL}.2"), ("SOPInstanceUID", f"{ILL}.{t}.{z}"),
        ("FrameOfReferenceUID", f"{ILL}.3.{t}.{z}"),
    ):  # fmt: skip
        put_unchecked(ds, keyword, uid)
    for keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
        put_unchecked(ds, keyword, "20120000")
    put_unchecked(ds, "PatientBirthDate", "00000000")


@config.disable_value_validation()
def test_invalid_identifiers_are_kept_as_references_and_ours_are_valid(tmp_path: Path) -> None:
    write_series(tmp_path / "in", images(4, 2), edit=ill)
    result, notes = write(tmp_path / "out", series_in(tmp_path / "in"))
    np.testing.assert_array_equal(result.array(), images(4, 2))
    for k, ds in enumerate(headers(tmp_path / "out")):
        assert ds.StudyInstanceUID == f"{ILL}.1"
        assert ds.FrameOfReferenceUID == f"{ILL}.3.0.0"
        assert ds.SourceImageSequence[0].ReferencedSOPInstanceUID == f"{ILL}.{k // 2}.{k % 2}"
        for uid in (ds.SeriesInstanceUID, ds.SOPInstanceUID, ds.file_meta.MediaStorageSOPInstanceUID):
            assert uid.is_valid
            assert ILL not in uid
        assert ds.StudyDate == ""
        assert "AcquisitionDate" not in ds
    said = " | ".join(notes)
    assert said.count(f"StudyInstanceUID '{ILL}.1' is not valid; kept, because it names the source's own") == 1
    assert "StudyDate left out: its value is not valid" in said


def test_dciodvfy_finds_no_more_than_the_source_itself_has(tmp_path: Path) -> None:
    write_series(tmp_path / "in", images(3, 2), edit=ill)
    write(tmp_path / "out", series_in(tmp_path / "in"))
    found = {line for line in invalid(tmp_path / "out") if line.startswith("Error")}
    assert found
    assert all(ILL in line or "invalid data values" in line for line in found), found


def test_images_without_identifiers_are_not_referred_to(tmp_path: Path) -> None:
    def nameless(ds: Dataset, t: int, z: int) -> None:
        ds.SOPInstanceUID = ""

    for name in ("a", "b"):
        write_series(tmp_path / name, images(4, 2) + np.uint16(name == "b"), edit=nameless)
        write(tmp_path / f"out_{name}", series_in(tmp_path / name))
    found = [[ds.SOPInstanceUID for ds in headers(tmp_path / f"out_{name}")] for name in ("a", "b")]
    assert len({uid for uids in found for uid in uids}) == 16, "other images give other identifiers"
    assert all("SourceImageSequence" not in ds for ds in headers(tmp_path / "out_a"))


def test_a_garbled_interpretation_is_not_passed_on(tmp_path: Path) -> None:
    def garbled(ds: Dataset, t: int, z: int) -> None:
        put_unchecked(ds, "PhotometricInterpretation", b"MONO\xbfHROME2")

    write_series(tmp_path / "in", images(2, 1), edit=garbled)
    write(tmp_path / "out", series_in(tmp_path / "in"))
    assert {ds.PhotometricInterpretation for ds in headers(tmp_path / "out")} == {"MONOCHROME2"}


def test_characters_that_the_encoding_does_not_have(tmp_path: Path) -> None:
    """An escape sequence that names no encoding: no warning of a library, and the result is written."""
    charset = ["ISO 2022 IR 6", "ISO 2022 IR 87"]
    for path in write_series(tmp_path / "in", images(2, 1), SpecificCharacterSet=charset, StudyDescription="heart12"):
        path.write_bytes(path.read_bytes().replace(b"heart12", b"hear\x1b$~"))
    result, _ = write(tmp_path / "out", series_in(tmp_path / "in"))
    np.testing.assert_array_equal(result.array(), images(2, 1))


def test_slices_with_gaps_of_all_sizes_come_back_at_their_places(tmp_path: Path) -> None:
    places = (0, 2.4, 5.6)

    def three(ds: Dataset, t: int, z: int) -> None:
        ds.ImagePositionPatient = [f"{v:.8g}" for v in lps_position(places[z])]
        ds.SpacingBetweenSlices = "8"

    write_series(tmp_path / "in", images(4, 3), edit=three)
    like = series_in(tmp_path / "in")
    result, _ = write(tmp_path / "same", like)
    np.testing.assert_allclose(result.origins_mm, like.origins_mm, atol=1e-6)
    assert all("SpacingBetweenSlices" not in ds for ds in headers(tmp_path / "same"))

    finer = like.affine.copy()  # twice the matrix: half the spacing, the first pixel moved
    finer[:3, :2] /= 2
    finer[:3, 3] += [1.5, -2.5, 0.75]
    result, _ = write(tmp_path / "finer", like, np.repeat(np.repeat(like.array(), 2, 2), 2, 3), affine=finer)
    np.testing.assert_allclose(result.origins_mm, np.add(like.origins_mm, [1.5, -2.5, 0.75]), atol=1e-6)


def test_nothing_is_left_after_an_exception(tmp_path: Path, perfusion: Series) -> None:
    out = tmp_path / "results" / "out"

    def fails() -> Iterator[None]:
        with dicom_writer(out, perfusion, DERIVATION, shape=perfusion.shape, affine=perfusion.affine) as writer:
            writer.write(perfusion.frame(0))
            yield
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(fails())
    assert list((tmp_path / "results").iterdir()) == []


def test_an_earlier_result_survives_a_failure_and_is_replaced_by_a_success(tmp_path: Path, perfusion: Series) -> None:
    out = tmp_path / "out"
    write(out, perfusion)
    with pytest.raises(OutputError, match="NaN"):
        write(out, perfusion, np.full(perfusion.shape, np.nan))
    assert len(headers(out)) == 18
    write(out, perfusion, perfusion.array()[:, :, :6], affine=perfusion.affine)
    assert {h.Rows for h in headers(out)} == {6}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"]


def test_a_folder_with_other_files_is_not_touched(tmp_path: Path, perfusion: Series) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.doc").touch()
    with pytest.raises(OutputError, match="holds other files"):
        write(tmp_path / "out", perfusion)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        write(tmp_path / "file", perfusion)
    with pytest.raises(OutputError):
        write(tmp_path / "file" / "out", perfusion)


def test_too_few_frames(tmp_path: Path, perfusion: Series) -> None:
    with (
        pytest.raises(ValueError, match="expected 6 frames, got 1"),
        dicom_writer(tmp_path / "out", perfusion, DERIVATION, shape=perfusion.shape, affine=perfusion.affine) as writer,
    ):
        writer.write(perfusion.frame(0))
    assert not (tmp_path / "out").exists()


def test_source_gone_while_writing(tmp_path: Path, perfusion: Series) -> None:
    frames = perfusion.array()
    perfusion.source.paths[5].unlink()
    with pytest.raises(UnreadableError, match="I005"):
        write(tmp_path / "out", perfusion, frames)
    assert not (tmp_path / "out").exists()


def test_source_replaced_while_writing(tmp_path: Path, perfusion: Series) -> None:
    """The tags of whatever lies there now (another patient, perhaps) must not be mixed with these pixels."""
    shutil.copy(perfusion.source.paths[4], perfusion.source.paths[5])
    with pytest.raises(UnreadableError, match=r"I005 holds another image"):
        write(tmp_path / "out", perfusion)


# --- other people's tools --------------------------------------------------------------------------------------------


def test_synthetic_files_are_valid_and_fit_their_study(tmp_path: Path, perfusion: Series) -> None:
    result, _ = write(tmp_path / "out", perfusion)
    assert invalid(tmp_path / "out") == set()
    assert inconsistent(tmp_path, [*perfusion.source.paths, *result.source.paths]) == []


def test_real_perfusion_is_valid_and_fits_its_study(tmp_path: Path, real_data: Path) -> None:
    source = series_in(real_data / "perfusion-dicom")
    result, notes = write(tmp_path / "out", source)
    assert any("15000 taken as gauss" in note for note in notes)
    np.testing.assert_array_equal(result.array(), source.array())
    # The study has no ID, and the new series cannot give it one.
    assert [line for line in invalid(tmp_path / "out") if "/StudyID" not in line] == []
    assert inconsistent(tmp_path, [*source.source.paths, *result.source.paths]) == []


def test_real_t1_images_are_valid(tmp_path: Path, real_data: Path) -> None:
    for found in group(read_headers((real_data / "t1-dicom-phantom").rglob("*.dcm"))[0])[:3]:
        source = assemble(found)
        result, _ = write(tmp_path / found.name, source)
        np.testing.assert_array_equal(result.array(), source.array())
        assert result.kind == source.kind
        assert all("/PatientName" in line for line in invalid(tmp_path / found.name))


def test_dcm2niix_sees_one_series_in_the_same_place(tmp_path: Path, real_data: Path) -> None:
    if shutil.which("dcm2niix") is None:
        pytest.skip("dcm2niix is not installed")
    source = real_data / "perfusion-dicom"
    write(tmp_path / "out", series_in(source))
    converted = []
    for name, folder in (("before", source), ("after", tmp_path / "out")):
        (tmp_path / name).mkdir()
        subprocess.run(["dcm2niix", "-f", "x", "-o", tmp_path / name, folder], check=True, capture_output=True)
        assert sorted(p.name for p in (tmp_path / name).iterdir()) == ["x.json", "x.nii"]
        converted.append(nib.load(tmp_path / name / "x.nii"))
    before, after = converted
    assert after.shape == before.shape == (256, 256, 1, 79)
    np.testing.assert_allclose(after.affine, before.affine, atol=1e-4)
    np.testing.assert_array_equal(np.asanyarray(after.dataobj), np.asanyarray(before.dataobj))
    assert json.loads((tmp_path / "after" / "x.json").read_text())["MagneticFieldStrength"] == 1.5


@pytest.mark.parametrize("per_slice", [False, True])
def test_dcm2niix_agrees_where_every_voxel_is(tmp_path: Path, per_slice: bool) -> None:
    """The oracle flips rows and may sort slices the other way, so values are compared at the same place in space."""
    if shutil.which("dcm2niix") is None:
        pytest.skip("dcm2niix is not installed")
    write_series(tmp_path / "in", images(6, 3), series_per_slice=per_slice, SeriesDescription="cine")
    series, _ = write(tmp_path / "out", series_in(tmp_path / "in"))
    (tmp_path / "nii").mkdir()
    subprocess.run(["dcm2niix", "-f", "x", "-o", tmp_path / "nii", tmp_path / "out"], check=True, capture_output=True)
    theirs = nib.load(tmp_path / "nii" / "x.nii")
    assert theirs.shape == (10, 12, 3, 6)
    ours = series.array().transpose(3, 2, 1, 0)
    voxels = np.stack(np.meshgrid(*map(np.arange, ours.shape[:3]), indexing="ij"), axis=-1).reshape(-1, 3)
    there = nib.affines.apply_affine(np.linalg.inv(theirs.affine) @ series.affine, voxels)
    np.testing.assert_allclose(there, there.round(), atol=1e-3)
    x, y, z = there.round().astype(int).T
    np.testing.assert_array_equal(np.asanyarray(theirs.dataobj)[x, y, z], ours.reshape(-1, 6))
