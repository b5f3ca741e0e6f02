"""The masks as a DICOM Segmentation: every frame at its place, time and source, in all orientations; validity."""

from itertools import permutations, product
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from dicom_files import images, write_enhanced, write_series
from numpy.typing import NDArray
from test_dicom_write import DERIVATION, inconsistent, memory_series, series_in, write

from cmrsr.io.dicom.objects.segmentation import packed, write_segmentation
from cmrsr.io.series import Series, Source
from tests.dicom_tools import complaints

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
ROTATIONS = [
    np.eye(3)[list(order)] * signs
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
    if np.linalg.det(np.eye(3)[list(order)] * signs) > 0
]


def write_masks(
    path: Path, like: Series, labels: NDArray[np.uint8], **options: NDArray[np.float64]
) -> hd.seg.Segmentation:
    write_segmentation(path, like, DERIVATION, labels, **{"affine": like.affine, **options})
    return hd.seg.segread(path)


def random_labels(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 4, shape).astype(np.uint8)


def finer(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Twice the matrix over the same field of view."""
    return affine @ np.array([[0.5, 0, 0, -0.25], [0, 0.5, 0, -0.25], [0, 0, 1, 0], [0, 0, 0, 1.0]])


def frames_of(ds: pydicom.Dataset) -> list[tuple[int, int, NDArray[np.float64], NDArray[np.uint8]]]:
    """Segment, time point, affine (x, y) to RAS mm (3, 3), and pixels of every frame, from what the file says."""
    [shared] = ds.SharedFunctionalGroupsSequence
    orientation = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(float)
    dy, dx = shared.PixelMeasuresSequence[0].PixelSpacing
    all_pixels = ds.pixel_array.reshape(-1, ds.Rows, ds.Columns)
    found = []
    for groups, pixels in zip(ds.PerFrameFunctionalGroupsSequence, all_pixels, strict=True):
        place = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        grid = LPS_TO_RAS @ np.column_stack([orientation[0] * dx, orientation[1] * dy, place])
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        found.append((number, groups.FrameContentSequence[0].TemporalPositionIndex - 1, grid, pixels))
    return found


def read_by_geometry(ds: pydicom.Dataset, affine: NDArray[np.float64], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Labels of the shape of ``labels``, put together from where every pixel of the file says it lies."""
    result = np.zeros_like(labels)
    for number, t, grid, pixels in frames_of(ds):
        y, x = np.nonzero(pixels)
        world = grid @ np.array([x, y, np.ones_like(x)])
        index = (np.linalg.inv(affine) @ np.vstack([world, np.ones_like(x)]))[:3]
        np.testing.assert_allclose(index, index.round(), atol=1e-4)
        i, j, k = index.round().astype(int)
        assert not result[t, k, j, i].any()
        result[t, k, j, i] = number
    return result


@pytest.fixture
def cine(tmp_path: Path) -> Series:
    """Of an odd matrix, so that frames do not begin at a byte."""
    write_series(tmp_path / "in", images(4, 3, 7, 5), SeriesDescription="cine",
                 edit=lambda ds, t, z: setattr(ds, "TriggerTime", str(40 * t)))  # fmt: skip
    return series_in(tmp_path / "in")


def test_every_frame_has_its_pixels_place_time_and_source(tmp_path: Path, cine: Series) -> None:
    labels = random_labels(*cine.shape)
    ds = write_masks(tmp_path / "seg.dcm", cine, labels)
    np.testing.assert_array_equal(read_by_geometry(ds, cine.affine, labels), labels)
    source_of = {str(s.SOPInstanceUID): s for s in map(pydicom.dcmread, cine.source.paths)}
    seen = set()
    for groups in ds.PerFrameFunctionalGroupsSequence:
        content = groups.FrameContentSequence[0]
        [derivation] = groups.DerivationImageSequence
        [reference] = derivation.SourceImageSequence
        source = source_of[reference.ReferencedSOPInstanceUID]
        assert source.TriggerTime == 40 * (content.TemporalPositionIndex - 1)
        place = groups.PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose(place, source.ImagePositionPatient, atol=1e-6)
        assert content.FrameLabel.endswith(
            f"time point {content.TemporalPositionIndex} of 4, {source.TriggerTime:g} ms"
        )
        assert (derivation.DerivationCodeSequence[0].CodeValue, reference.SpatialLocationsPreserved) == (
            "113076",
            "YES",
        )
        seen.add(tuple(content.DimensionIndexValues))
    assert len(seen) == 36
    assert [str(item.DimensionIndexPointer) for item in ds.DimensionIndexSequence] == [
        "(0062,000B)", "(0020,0032)", "(0020,9128)",
    ]  # fmt: skip
    [series] = ds.ReferencedSeriesSequence
    assert {r.ReferencedSOPInstanceUID for r in series.ReferencedInstanceSequence} == set(source_of)


def test_a_viewer_finds_the_masks_of_each_image(tmp_path: Path, cine: Series) -> None:
    labels = random_labels(*cine.shape)
    ds = write_masks(tmp_path / "seg.dcm", cine, labels)
    for t, row in enumerate(cine.source.header.table):
        shown = ds.get_pixels_by_source_instance([image.sop_instance_uid for image in row], combine_segments=True)
        np.testing.assert_array_equal(shown, labels[t])


@pytest.mark.parametrize("rotation", ROTATIONS, ids=lambda r: str(r.astype(int).tolist()))
def test_masks_lie_where_the_labels_do_in_all_orientations(tmp_path: Path, rotation: NDArray[np.float64]) -> None:
    """All 24 through the project's own DICOM series, and their mirror images, which only other formats have."""
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([1.25, 1.5, 8])
    affine[:3, 3] = -41.5, 17.25, 88.0
    frames = np.random.default_rng(1).uniform(0, 900, (2, 2, 3, 4)).round()
    right = Series.from_array(frames, affine=affine, times_ms=np.array([0.0, 40.0]), source=Source(name="p/cine"))
    like, _ = write(tmp_path / "in", right)
    np.testing.assert_allclose(like.affine, affine, atol=1e-6)
    labels = random_labels(2, 2, 6, 8)
    ds = write_masks(tmp_path / "seg.dcm", like, labels, affine=finer(like.affine))
    np.testing.assert_array_equal(read_by_geometry(ds, finer(affine), labels), labels)
    mirrored = affine @ np.diag([1.0, 1, -1, 1])
    left = Series.from_array(frames, affine=mirrored, source=Source(name="p/cine"))
    ds = write_masks(tmp_path / "seg.dcm", left, labels, affine=finer(mirrored))
    np.testing.assert_array_equal(read_by_geometry(ds, finer(mirrored), labels), labels)


def test_valid_and_in_the_study(tmp_path: Path, cine: Series) -> None:
    labels = random_labels(*cine.shape).repeat(2, axis=2).repeat(2, axis=3)
    ds = write_masks(tmp_path / "seg.dcm", cine, labels, affine=finer(cine.affine))
    assert complaints("dciodvfy", "-new", str(tmp_path / "seg.dcm")) == []
    assert inconsistent(tmp_path, [*cine.source.paths, tmp_path / "seg.dcm"]) == []
    source = pydicom.dcmread(cine.source.paths[0])
    assert (ds.FrameOfReferenceUID, ds.StudyInstanceUID) == (source.FrameOfReferenceUID, source.StudyInstanceUID)
    assert (ds.SeriesNumber, ds.SeriesDescription, ds.SegmentsOverlap) == (561, "cine masks", "NO")
    assert "Research use only" in ds.ImageComments
    assert ds.DerivationDescription == DERIVATION.describe()
    described = [(d.segment_label, d.segmented_property_type.value) for d in map(ds.get_segment_description, (1, 2, 3))]
    assert described == [("RV cavity", "53085002"), ("LV myocardium", "49848007"), ("LV cavity", "87878005")]
    [algorithm] = ds.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence
    assert "engine=perfgen-s" in algorithm.AlgorithmParameters
    [derivation] = ds.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence
    assert derivation.SourceImageSequence[0].SpatialLocationsPreserved == "NO"


def test_a_rerun_writes_the_same_bytes(tmp_path: Path, cine: Series) -> None:
    for name in ("a", "b"):
        write_masks(tmp_path / name, cine, random_labels(*cine.shape))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_parts_that_are_nowhere_keep_their_numbers(tmp_path: Path, cine: Series) -> None:
    labels = np.zeros(cine.shape, np.uint8)
    labels[2, 1, 3, 2] = 3
    ds = write_masks(tmp_path / "seg.dcm", cine, labels)
    assert [(number, t) for number, t, _, _ in frames_of(ds)] == [(3, 2)]
    assert ds.number_of_segments == 3
    assert complaints("dciodvfy", "-new", str(tmp_path / "seg.dcm")) == []


def test_labels_without_any_pixel(tmp_path: Path, cine: Series) -> None:
    ds = write_masks(tmp_path / "seg.dcm", cine, np.zeros(cine.shape, np.uint8))
    assert not ds.pixel_array.any()
    assert {t for _, t, _, _ in frames_of(ds)} == {0}
    assert complaints("dciodvfy", "-new", str(tmp_path / "seg.dcm")) == []


def test_without_a_dicom_source(tmp_path: Path) -> None:
    like = memory_series("virtual-1/cine", "cine")
    result, _ = write(tmp_path / "out", like)
    labels = random_labels(*like.shape)
    ds = write_masks(tmp_path / "seg.dcm", like, labels)
    np.testing.assert_array_equal(read_by_geometry(ds, like.affine, labels), labels)
    assert complaints("dciodvfy", "-new", str(tmp_path / "seg.dcm")) == []
    assert inconsistent(tmp_path, [*result.source.paths, tmp_path / "seg.dcm"]) == []
    header = pydicom.dcmread(result.source.paths[0])
    assert (ds.StudyInstanceUID, ds.FrameOfReferenceUID) == (header.StudyInstanceUID, header.FrameOfReferenceUID)
    assert not any("DerivationImageSequence" in groups for groups in ds.PerFrameFunctionalGroupsSequence)


def test_enhanced_source_is_named_by_its_frames(tmp_path: Path) -> None:
    like = series_in(write_enhanced(tmp_path / "in" / "a.dcm", images(3, 2)).parent)
    labels = random_labels(*like.shape)
    ds = write_masks(tmp_path / "seg.dcm", like, labels)
    for t, row in enumerate(like.source.header.table):
        numbers = [image.frame + 1 for image in row]
        shown = ds.get_pixels_by_source_frame(row[0].sop_instance_uid, numbers, combine_segments=True)
        np.testing.assert_array_equal(shown, labels[t])
    assert complaints("dciodvfy", "-new", str(tmp_path / "seg.dcm")) == []


def test_labels_may_be_on_disk_and_have_times_of_their_own(tmp_path: Path, cine: Series) -> None:
    labels = np.lib.format.open_memmap(tmp_path / "labels.npy", "w+", np.uint8, cine.shape)
    labels[:] = random_labels(*cine.shape)
    times = np.arange(12).reshape(4, 3) + 0.25
    ds = write_masks(tmp_path / "seg.dcm", cine, labels, times_ms=times)
    np.testing.assert_array_equal(read_by_geometry(ds, cine.affine, labels), labels)
    assert {g.FrameContentSequence[0].FrameLabel.split(", ")[2] for g in ds.PerFrameFunctionalGroupsSequence} == {
        f"{time:g} ms" for time in times.ravel()
    }


def test_unknown_labels_are_refused(tmp_path: Path, cine: Series) -> None:
    with pytest.raises(ValueError, match="0 to 3"):
        write_masks(tmp_path / "seg.dcm", cine, np.full(cine.shape, 4, np.uint8))
    assert not (tmp_path / "seg.dcm").exists()


def test_bits_follow_each_other_across_frames() -> None:
    masks = np.random.default_rng(0).random((3, 5, 7)) < 0.5
    data = packed(iter(masks))
    assert len(data) == 14
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    np.testing.assert_array_equal(bits[:105], masks.ravel())
    assert not bits[105:].any()
