"""A series, a vendor's way of storing it, and what anonymisers do to it: read back equal, or refused with a reason."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import ROOT, clock, dataset, groups_in, images, item, lps_position, put_unchecked, save
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import config
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage, ImplicitVRLittleEndian

from cmrsr.errors import CmrsrError
from cmrsr.io.dicom.read.group import assemble

Edit = Callable[[Dataset, int, int], None]


@dataclass(frozen=True)
class Scan:
    """frames (t, z, y, x); step_ms from frame to frame; what the series is called."""

    frames: NDArray[np.uint16]
    step_ms: float
    description: str

    @property
    def n(self) -> tuple[int, int]:
        return self.frames.shape[:2]

    def plain(self, t: int, z: int) -> Dataset:
        """A valid image of it with all of its times."""
        ds = dataset(self.frames[t, z], t, z, SeriesDescription=self.description)
        ds.SOPInstanceUID = f"{ROOT}.4.{t + 1}.{z + 1}"
        if self.description.startswith("perf"):
            ds.TriggerTime = "120"
            ds.AcquisitionTime = ds.ContentTime = clock(t * self.step_ms + 150 * z)
        else:
            ds.TriggerTime = f"{t * self.step_ms:g}"
            ds.AcquisitionTime = clock(12_000 * z)
            ds.ContentTime = clock(12_000 * z + 10 * t)
        return ds


# --- how vendors store a scan ----------------------------------------------------------------------------------------


def ge(scan: Scan, folder: Path, edit: Edit) -> None:
    """One series, slice after slice, and the part of the signal in a private tag."""
    n_t, n_z = scan.n
    for t in range(n_t):
        for z in range(n_z):
            ds = scan.plain(t, z)
            ds.InstanceNumber = z * n_t + t + 1
            ds.ScanOptions = ["FAST_GEMS", "CG"]
            ds.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x2F, "SS", 0)
            edit(ds, t, z)
            save(ds, folder / f"i{ds.get('InstanceNumber', 0)}_{t}_{z}.MRDC")


def siemens(scan: Scan, folder: Path, edit: Edit) -> None:
    """A series for every slice of a cine, numbered by time; one series for a perfusion, slice by slice in a beat."""
    n_t, n_z = scan.n
    together = scan.description.startswith("perf")
    for t in range(n_t):
        for z in range(n_z):
            ds = scan.plain(t, z)
            ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "RETRO", "NORM", "DIS2D"]
            ds.InstanceNumber = t * n_z + z + 1 if together else t + 1
            ds.AcquisitionNumber = t + 1 if together else 1
            if not together:
                ds.SeriesNumber, ds.SeriesInstanceUID = 10 + z, f"{ROOT}.3.{10 + z}"
            edit(ds, t, z)
            save(ds, folder / f"{ds.SeriesNumber}" / f"{t:04d}_{z}.IMA")


def philips(scan: Scan, folder: Path, edit: Edit) -> None:
    """One series, time point after time point, with a temporal position; implicit VR."""
    n_t, n_z = scan.n
    for t in range(n_t):
        for z in range(n_z):
            ds = scan.plain(t, z)
            ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
            ds.ImageType = ["ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"]
            ds.InstanceNumber = t * n_z + z + 1
            ds.TemporalPositionIdentifier, ds.NumberOfTemporalPositions = t + 1, n_t
            edit(ds, t, z)
            save(ds, folder / f"IM_{ds.get('InstanceNumber', 0):04d}_{t}_{z}")


def enhanced(scan: Scan, folder: Path, edit: Edit) -> None:
    """One multi-frame file, time point after time point; anonymisers edit its top level alone."""
    n_t, n_z = scan.n
    order = [(t, z) for t in range(n_t) for z in range(n_z)]
    ds = scan.plain(0, 0)
    edit(ds, 0, 0)
    ds.SOPClassUID, ds.NumberOfFrames = EnhancedMRImageStorage, len(order)
    ds.PixelData = np.stack([scan.frames[one] for one in order]).tobytes()
    ds.PerFrameFunctionalGroupsSequence = []
    for t, z in order:
        single = scan.plain(t, z)
        groups = item(
            PlanePositionSequence=[item(ImagePositionPatient=[f"{v:.10g}" for v in lps_position(z)])],
            FrameContentSequence=[item(TemporalPositionIndex=t + 1)],
        )
        if scan.description.startswith("perf"):
            groups.FrameContentSequence[0].FrameAcquisitionDateTime = f"20240102{single.AcquisitionTime}"
        else:
            groups.CardiacSynchronizationSequence = [item(NominalCardiacTriggerDelayTime=t * scan.step_ms)]
        ds.PerFrameFunctionalGroupsSequence.append(groups)
    ds.SharedFunctionalGroupsSequence = [
        item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=single.ImageOrientationPatient)],
            PixelMeasuresSequence=[item(PixelSpacing=single.PixelSpacing, SliceThickness=8)],
        )
    ]
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "TriggerTime"):
        if keyword in ds:
            delattr(ds, keyword)
    save(ds, folder / "a.dcm")


VENDORS = (ge, siemens, philips, enhanced)

# --- what anonymisers and archives do to the files -------------------------------------------------------------------


def own_uid(keyword: str) -> Edit:
    return lambda ds, t, z: put_unchecked(ds, keyword, f"{ROOT}.9.{len(keyword)}.{t}.0{z}")


def same_uid(keyword: str) -> Edit:
    return lambda ds, t, z: put_unchecked(ds, keyword, f"{ROOT}.9")


def without(*keywords: str) -> Edit:
    def edit(ds: Dataset, t: int, z: int) -> None:
        for keyword in keywords:
            if keyword in ds:
                delattr(ds, keyword)

    return edit


def commas(ds: Dataset, t: int, z: int) -> None:
    for keyword in ("PixelSpacing", "ImagePositionPatient"):
        put_unchecked(ds, keyword, *(str(v).replace(".", ",") for v in ds[keyword].value))


def bad_dates(ds: Dataset, t: int, z: int) -> None:
    for keyword in ("StudyDate", "AcquisitionDate", "ContentDate"):
        put_unchecked(ds, keyword, "20240000")


def no_private_tags(ds: Dataset, t: int, z: int) -> None:
    ds.remove_private_tags()


def rounded_places(ds: Dataset, t: int, z: int) -> None:
    ds.ImagePositionPatient = [f"{v:.1f}" for v in ds.ImagePositionPatient]


CLOCK = ("AcquisitionTime", "AcquisitionDate", "ContentTime", "ContentDate", "AcquisitionDateTime")
DEFECTS: dict[str, Edit] = {
    "own study": own_uid("StudyInstanceUID"),
    "own series": own_uid("SeriesInstanceUID"),
    "own frame of reference": own_uid("FrameOfReferenceUID"),
    "own image uid with zeros": own_uid("SOPInstanceUID"),
    "one series uid for all": same_uid("SeriesInstanceUID"),
    "no frame of reference": without("FrameOfReferenceUID"),
    "no series uid": without("SeriesInstanceUID"),
    "no study uid": without("StudyInstanceUID"),
    "no clock": without(*CLOCK),
    "no trigger": without("TriggerTime"),
    "no numbers": without("InstanceNumber"),
    "no patient": without("PatientID", "PatientName"),
    "no image type": without("ImageType"),
    "bad dates": bad_dates,
    "no private tags": no_private_tags,
    "rounded places": rounded_places,
    "commas": commas,
}


@st.composite
def scans(draw: st.DrawFn) -> Scan:
    n_t, n_z = draw(st.integers(5, 9)), draw(st.integers(1, 3))
    if draw(st.booleans()):
        return Scan(images(n_t, n_z), draw(st.sampled_from([640.0, 850.0])), "perfusion rest")
    return Scan(images(n_t, n_z), draw(st.sampled_from([35.0, 61.5])), "cine sax")


def stored(scan: Scan, vendor: Any, defects: set[str], folder: Path) -> list[NDArray[np.float32]]:
    """The scan as it is read back: the arrays of all series found."""

    def edit(ds: Dataset, t: int, z: int) -> None:
        for name, defect in DEFECTS.items():
            if name in defects:
                defect(ds, t, z)

    with config.disable_value_validation():
        vendor(scan, folder, edit)
    return [assemble(g).array() for g in groups_in(folder)]


def has_an_order(scan: Scan, vendor: Any, defects: set[str]) -> bool:
    """Whether anything is left that says which image comes after which."""
    by_trigger = scan.description.startswith("cine") and "no trigger" not in defects
    return vendor in (philips, enhanced) or by_trigger or not {"no clock", "no numbers"} <= defects


def effective(defects: set[str]) -> set[str]:
    """Without what a later defect of the same tag overwrites."""
    over = {
        "own series": {"one series uid for all", "no series uid"}, "own study": {"no study uid"},
        "own frame of reference": {"no frame of reference"}, "one series uid for all": {"no series uid"},
    }  # fmt: skip
    return {name for name in defects if not over.get(name, set()) & defects}


def lost_patient(scan: Scan, vendor: Any, defects: set[str]) -> bool:
    """Whether nothing says that series of one slice each, in folders of their own, are of one patient."""
    nameless = {"own study", "no patient"} <= defects and defects & {"own frame of reference", "no frame of reference"}
    return vendor is siemens and scan.description.startswith("cine") and scan.n[1] > 1 and bool(nameless)


@settings(max_examples=120)
@given(scans(), st.sampled_from(VENDORS), st.sets(st.sampled_from(sorted(DEFECTS)), max_size=5))
def test_read_back_or_refused(scan: Scan, vendor: Any, defects: set[str]) -> None:
    defects = effective(defects)
    order = {float(image[0, 0]): z for z, image in enumerate(scan.frames[0])}
    with tempfile.TemporaryDirectory() as folder:
        if has_an_order(scan, vendor, defects) and lost_patient(scan, vendor, defects):
            found = stored(scan, vendor, defects, Path(folder))
            assert sorted(one.shape for one in found) == sorted([(scan.n[0], 1, *scan.frames.shape[2:])] * scan.n[1])
            for z, one in enumerate(sorted(found, key=lambda one: order[float(one[0, 0, 0, 0])])):
                np.testing.assert_array_equal(one, scan.frames[:, z : z + 1])
        elif has_an_order(scan, vendor, defects):
            found = stored(scan, vendor, defects, Path(folder))
            assert len(found) == 1, f"{len(found)} series of {[a.shape for a in found]}"
            np.testing.assert_array_equal(found[0], scan.frames)
        elif "own series" in defects and vendor is not enhanced:  # single images as far as anybody can know
            assert all(len(one) == 1 for one in stored(scan, vendor, defects, Path(folder)))
        else:
            with pytest.raises(CmrsrError, match="cannot be put in order of time"):
                stored(scan, vendor, defects, Path(folder))


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("name", DEFECTS)
@pytest.mark.parametrize("description", ["perfusion rest", "cine sax"])
def test_every_defect_alone_is_survived(tmp_path: Path, vendor: Any, name: str, description: str) -> None:
    scan = Scan(images(6, 2), 800.0 if description.startswith("perf") else 40.0, description)
    found = stored(scan, vendor, {name}, tmp_path)
    np.testing.assert_array_equal(found, [scan.frames])
