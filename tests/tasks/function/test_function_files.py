"""One series of ``function`` to files: masks, numbers and report say the same, at the right place in the world."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from cmrsr.batch.run import CaseResult
from cmrsr.io.discover import Candidate, discover
from cmrsr.io.nifti.series import read_nifti
from cmrsr.io.references.lookup import open_references
from cmrsr.io.series import Series
from cmrsr.physics.volumes import LV, RV
from cmrsr.runtime.bundle import Bundle, load
from cmrsr.runtime.choice import DeviceChoice
from cmrsr.tasks.function.details import FunctionDetails
from cmrsr.tasks.function.files import FunctionFiles
from cmrsr.tasks.function.plan import FunctionOptions
from cmrsr.tasks.function.run import Engines, FunctionFrame, FunctionRun
from tests.beating_heart import Heart, dicom_heart, orientations
from tests.dicom_tools import complaints_of
from tests.heart_engine import heart_engine
from tests.io.dicom.dicom_files import COLUMN, ROW, SPACING, lps_position

__all__ = ["heart_engine"]

F32 = DeviceChoice(precision="f32", threads=1)
SMALL = Heart(n_t=2, n_z=3, gap_mm=30, matrix=(104, 112), pixel_mm=(2.0, 1.8), centre_mm=(14, -9))


class Watch:
    """Hears how many evaluations were announced and how many came."""

    announced = heard = 0

    def case_started(self, name: str, n_evaluations: int) -> None:
        self.announced += n_evaluations

    def evaluated(self, n: int) -> None:
        self.heard += n

    def case_ended(self, result: CaseResult) -> None: ...


@pytest.fixture(scope="module")
def bundle(heart_engine: Path) -> Bundle:
    return load(str(heart_engine), "function")


def files_of(bundle: Bundle, out: Path, **changes: Any) -> FunctionFiles:
    settings = {k: changes.pop(k) for k in ("format", "references", "force") if k in changes}
    return FunctionFiles(bundle=bundle, options=FunctionOptions(**changes), choice=F32, out=out, **settings)


def process(files: FunctionFiles, series: Series, name: str = "c", watch: Watch | None = None) -> CaseResult:
    candidate = Candidate(name=name, format="nifti", paths=(), open=lambda: series)
    return files.process(candidate, series, watch or Watch())


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


# ---- numbers ---------------------------------------------------------------------------------------------------------


def test_the_record(bundle: Bundle, tmp_path: Path) -> None:
    """What the design promises to scripts."""
    heart = Heart(n_z=7)
    result = process(files_of(bundle, tmp_path), heart.series())
    assert [p.name for p in result.outputs] == ["c_function.nii.gz", "c_masks.nii.gz", "c_function.json"]
    record = read(tmp_path / "c_function.json")
    true = heart.volumes_ml
    for side, k in (("lv", 2), ("rv", 0)):
        found = record[side]
        assert found["edv_ml"] == pytest.approx(true[0, k], rel=0.05)
        assert found["esv_ml"] == pytest.approx(true[4, k], rel=0.05)
        assert found["sv_ml"] == pytest.approx(found["edv_ml"] - found["esv_ml"], abs=0.011)
        assert found["ef_percent"] == pytest.approx(100 * found["sv_ml"] / found["edv_ml"], abs=0.02)
    assert record["lv"]["mass_g"] == pytest.approx(1.05 * true[0, 1], rel=0.05)
    assert (record["ed_frame"], record["es_frame"]) == (1, 5)
    assert {k: len(v) for k, v in record["volume_ml"].items()} == {"lv": 8, "rv": 8, "myocardium": 8}
    assert record["heart_rate_bpm"] == pytest.approx(75)
    assert record["cardiac_output_l_min"] == pytest.approx(record["lv"]["sv_ml"] * 0.075, abs=0.006)
    assert 0 < record["abnormal_probability"] < 0.5
    assert (record["flags"], record["confident"], record["warnings"]) == ([], True, list(result.warnings))
    assert_allclose(np.sum(record["causal_graph"], axis=1), 1, atol=1e-4)
    assert np.shape(record["causal_graph"]) == (8, 8)
    assert record["plan"]["matrix_yx"] == [128, 128]
    y, x = heart.middle
    assert_allclose(record["plan"]["window_centre_xy"], (x - 20, y), atol=20)
    assert record["task"] == "function"
    assert set(record["outputs"]) == {"c_function.nii.gz", "c_masks.nii.gz"}


@pytest.mark.parametrize("options", [{}, {"scale": 2}], ids=str)
def test_voxels_of_the_masks_add_up_to_the_volumes(bundle: Bundle, tmp_path: Path, options: dict[str, Any]) -> None:
    process(files_of(bundle, tmp_path, **options), SMALL.series())
    masks, images = (nib.load(tmp_path / f"c_{what}.nii.gz") for what in ("masks", "function"))
    labels = np.asarray(masks.dataobj)
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    assert masks.shape == images.shape == (*(options.get("scale", 1) * np.array([112, 104])), 3, 2)
    assert_allclose(masks.affine, images.affine)
    voxel_ml = abs(np.linalg.det(masks.affine[:3, :3])) / 1000
    record = read(tmp_path / "c_function.json")
    for name, code in (("rv", 1), ("myocardium", 2), ("lv", 3)):
        counted = (labels == code).sum((0, 1, 2)) * voxel_ml
        assert_allclose(counted, record["volume_ml"][name], atol=0.0051, rtol=1e-6)


def test_flags_are_warnings_too(bundle: Bundle, tmp_path: Path) -> None:
    result = process(files_of(bundle, tmp_path), SMALL.series())
    record = read(tmp_path / "c_function.json")
    assert "few_slices" in {flag["code"] for flag in record["flags"]}
    assert not record["confident"]
    assert {flag["message"] for flag in record["flags"]} <= set(result.warnings)


def test_what_the_report_is_given(bundle: Bundle, tmp_path: Path) -> None:
    """A window on square pixels with the masks in it, and the reference of the case."""
    (tmp_path / "truth.csv").write_text("case,lv_edv_ml,lv_esv_ml\nsub/c,100,40\n")
    references = open_references(tmp_path / "truth.csv")
    watch = Watch()
    result = process(files_of(bundle, tmp_path / "out", references=references), SMALL.series(), "sub/c", watch)
    details = result.details
    assert isinstance(details, FunctionDetails)
    assert details.device == "openvino cpu f32"
    assert details.images.shape == details.labels.shape == (2, 3, 128, 128)
    assert details.images.dtype == details.labels.dtype == np.uint8
    areas = (details.labels == LV).sum((2, 3)) * details.pixel_mm**2
    assert_allclose(areas, SMALL.areas_mm2[:, :, 2], rtol=0.04)
    assert details.images[details.labels == LV].mean() > details.images[details.labels == RV].mean() + 150
    assert details.reference is not None
    assert (details.reference.edv_ml, details.reference.ef_percent) == (100, 60)
    assert watch.heard == watch.announced == 2 * 3
    other = process(files_of(bundle, tmp_path / "out", references=references), SMALL.series(), "another")
    assert other.details.reference is None


# ---- places ----------------------------------------------------------------------------------------------------------


def world_centres(masks: Any, code: int) -> NDArray[np.float64]:
    """(z, 3): of a structure at ED, in the order along the file's last axis of space."""
    ed = np.asarray(masks.dataobj)[..., 0] == code
    voxels = [np.append(np.argwhere(ed[:, :, z]).mean(0), (z, 1)) for z in range(ed.shape[2])]
    return np.array([(masks.affine @ v)[:3] for v in voxels])


def test_masks_lie_in_place_in_all_orientations(bundle: Bundle, tmp_path: Path) -> None:
    """The 24 turns of the same heart, each also stored from the other side of every axis."""
    files = files_of(bundle, tmp_path / "out")
    y, x = SMALL.middle
    flips = {"": slice(None), "x": np.s_[..., ::-1], "yz": np.s_[:, ::-1, ::-1]}
    volumes = []
    for k, turn in enumerate(orientations()):
        how = list(flips)[k % 3]
        affine = np.eye(4)
        affine[:3, :3] = turn @ np.diag([1.8, 2.0, 30.0])
        affine[:3, 3] = (10.0, -20.0, 30.0)
        expected = np.array([(affine @ [x, y, z, 1])[:3] for z in range(3)])
        stored = affine.copy()
        for axis, n in ((0, 112), (1, 104), (2, 3)):
            if "xyz"[axis] in how:
                stored[:3, 3] += stored[:3, axis] * (n - 1)
                stored[:3, axis] *= -1
        path = SMALL.save_nifti(tmp_path / f"{k}.nii", stored, SMALL.frames()[flips[how]])
        process(files, read_nifti(path), str(k))
        masks = nib.load(tmp_path / "out" / f"{k}_masks.nii.gz")
        assert_allclose(masks.affine, nib.load(path).affine, atol=1e-4)
        found = world_centres(masks, LV)
        assert_allclose(found[::-1] if "z" in how else found, expected, atol=0.25)
        away = (world_centres(masks, RV) - found) @ turn[:, 0]  # the RV lies towards smaller x
        assert (away < -20).all()
        volumes.append(read(tmp_path / "out" / f"{k}_function.json")["volume_ml"]["lv"])
    assert len(volumes) == 24
    assert_allclose(volumes, np.broadcast_to(SMALL.volumes_ml[:, 2], (24, 2)), rtol=0.02)


def test_a_doubled_matrix_overlays_the_series(bundle: Bundle, tmp_path: Path) -> None:
    series = SMALL.series()
    for scale in (1, 2):
        process(files_of(bundle, tmp_path, scale=scale), series, str(scale))
    one, two = (world_centres(nib.load(tmp_path / f"{scale}_masks.nii.gz"), LV) for scale in (1, 2))
    assert_allclose(two, one, atol=0.2)
    assert_allclose(nib.load(tmp_path / "2_masks.nii.gz").header.get_zooms()[:3], (0.9, 1.0, 30.0), rtol=1e-5)


@pytest.fixture(scope="module")
def dicom(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a DICOM series, below the folder that it lies in."""
    folder = tmp_path_factory.mktemp("dicom")
    dicom_heart().save_dicom(folder / "scan")
    ((candidate,), _, _) = discover([folder / "scan"])
    files_of(bundle, folder / "out", samples=2, super_resolve=True).process(candidate, candidate.open(), Watch())
    return folder


def only(folder: Path, pattern: str) -> Path:
    (path,) = folder.rglob(pattern)
    return path


def test_dicom_masks_lie_in_place(dicom: Path) -> None:
    heart = dicom_heart()
    masks = hd.seg.segread(only(dicom / "out", "*_masks.dcm"))
    y, x = heart.middle
    counted = np.zeros((heart.n_t, heart.n_z))
    for groups, pixels in zip(masks.PerFrameFunctionalGroupsSequence, masks.pixel_array, strict=True):
        if groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber != LV:
            continue
        place = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        z = round(float(np.linalg.norm(place - lps_position(0)) / SPACING[0]))
        row, column = np.argwhere(pixels).mean(0)
        found = place + column * SPACING[2] * ROW + row * SPACING[1] * COLUMN
        assert_allclose(found, lps_position(z) + x * SPACING[2] * ROW + y * SPACING[1] * COLUMN, atol=0.3)
        counted[groups.FrameContentSequence[0].TemporalPositionIndex - 1, z] = pixels.sum()
    ml = counted.sum(1) * np.prod(SPACING) / 1000
    assert_allclose(ml, read(only(dicom / "out", "*_function.json"))["volume_ml"]["lv"], atol=0.0051)


def test_the_structured_report_says_the_same(dicom: Path) -> None:
    record = read(only(dicom / "out", "*_function.json"))
    report = hd.sr.srread(only(dicom / "out", "*_report.dcm"))
    values = {
        (group.tracking_identifier, m.name.meaning): m.value
        for group in report.content.get_image_measurement_groups()
        for m in group.get_measurements()
    }
    numbers = list(values.values())
    for side, name in (("lv", "edv_ml"), ("lv", "esv_ml"), ("lv", "ef_percent"), ("lv", "mass_g"), ("rv", "edv_ml")):
        assert any(value == pytest.approx(record[side][name], abs=0.0051) for value in numbers), (side, name)
    assert record["flags"]
    text = report.to_json()
    assert all(flag["message"] in text for flag in record["flags"])
    masks = pydicom.dcmread(only(dicom / "out", "*_masks.dcm"), stop_before_pixels=True)
    assert masks.SOPInstanceUID in text
    source = pydicom.dcmread(next((dicom / "scan").iterdir()), stop_before_pixels=True)
    assert masks.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert masks.StudyInstanceUID == report.StudyInstanceUID == source.StudyInstanceUID


def test_dicom_results_are_valid(dicom: Path) -> None:
    found = [only(dicom / "out", f"*_{what}.dcm") for what in ("masks", "report", "std")]
    images = sorted((dicom / "out").rglob("IM_*.dcm"))
    assert len(images) == 4 * 5
    assert [line for path in (*found, images[0], images[-1]) for line in complaints_of(path)] == []


@pytest.mark.parametrize("format", ["nifti", "dicom"])
def test_the_other_format(bundle: Bundle, tmp_path: Path, format: str) -> None:
    """DICOM from NIfTI and NIfTI from DICOM have the same voxels in their masks."""
    series = SMALL.series()
    if format == "nifti":
        dicom_heart(2).save_dicom(tmp_path / "scan")
        series = discover([tmp_path / "scan"])[0][0].open()
    process(files_of(bundle, tmp_path / "out", format=format), series)
    names = {p.name for p in (tmp_path / "out").iterdir()}
    if format == "nifti":
        assert names == {"c_function.nii.gz", "c_masks.nii.gz", "c_function.json"}
    else:
        assert names == {"c_function", "c_masks.dcm", "c_report.dcm", "c_function.json"}
        assert complaints_of(tmp_path / "out" / "c_masks.dcm") == []
        assert complaints_of(tmp_path / "out" / "c_report.dcm") == []


# ---- how the work is done --------------------------------------------------------------------------------------------


def test_an_error_leaves_nothing(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither images nor masks nor scratch files."""
    whole = FunctionRun.run

    def stops(run: FunctionRun, on_frame: Any, *rest: Any) -> Any:
        def only(frame: FunctionFrame) -> None:
            on_frame(frame)
            raise MemoryError

        return whole(run, only, *rest)

    monkeypatch.setattr(FunctionRun, "run", stops)
    for format in ("nifti", "dicom"):
        with pytest.raises(MemoryError):
            process(files_of(bundle, tmp_path, format=format, samples=2, super_resolve=True), SMALL.series())
        assert list(tmp_path.iterdir()) == []


def test_samples_of_what_is_not_restored_have_no_spread(bundle: Bundle, tmp_path: Path) -> None:
    for restore in (False, True):
        process(files_of(bundle, tmp_path, samples=2, super_resolve=restore), SMALL.series())
        assert (tmp_path / "c_function_std.nii.gz").exists() == restore
        assert (read(tmp_path / "c_function.json")["plan"]["spread_factor"] is None) != restore


def test_engines_serve_all_series_of_their_size(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of other numbers of phases."""
    made: list[Engines] = []
    start = Engines.__init__
    monkeypatch.setattr(Engines, "__init__", lambda one, *rest: (made.append(one), start(one, *rest))[1])
    files = files_of(bundle, tmp_path)
    for n_t in (2, 3, 2):
        process(files, replace(SMALL, n_t=n_t).series(), str(n_t))
    assert len(made) == 1
    process(files, replace(SMALL, n_z=4).series(), "z")
    assert len(made) == 2


def test_a_frame_is_read_three_times(bundle: Bundle, tmp_path: Path) -> None:
    """For the survey, the causal graph and the result; those that the heart is looked for in once more."""
    series, count = replace(SMALL, n_t=6).series(), np.zeros(6, int)

    def counted(t: int) -> NDArray[np.float32]:
        count[t] += 1
        return series.frame(t)

    process(files_of(bundle, tmp_path), replace(series, reader=counted))
    assert_array_equal(count, [4, 3, 4, 3, 3, 3])
