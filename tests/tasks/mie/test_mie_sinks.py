"""Files of a synthetic enhancement: complete or absent, in place, and never to be taken for an acquired image."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cmrsr.batch.sinks import Sink
from cmrsr.io.derivation import Derivation
from cmrsr.io.discover import discover
from cmrsr.io.nifti.series import read_nifti
from cmrsr.io.series import Series
from cmrsr.tasks.mie.plan import SlicePair
from cmrsr.tasks.mie.result import MieFrame
from cmrsr.tasks.mie.sinks import mie_dicom_sink, mie_nifti_sink
from tests.dicom_tools import complaints, complaints_of
from tests.heart_study import STUDY, dicom_study

DERIVATION = Derivation(
    task="mie", engine="tiny", engine_version="1", engine_digest="0" * 64, software_version="1.0",
    parameters={"steps": 5, "samples": 2, "seed": 0, "cine_sha256": "1" * 64}, number=3,
)  # fmt: skip
PAIRS = (SlicePair(z=0, cine_z=2, distance_mm=0.0), SlicePair(z=1, cine_z=3, distance_mm=0.0))
# What dciodvfy is too old to know: the attribute Synthetic Data, and that a parametric map may be of a quantity.
TOO_NEW = ("</(0008,001c)>", "Unrecognized defined term = <QUANTITY>")


def frame_of(t1: Series, *, std: bool = True) -> MieFrame:
    """A square of scar, brighter than the rest, and ramps for the maps."""
    shape = t1.shape[1:]
    scar = np.zeros(shape, np.uint8)
    scar[:, 40:50, 30:44] = 1
    ramp = np.linspace(0, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    return MieFrame(
        output=1000 * scar.astype(np.float32) + 100 * ramp, std=20 * ramp if std else None, scar_probability=ramp,
        scar_std=ramp / 5 if std else None, scar=scar, t1_ms=1000 + 500 * ramp, e_cc=-0.2 * ramp, e_rr=0.4 * ramp,
    )  # fmt: skip


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Series, Series]]:
    """(cine, T1) of both formats."""
    folder = tmp_path_factory.mktemp("scans")
    found = {}
    for name, paths in (("nifti", STUDY.save_nifti(folder)), ("dicom", dicom_study().save_dicom(folder / "dicom"))):
        opened = [one.open() if name == "dicom" else read_nifti(one.paths[0])
                  for path in paths for one in discover([path])[0]]  # fmt: skip
        cine, t1 = opened
        assert (cine.kind, t1.kind, t1.shape[:2]) == ("cine", "t1", (8, 2))
        found[name] = (cine, t1)
    return found


def opened(kind: str, folder: Path, scan: tuple[Series, Series], *, std: bool = True) -> AbstractContextManager[Sink]:
    cine, t1 = scan
    if kind == "dicom":
        return mie_dicom_sink(folder / "a_mie", t1, cine, PAIRS, DERIVATION, std)
    return mie_nifti_sink(folder / "a_mie", t1, DERIVATION, std)


def write(kind: str, folder: Path, scan: tuple[Series, Series], *, std: bool = True) -> MieFrame:
    frame = frame_of(scan[1], std=std)
    with opened(kind, folder, scan, std=std) as sink:
        sink.write(frame)
        assert not [p for p in folder.rglob("*") if p.is_file() and not p.parent.name.startswith(".")
                    and not p.name.startswith(".")]  # fmt: skip
    assert {p for p in folder.rglob("*") if p.is_file()} == set(sink.outputs())
    return frame


@pytest.fixture(scope="module")
def dicom(scans: dict[str, tuple[Series, Series]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    write("dicom", folder, scans["dicom"])
    return folder


def unexpected(path: Path) -> list[str]:
    """What is wrong with a file by dciodvfy, but for what that does not know."""
    return [line for line in complaints_of(path) if not any(words in line for words in TOO_NEW)]


# ---- NIfTI -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["nifti", "dicom"])
def test_nifti_files(scans: dict[str, tuple[Series, Series]], tmp_path: Path, source: str) -> None:
    """Each on the grid of the T1 images, of its own type and scale, with what it is in the header."""
    cine, t1 = scans[source]
    frame = write("nifti", tmp_path, (cine, t1))
    expected = {
        "mie": ([frame.output], "int16", 0.5, "SYNTHETIC LGE, not acquired"),
        "mie_std": ([frame.std], "float32", 0, "Spread of a SYNTHETIC LGE"),
        "scar": ([frame.scar], "uint8", 0, "Scar in a SYNTHETIC LGE"),
        "scar_probability": ([frame.scar_probability], "float32", 0, "Scar probability, SYNTHETIC"),
        "t1map": ([frame.t1_ms], "float32", 0, "T1 map (ms)"),
        "strain": ([frame.e_cc, frame.e_rr], "float32", 0, "Strain Ecc, Err at end systole"),
    }  # fmt: skip
    assert {p.name for p in tmp_path.iterdir()} == {f"a_{name}.nii.gz" for name in expected}
    for name, (volumes, dtype, tolerance, words) in expected.items():
        image = nib.load(tmp_path / f"a_{name}.nii.gz")
        data = np.asarray(image.dataobj).reshape(*t1.shape[:0:-1], -1)
        assert image.get_data_dtype() == dtype
        assert_allclose(data, np.stack([v.T for v in volumes], -1), atol=tolerance, rtol=1e-6)
        assert_allclose(image.affine, t1.affine, atol=1e-4)
        assert bytes(image.header["descrip"]).decode().startswith(words)
        assert "not a medical device" in image.header.extensions[-1].get_content().decode()


def test_a_scaled_source_does_not_clip(scans: dict[str, tuple[Series, Series]], tmp_path: Path) -> None:
    """The stored type and slope of the T1 images are not those of the synthetic ones."""
    cine, t1 = scans["nifti"]
    header = t1.source.header
    header.set_slope_inter(0.01, 0)
    try:
        frame = write("nifti", tmp_path, (cine, t1))
    finally:
        header.set_slope_inter(1, 0)
    assert np.asarray(nib.load(tmp_path / "a_mie.nii.gz").dataobj).max() == pytest.approx(frame.output.max(), abs=0.5)


# ---- all or nothing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["nifti", "dicom"])
def test_one_sample_has_no_spread(scans: dict[str, tuple[Series, Series]], tmp_path: Path, kind: str) -> None:
    write(kind, tmp_path, scans[kind], std=False)
    assert not list(tmp_path.glob("*_std*"))


@pytest.mark.parametrize("kind", ["nifti", "dicom"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_error_leaves_nothing(scans: dict[str, tuple[Series, Series]], tmp_path: Path, kind: str, when: str) -> None:
    def stop() -> None:
        with opened(kind, tmp_path, scans[kind]) as sink:
            if when == "after":
                sink.write(frame_of(scans[kind][1]))
            raise MemoryError

    with pytest.raises(MemoryError):
        stop()
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("kind", ["nifti", "dicom"])
def test_a_file_that_cannot_be_written_leaves_nothing(
    scans: dict[str, tuple[Series, Series]], tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where others of the same case were written before."""
    import cmrsr.io.dicom.objects.parametric
    import cmrsr.io.nifti.series

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    if kind == "dicom":
        monkeypatch.setattr(cmrsr.io.dicom.objects.parametric, "_parametric_map", full)
    else:
        writes: Callable[..., None] = cmrsr.io.nifti.series.NiftiWriter.write
        monkeypatch.setattr(
            cmrsr.io.nifti.series.NiftiWriter, "write",
            lambda one, volume: full() if "strain" in one._path.name else writes(one, volume),
        )  # fmt: skip
    with pytest.raises(OSError, match="No space"), opened(kind, tmp_path, scans[kind]) as sink:
        sink.write(frame_of(scans[kind][1]))
    assert list(tmp_path.rglob("*")) == []


# ---- DICOM: not to be mistaken ---------------------------------------------------------------------------------------


def test_images_say_that_they_are_synthetic(dicom: Path) -> None:
    for path in sorted((dicom / "a_mie").iterdir()):
        ds = pydicom.dcmread(path)
        assert ds.SeriesDescription == "SYNTHETIC LGE (cmrsr): T1 MOLLI native"
        assert ds.ImageType == ["DERIVED", "SECONDARY", "OTHER", "SYNTHETIC"]
        assert ds[0x0008, 0x001C].value == "YES"
        assert "SYNTHETIC" in ds.ImageComments
        assert "not a medical device" in ds.ImageComments
        assert ds.ContentQualification == "RESEARCH"
        assert "engine tiny" in ds.DerivationDescription
        assert (ds.Manufacturer, ds.ManufacturerModelName) == ("cmrsr", "cmrsr mie")
        for keyword in ("ProtocolName", "StationName", "TriggerTime", "InversionTime", "MagneticFieldStrength",
                        "FlipAngle", "DeviceSerialNumber", "SequenceName"):  # fmt: skip
            assert keyword not in ds, keyword
        assert (ds.EchoTime, ds.ScanningSequence, ds.SequenceVariant) == (None, "RM", "NONE")
        assert [element.keyword for element in ds if "Contrast" in element.keyword] == []


def test_an_acquired_source_keeps_its_tags_elsewhere(scans: dict[str, tuple[Series, Series]], tmp_path: Path) -> None:
    """What is left out is left out of synthetic images alone."""
    from cmrsr.io.dicom.write.series import dicom_writer

    _, t1 = scans["dicom"]
    derivation = Derivation(
        task="sr", engine="e", engine_version="1", engine_digest="0" * 64, software_version="1", parameters={}
    )
    with dicom_writer(tmp_path / "o", t1, derivation, shape=t1.shape, affine=t1.affine) as writer:
        for frame in t1:
            writer.write(frame)
    ds = pydicom.dcmread(tmp_path / "o" / "IM_0001.dcm")
    assert (ds.InversionTime, ds.ContrastBolusAgent, ds.ProtocolName) == (100, "Gadobutrol", "MOLLI")
    assert "SyntheticData" not in ds


def test_they_name_their_sources(dicom: Path, scans: dict[str, tuple[Series, Series]]) -> None:
    """All eight T1 images of the slice, and the whole beat of the slice of the cine that was taken for it."""
    cine, t1 = (one.source.header.table for one in scans["dicom"])
    for z, path in enumerate(sorted((dicom / "a_mie").iterdir())):
        named = [item.ReferencedSOPInstanceUID for item in pydicom.dcmread(path).SourceImageSequence]
        expected = [row[z].sop_instance_uid for row in t1] + [row[PAIRS[z].cine_z].sop_instance_uid for row in cine]
        assert named == expected
        assert len(named) == 8 + 10


def test_it_lies_where_the_t1_images_lie(dicom: Path, scans: dict[str, tuple[Series, Series]]) -> None:
    ((found,), _, _) = discover([dicom / "a_mie"])
    series, (_, t1) = found.open(), scans["dicom"]
    assert (series.shape, series.kind) == ((1, *t1.shape[1:]), "lge")
    assert_allclose(series.affine, t1.affine, atol=1e-6)
    assert_allclose(series.frame(0), frame_of(t1).output, atol=0.5)
    source = t1.source.header.table[0][0]
    ds = pydicom.dcmread(next((dicom / "a_mie").iterdir()))
    assert (ds.StudyInstanceUID, ds.FrameOfReferenceUID) == (source.study_uid, source.frame_of_reference_uid)
    assert ds.SeriesInstanceUID != source.series_uid


def test_the_scar_is_a_segmentation(dicom: Path, scans: dict[str, tuple[Series, Series]]) -> None:
    masks = hd.seg.segread(dicom / "a_scar.dcm")
    (segment,) = masks.SegmentSequence
    assert (segment.SegmentLabel, masks.ContentLabel, masks.SyntheticData) == ("Scar", "SCAR", "YES")
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "12402003"
    assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Morphologically Abnormal Structure"
    assert segment.AnatomicRegionSequence[0].CodeMeaning == "Left Ventricle Myocardium"
    assert masks.SeriesDescription.startswith("SYNTHETIC scar")
    assert_array_equal(masks.pixel_array, frame_of(scans["dicom"][1]).scar)
    sources = masks.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence
    assert len(sources) == 8 + 10
    assert len(masks.ReferencedSeriesSequence) == 1 + 2  # the cine is one series a slice


@pytest.mark.parametrize(
    ("name", "field", "unit", "synthetic"),
    [
        ("mie_std", "std", "1", True),
        ("scar_probability", "scar_probability", "1", True),
        ("t1map", "t1_ms", "ms", False),
    ],
)
def test_maps(
    dicom: Path, scans: dict[str, tuple[Series, Series]], name: str, field: str, unit: str, synthetic: bool
) -> None:
    """Whole in floating point, with their unit. A T1 map is fitted to what was acquired, and not synthetic."""
    found = hd.pm.pmread(dicom / f"a_{name}.dcm") if hasattr(hd.pm, "pmread") else hd.imread(dicom / f"a_{name}.dcm")
    t1 = scans["dicom"][1]
    volume = getattr(frame_of(t1), field)
    order = [
        int(np.argmin([abs(float(g.PlanePositionSequence[0].ImagePositionPatient[0]) - p) for p in places_x(t1)]))
        for g in found.PerFrameFunctionalGroupsSequence
    ]
    assert sorted(order) == [0, 1]
    assert_array_equal(np.asarray(found.pixel_array)[np.argsort(order)], volume)
    groups = found.SharedFunctionalGroupsSequence[0]
    mapping = groups.RealWorldValueMappingSequence[0]
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == unit
    assert (found.get("SyntheticData") == "YES") == synthetic
    assert found.SeriesDescription.startswith("SYNTHETIC") == synthetic
    assert ("SYNTHETIC" in found.ImageComments) == synthetic


def places_x(t1: Series) -> list[float]:
    return [-float((t1.affine @ [0, 0, z, 1])[0]) for z in range(t1.shape[1])]


def test_series_are_apart(dicom: Path) -> None:
    """Each object is a series of its own, of a number of its own."""
    paths = [next((dicom / "a_mie").iterdir()), *dicom.glob("*.dcm")]
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]
    assert len({ds.SeriesInstanceUID for ds in headers}) == len({ds.SeriesNumber for ds in headers}) == 5


def test_dicom_files_are_valid(dicom: Path) -> None:
    files = [*(dicom / "a_mie").iterdir(), *dicom.glob("*.dcm")]
    assert [line for path in files for line in unexpected(path)] == []
    assert complaints("dcentvfy", *files) == []


def test_dicom_from_nifti(scans: dict[str, tuple[Series, Series]], tmp_path: Path) -> None:
    """A study of its own, without sources, and as plainly synthetic."""
    write("dicom", tmp_path, scans["nifti"])
    files = [*(tmp_path / "a_mie").iterdir(), *tmp_path.glob("*.dcm")]
    assert [line for path in files for line in unexpected(path)] == []
    ds = pydicom.dcmread(files[0])
    assert (ds.SyntheticData, ds.get("SourceImageSequence")) == ("YES", None)
    assert ds.SeriesDescription.startswith("SYNTHETIC LGE (cmrsr)")


def test_a_cine_of_another_study_is_not_named(scans: dict[str, tuple[Series, Series]], tmp_path: Path) -> None:
    cine, (_, t1) = scans["nifti"][0], scans["dicom"]
    with opened("dicom", tmp_path, (cine, t1)) as sink:
        sink.write(frame_of(t1))
    ds = pydicom.dcmread(tmp_path / "a_mie" / "IM_0001.dcm")
    assert len(ds.SourceImageSequence) == 8
    assert any("is not DICOM" in note for note in sink.notes)


def test_the_same_bytes(scans: dict[str, tuple[Series, Series]], dicom: Path, tmp_path: Path) -> None:
    write("dicom", tmp_path, scans["dicom"])
    for path in (p for p in dicom.rglob("*") if p.is_file()):
        assert path.read_bytes() == (tmp_path / path.relative_to(dicom)).read_bytes(), path
