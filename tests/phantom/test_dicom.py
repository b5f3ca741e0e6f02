"""Virtual scans as DICOM: what our reader, the validators and another converter make of them."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from virtual_scans import IDENTITY, MOLLI_MS, NAMES, virtual_scan

from cmrsr.errors import OutputError
from cmrsr.io.discover import discover
from cmrsr.io.series import Series
from cmrsr.phantom.dicom import clock, write_scan_dicom
from cmrsr.phantom.scan import VirtualScan
from tests.dicom_tools import complaints


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All scans of one patient."""
    folder = tmp_path_factory.mktemp("study")
    for name in NAMES:
        write_scan_dicom(folder / name, virtual_scan(name), IDENTITY)
    return folder


def headers(folder: Path) -> list[Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm"))]


def series_in(folder: Path) -> Series:
    found, refused, _ = discover([folder])
    assert refused == []
    [one] = found
    return one.open()


def check_same_places(theirs: NDArray[np.generic], affine: NDArray[np.float64], scan: VirtualScan) -> None:
    """(t, z, y, x) with its affine shows every voxel of the scan where the scan has it, within 1e-4 mm."""
    z, y, x = (axis.ravel() for axis in np.indices(scan.frames.shape[1:]))
    here = scan.affine @ [x, y, z, np.ones(len(x))]
    there = np.linalg.solve(affine, here)[:3].round()
    assert_allclose((affine @ [*there, np.ones(len(x))])[:3], here[:3], atol=1e-4)
    x2, y2, z2 = there.astype(int)
    assert there.min() >= 0
    assert_array_equal(theirs[:, z2, y2, x2], scan.frames.round()[:, z, y, x])


# --- our own reader ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_read_back(study: Path, name: str) -> None:
    scan, again = virtual_scan(name), series_in(study / name)
    assert again.shape == scan.frames.shape
    assert (again.kind, again.phase_axis) == (scan.kind, scan.header.phase_axis)
    check_same_places(again.array(), again.affine, scan)
    if again.n_frames == 1:
        assert again.times_ms is None  # the reader gives one frame no time
        return
    assert again.times_ms is not None
    flipped = np.dot(again.affine[:3, 2], scan.affine[:3, 2]) < 0
    ours, theirs = (per_slice(times, scan.frames.shape) for times in (scan.times_ms, again.times_ms))
    assert_allclose(theirs[:, ::-1] if flipped else theirs, ours, atol=0.05)


def per_slice(times_ms: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """(t, z) of times (t,) or (t, z)."""
    return np.broadcast_to(times_ms.reshape(shape[0], -1), shape[:2])


def test_a_study_folder_holds_one_series_for_each_scan(study: Path) -> None:
    found = [one.open() for one in discover([study])[0]]
    assert sorted((one.kind, one.shape[:2]) for one in found) == [
        ("cine", (9, 1)), ("cine", (9, 3)), ("lge", (1, 3)), ("perfusion", (10, 3)), ("t1", (8, 3)),
    ]  # fmt: skip


def test_inversion_times_that_differ_between_slices_are_kept(tmp_path: Path) -> None:
    scan = virtual_scan("t1")
    inversion = MOLLI_MS[:, None] + np.array([0.0, 7.5, 15.0])
    write_scan_dicom(tmp_path / "t1", replace(scan, header=replace(scan.header, inversion_ms=inversion)), IDENTITY)
    assert_allclose(series_in(tmp_path / "t1").times_ms, inversion)  # type: ignore[arg-type]


def test_stress_and_rest_stay_two_runs(tmp_path: Path) -> None:
    """Even with one slice each, at the same place."""
    for name, later in (("perfusion_stress", 0), ("perfusion_rest", 900)):
        scan = virtual_scan("perfusion_stress")
        header = replace(
            scan.header, description=name, series_number=20 + later, trigger_ms=scan.header.trigger_ms[:, :1],
            acquired_s=scan.header.acquired_s[:, :1] + later,
        )  # fmt: skip
        one = replace(scan, name=name, frames=scan.frames[:, :1], times_ms=scan.times_ms[:, :1], header=header)
        write_scan_dicom(tmp_path / name, one, IDENTITY)
    assert [(one.open().kind, one.open().shape[:2]) for one in discover([tmp_path])[0]] == [("perfusion", (10, 1))] * 2


# --- what the headers say ---------------------------------------------------------------------------------------------


def test_one_patient_one_study_one_frame_of_reference(study: Path) -> None:
    images = headers(study)
    assert len(images) == sum(virtual_scan(name).frames[..., 0, 0].size for name in NAMES)
    for keyword in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDescription", "PatientSex"):
        assert len({str(ds[keyword].value) for ds in images}) == 1, keyword
    first = images[0]
    assert (first.PatientName, first.PatientID) == ("Virtual^Subject 002", "virtual-4-002")
    assert (first.PatientAge, first.PatientSize, first.PatientWeight) == ("061Y", 1.715, 66.25)
    assert first.StudyDate == "19000101"
    assert "not a person" in first.StudyDescription
    assert "not a person" in first.ImageComments
    assert {str(ds.ImageType[0]) for ds in images} == {"ORIGINAL"}
    assert len({ds.SOPInstanceUID for ds in images}) == len(images)
    # 3 slices + 1 of the two cines, 3 of the T1, the perfusion run, the LGE stack
    assert len({ds.SeriesInstanceUID for ds in images}) == 3 + 1 + 1 + 3 + 1


def test_another_patient_is_another_study(study: Path, tmp_path: Path) -> None:
    for k, other in enumerate((replace(IDENTITY, subject=3), replace(IDENTITY, seed=5))):
        write_scan_dicom(tmp_path / str(k), virtual_scan("lge"), other)
    images = [headers(folder)[0] for folder in (study / "lge", tmp_path / "0", tmp_path / "1")]
    for keyword in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        assert len({ds[keyword].value for ds in images}) == 3, keyword


@pytest.mark.parametrize(
    ("name", "sequence", "variant"),
    [
        ("cine_sax", "GR", "SS"),
        ("perfusion_stress", "GR", ["SP", "MP"]),
        ("t1", ["GR", "IR"], ["SS", "MP"]),
        ("lge", ["GR", "IR"], ["SP", "MP"]),
    ],
)
def test_sequence(study: Path, name: str, sequence: str | list[str], variant: str | list[str]) -> None:
    header = virtual_scan(name).header
    for ds in headers(study / name):
        assert (ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions) == (sequence, variant, "CG")
        assert header.sequence in ds.ProtocolName
        assert (ds.RepetitionTime, ds.EchoTime, ds.FlipAngle) == (2.75, 1.2, 35)
        assert (ds.MagneticFieldStrength, ds.NominalInterval, ds.HeartRate) == (3, 880, 68)
        assert (ds.SliceThickness, ds.SpacingBetweenSlices) == (8, 10)
        assert ("ContrastBolusAgent" in ds) == header.contrast
        assert ("InversionTime" in ds) == (header.inversion_ms is not None)
        assert ds.get("CardiacNumberOfImages") == (9 if name == "cine_sax" else None)


def test_one_series_a_slice(study: Path) -> None:
    for name in ("cine_sax", "t1"):
        for z in range(3):
            numbers = {ds.SeriesNumber for ds in headers(study / name / f"slice{z + 1:02d}")}
            assert numbers == {20 + z}
    assert {path.name for path in (study / "cine_4ch").iterdir()} == {f"IM_{k:04d}.dcm" for k in range(1, 10)}


def test_t1_images_are_numbered_as_acquired(study: Path) -> None:
    images = headers(study / "t1" / "slice02")
    assert [ds.InstanceNumber for ds in images] == list(range(1, 9)) == [ds.TemporalPositionIdentifier for ds in images]
    assert [ds.AcquisitionTime for ds in images] == sorted({ds.AcquisitionTime for ds in images})
    inversions = [float(ds.InversionTime) for ds in images]
    assert sorted(inversions) == MOLLI_MS.tolist() != inversions
    assert images[0].AcquisitionTime == images[0].SeriesTime == "001110.000000"  # 640 + 30 s


def test_trigger_and_acquisition_of_each_image(study: Path) -> None:
    scan = virtual_scan("perfusion_stress")
    for ds in headers(study / "perfusion_stress"):
        t = ds.TemporalPositionIdentifier - 1
        z = int(np.argmin(np.abs(scan.frames[t].round() - ds.pixel_array).max(axis=(1, 2))))
        assert ds.TriggerTime == pytest.approx(scan.header.trigger_ms[t, z], abs=1e-3)
        assert ds.AcquisitionTime == clock(scan.header.acquired_s[t, z])
        assert ds.NumberOfTemporalPositions == 10


def test_clock() -> None:
    assert [clock(s) for s in (0, 59.9999999, 3661.25, 86_399.5)] == [
        "000000.000000", "000100.000000", "010101.250000", "235959.500000",
    ]  # fmt: skip


def test_pixels_are_rounded_and_clipped(tmp_path: Path) -> None:
    scan = virtual_scan("lge")
    frames = scan.frames.copy()
    frames[0, 0, 0, :4] = -3.2, 0.6, 65_535, 1499.4
    write_scan_dicom(tmp_path / "lge", replace(scan, frames=frames), IDENTITY)
    [first] = [ds for ds in headers(tmp_path / "lge") if ds.pixel_array.max() == 65_535]
    assert first.pixel_array.dtype == np.uint16
    assert first.pixel_array[0, :4].tolist() == [0, 1, 65_535, 1499]
    assert "RescaleSlope" not in first
    frames[0, 0, 0, 2] = 65_536
    with pytest.raises(AssertionError):
        write_scan_dicom(tmp_path / "lge", replace(scan, frames=frames), IDENTITY)


# --- files ------------------------------------------------------------------------------------------------------------


def test_same_bytes_when_written_again(study: Path, tmp_path: Path) -> None:
    for name in NAMES:
        write_scan_dicom(tmp_path / name, virtual_scan(name), IDENTITY)
    paths = sorted(path.relative_to(study) for path in study.rglob("*.dcm"))
    assert paths == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.dcm"))
    assert all((study / path).read_bytes() == (tmp_path / path).read_bytes() for path in paths)


def test_other_images_get_other_identifiers(study: Path, tmp_path: Path) -> None:
    """An archive keeps one of two images with the same identifier."""
    scan = virtual_scan("lge")
    write_scan_dicom(tmp_path / "lge", replace(scan, frames=scan.frames + 1), IDENTITY)
    before, after = headers(study / "lge")[0], headers(tmp_path / "lge")[0]
    assert before.StudyInstanceUID == after.StudyInstanceUID
    assert before.SOPInstanceUID != after.SOPInstanceUID
    assert before.SeriesInstanceUID != after.SeriesInstanceUID


def test_an_earlier_scan_is_replaced(tmp_path: Path) -> None:
    write_scan_dicom(tmp_path / "scan", virtual_scan("cine_sax"), IDENTITY)
    write_scan_dicom(tmp_path / "scan", virtual_scan("lge"), IDENTITY)
    assert sorted(path.name for path in (tmp_path / "scan").iterdir()) == [f"IM_000{k}.dcm" for k in (1, 2, 3)]
    assert [path.name for path in tmp_path.iterdir()] == ["scan"]


def test_what_is_not_ours_is_not_touched(tmp_path: Path) -> None:
    thesis = tmp_path / "scan" / "slice01" / "thesis.doc"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("years of work")
    (tmp_path / "file").write_text("a file")
    for folder, message in (("scan", "other files"), ("file", "name another"), ("file/scan", "cannot be written")):
        with pytest.raises(OutputError, match=message):
            write_scan_dicom(tmp_path / folder, virtual_scan("lge"), IDENTITY)
    assert thesis.read_text() == "years of work"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "scan"]


def test_nothing_is_left_of_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk in the middle of the last slice."""
    write_scan_dicom(tmp_path / "scan", virtual_scan("lge"), IDENTITY)
    before = [path.read_bytes() for path in sorted((tmp_path / "scan").iterdir())]
    save, count = Dataset.save_as, 0

    def full(self: Dataset, *args: object, **kwargs: object) -> None:
        nonlocal count
        count += 1
        if count == 20:
            raise OSError(28, "No space left on device")
        save(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Dataset, "save_as", full)
    with pytest.raises(OutputError, match="No space left"):
        write_scan_dicom(tmp_path / "scan", virtual_scan("cine_sax"), IDENTITY)
    assert [path.name for path in tmp_path.iterdir()] == ["scan"]
    assert [path.read_bytes() for path in sorted((tmp_path / "scan").iterdir())] == before


# --- other people's tools ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_images_are_valid(study: Path, name: str) -> None:
    first, *_, last = sorted((study / name).rglob("*.dcm"))
    assert complaints("dciodvfy", "-new", first) + complaints("dciodvfy", "-new", last) == []


def test_the_study_is_consistent(study: Path, tmp_path: Path) -> None:
    listing = tmp_path / "files.txt"
    listing.write_text("\n".join(map(str, study.rglob("*.dcm"))))
    assert complaints("dcentvfy", "-f", listing) == []


@pytest.mark.parametrize("name", ["cine_sax", "cine_4ch", "perfusion_stress", "t1", "lge"])
def test_dcm2niix_sees_every_voxel_at_its_place(study: Path, tmp_path: Path, name: str) -> None:
    if shutil.which("dcm2niix") is None:
        pytest.skip("dcm2niix is not installed")
    scan = virtual_scan(name)
    order = np.argsort(scan.header.acquired_s[:, 0])  # it knows no inversion times
    subprocess.run(["dcm2niix", "-f", "%s", "-o", tmp_path, study / name], check=True, capture_output=True)
    files = sorted(tmp_path.glob("*.nii"))
    per_slice = len(files) > 1
    assert len(files) == (3 if name in ("cine_sax", "t1") else 1)
    for z, path in enumerate(files):
        theirs = nib.load(path)
        data = np.asanyarray(theirs.dataobj)
        data = data[..., None] if data.ndim == 3 else data
        one = slice(z, z + 1) if per_slice else slice(None)
        assert data.shape == (30, 36, 1 if per_slice else scan.frames.shape[1], scan.frames.shape[0])
        affine = scan.affine.copy()
        affine[:3, 3] += scan.affine[:3, 2] * (z if per_slice else 0)
        part = replace(scan, frames=scan.frames[order][:, one], affine=affine)
        check_same_places(data.transpose(3, 2, 1, 0), theirs.affine, part)
