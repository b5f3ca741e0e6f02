"""One T1 series of ``mie`` to files: numbers, images and masks say the same, and depend on the cine as well."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
from numpy.testing import assert_allclose

from cmrsr.batch.case import Kept
from cmrsr.batch.run import CaseResult
from cmrsr.errors import UnusableError
from cmrsr.io.discover import Candidate, discover
from cmrsr.io.series import Series
from cmrsr.runtime.bundle import Bundle, load
from cmrsr.runtime.choice import DeviceChoice
from cmrsr.tasks.mie.details import MieDetails
from cmrsr.tasks.mie.files import MieFiles
from cmrsr.tasks.mie.inputs.case import MieCase
from cmrsr.tasks.mie.plan import MieOptions
from cmrsr.tasks.mie.run import MieEngines, MieRun
from tests.heart_engine import heart_engine
from tests.heart_study import STUDY, Enhanced, Study, dicom_study
from tests.infarct_engine import SCAR_T1_S, T1_S, infarct_engine
from tests.recovering_heart import Recovery

__all__ = ["heart_engine", "infarct_engine"]

F32 = DeviceChoice(precision="f32", threads=1)
SMALL = MieOptions(steps=2, samples=2)
ENGINES: Kept[MieEngines] = Kept()  # compiled once for all tests
T1 = replace(STUDY.t1, slices=(2,)).series()
CINE = STUDY.heart.series()


class Watch:
    """Hears how many evaluations were announced and how many came."""

    announced = heard = 0

    def case_started(self, name: str, n_evaluations: int) -> None:
        self.announced += n_evaluations

    def evaluated(self, n: int) -> None:
        self.heard += n

    def case_ended(self, result: CaseResult) -> None: ...


@pytest.fixture(scope="module")
def bundles(infarct_engine: Path, heart_engine: Path) -> tuple[Bundle, Bundle]:
    """Of the enhancement, and the reader of the cine."""
    return load(str(infarct_engine), "mie"), load(str(heart_engine), "function")


def candidate(name: str, series: Series) -> Candidate:
    return Candidate(name=name, format="nifti", paths=(), open=lambda: series)


def process(
    bundles: tuple[Bundle, Bundle], out: Path, cine: Series, t1: Series, *, watch: Watch | None = None,
    name: str = "c", files: MieFiles | None = None, options: MieOptions = SMALL, **settings: Any,
) -> CaseResult:  # fmt: skip
    engine, reader = bundles
    files = files or MieFiles(
        bundle=engine, reader=reader, options=options, choice=F32, out=out, engines=ENGINES, **settings
    )  # fmt: skip
    case = MieCase(name=name, format="nifti", paths=(), open=lambda: t1, cine=candidate("the cine", cine))
    return files.process(case, t1, watch or Watch())


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


@pytest.fixture(scope="module")
def done(bundles: tuple[Bundle, Bundle], tmp_path_factory: pytest.TempPathFactory) -> tuple[CaseResult, Path, Watch]:
    folder, watch = tmp_path_factory.mktemp("done"), Watch()
    return process(bundles, folder, STUDY.heart.series(), STUDY.t1.series(), watch=watch), folder, watch


# ---- numbers ---------------------------------------------------------------------------------------------------------


def test_the_record(done: tuple[CaseResult, Path, Watch]) -> None:
    result, folder, watch = done
    assert [p.name for p in result.outputs] == [
        "c_mie.nii.gz", "c_mie_std.nii.gz", "c_scar.nii.gz", "c_scar_probability.nii.gz", "c_t1map.nii.gz",
        "c_strain.nii.gz", "c_mie.json",
    ]  # fmt: skip
    assert {p.name for p in folder.iterdir()} == {p.name for p in result.outputs}
    record = read(folder / "c_mie.json")
    assert (record["task"], record["synthetic"]) == ("mie", True)
    assert record["notice"].startswith("SYNTHETIC images")
    assert "not a medical device" in record["notice"]
    true_g = STUDY.t1.scar_mm2.sum() * STUDY.heart.gap_mm / 1000 * 1.05
    assert record["scar_g"] == pytest.approx(true_g, rel=0.15)
    assert record["scar_percent"] == pytest.approx(100 * 80 / 360, rel=0.15)
    assert record["t1_wall_ms"] == pytest.approx(1000 * T1_S[2], rel=0.02)
    assert record["t1_scar_ms"] == pytest.approx(1000 * SCAR_T1_S, rel=0.02)
    assert record["t1_blood_ms"] == pytest.approx(1000 * T1_S[3], rel=0.02)
    assert record["e_cc_percent"] < -5
    assert [(s["z"], s["cine_z"]) for s in record["plan"]["slices"]] == [(1, 3), (2, 4)]
    assert record["plan"]["cine"]["name"] == "the cine"
    assert_allclose(np.transpose(record["plan"]["inversion_ms"])[1], STUDY.t1.times_ms)
    assert record["parameters"] == {
        "steps": 2, "samples": 2, "seed": 0, "reader": "tiny", "ti": None, "threshold": 0.5
    }  # fmt: skip
    assert {flag["message"] for flag in record["flags"]} <= set(result.warnings)
    assert record["confident"] == (not record["flags"])
    assert watch.heard == watch.announced > 0
    assert any("10 phases of the cine the cine" in note for note in result.notes)


def test_files_and_numbers_say_the_same(done: tuple[CaseResult, Path, Watch]) -> None:
    _, folder, _ = done
    record = read(folder / "c_mie.json")
    images = {name: nib.load(folder / f"c_{name}.nii.gz") for name in ("mie", "scar", "scar_probability", "t1map")}
    shape = (112, 104, 2)
    data = {name: np.asarray(image.dataobj).reshape(shape) for name, image in images.items()}
    scar = data["scar"] > 0
    voxel_g = abs(np.linalg.det(images["scar"].affine[:3, :3])) / 1000 * 1.05
    assert scar.sum() * voxel_g == pytest.approx(record["scar_g"], rel=0.05)
    assert set(np.unique(data["scar"])) == {0, 1}
    assert (data["scar_probability"][scar] > 0.45).all()
    assert data["mie"][scar].mean() > 800  # bright, in thousandths
    assert np.median(data["t1map"][scar]) == pytest.approx(record["t1_scar_ms"], rel=0.02)
    strain = np.asarray(nib.load(folder / "c_strain.nii.gz").dataobj)
    assert strain.shape == (*shape, 2)
    wall = STUDY.t1.t1_s(2)[::4, ::4].T
    ring = (np.abs(wall - T1_S[2]) < 0.01) & (data["t1map"][..., 0] > 0)
    assert strain[..., 0, 0][ring].mean() < -0.05
    assert strain[..., 0, 1][ring].mean() > 0


def test_the_scar_lies_where_it_is(done: tuple[CaseResult, Path, Watch]) -> None:
    """Its centre, in the world, is that of the true scar."""
    _, folder, _ = done
    scar = nib.load(folder / "c_scar.nii.gz")
    data = np.asarray(scar.dataobj).reshape(112, 104, 2)
    for k, z in enumerate(STUDY.t1.shown):
        true = np.argwhere(STUDY.t1.t1_s(z) == np.float32(SCAR_T1_S)).mean(0)
        y, x = (true + 0.5) / 4 - 0.5
        expected = (STUDY.t1.affine @ [x, y, k, 1])[:3]
        found = (scar.affine @ [*np.argwhere(data[:, :, k]).mean(0), k, 1])[:3]
        assert_allclose(found, expected, atol=1.5)


def test_what_the_report_is_given(done: tuple[CaseResult, Path, Watch]) -> None:
    details = done[0].details
    assert isinstance(details, MieDetails)
    assert details.device == "openvino cpu f32"
    assert len(details.slices) == len(details.plan.slices) == 2
    assert details.frame.output.shape == (2, 104, 112)
    assert_allclose(details.affine, STUDY.t1.affine, atol=1e-6)
    assert details.measured.scar_g > 0


# ---- what a result depends on ----------------------------------------------------------------------------------------


def test_another_cine_is_another_case(bundles: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    """The same cine again is not; nor a reader of the same digest, while another reader is."""
    t1, cine = T1, CINE
    out = tmp_path / "out"
    assert process(bundles, out, cine, t1).status == "ok"
    first = read(out / "c_mie.json")
    assert process(bundles, out, cine, t1).status == "skipped"
    weaker = replace(STUDY.heart, contraction=0.15).series()
    assert process(bundles, out, weaker, t1).status == "ok"
    second = read(out / "c_mie.json")
    assert second["cine_sha256"] != first["cine_sha256"]
    assert second["e_cc_percent"] > first["e_cc_percent"] + 2
    engine, reader = bundles
    other = replace(reader, digest="f" * 64)
    assert process((engine, other), out, weaker, t1).status == "ok"
    assert process((engine, other), out, weaker, t1).status == "skipped"


def test_the_place_of_the_reader_is_no_part_of_the_result(bundles: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    process(bundles, tmp_path, CINE, T1, options=replace(SMALL, reader="/a/place"))
    assert "/a/place" not in (tmp_path / "c_mie.json").read_text()
    again = process(bundles, tmp_path, CINE, T1)
    assert again.status == "skipped"


def test_engines_serve_all_series(bundles: tuple[Bundle, Bundle], tmp_path: Path, monkeypatch: Any) -> None:
    made: list[MieEngines] = []
    start = MieEngines.__init__
    monkeypatch.setattr(MieEngines, "__init__", lambda one, *rest: (made.append(one), start(one, *rest))[1])
    engine, reader = bundles
    files = MieFiles(bundle=engine, reader=reader, options=SMALL, choice=F32, out=tmp_path)
    for k, slices in enumerate(((2,), (2, 3))):
        study = Study(t1=replace(STUDY.t1, slices=slices))
        process(bundles, tmp_path, study.heart.series(), study.t1.series(), name=str(k), files=files)
    assert len(made) == 1


# ---- what casts doubt ------------------------------------------------------------------------------------------------


def test_contrast_enhanced_t1_images_are_warned_of(bundles: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    t1 = Enhanced(heart=STUDY.heart, slices=(2,))
    result = process(bundles, tmp_path, CINE, t1.series())
    assert result.status == "ok"
    assert any("contrast" in warning for warning in result.warnings)
    assert "contrast" not in " ".join(process(bundles, tmp_path / "n", CINE, T1).warnings)


def test_seven_images_are_enough(bundles: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    t1 = replace(STUDY.t1, slices=(2,), times_ms=STUDY.t1.times_ms[:-1])
    result = process(bundles, tmp_path, CINE, t1.series())
    assert any("7 inversion-recovery images" in warning for warning in result.warnings)
    assert read(tmp_path / "c_mie.json")["n_inversions"] == 7


def test_no_scar_is_an_answer(bundles: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    """Empty masks, which DICOM has to be able to hold as well."""
    t1 = Recovery(heart=STUDY.heart, slices=(2,), scar=None)
    for kind in ("nifti", "dicom"):
        process(bundles, tmp_path / kind, CINE, t1.series(), format=kind)
        assert read(tmp_path / kind / "c_mie.json")["scar_g"] < 0.5
    assert hd.seg.segread(tmp_path / "dicom" / "c_scar.dcm").pixel_array.sum() == 0


# ---- how the work is done --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["nifti", "dicom"])
def test_an_error_leaves_nothing(
    bundles: tuple[Bundle, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def stops(run: MieRun, said: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(MieRun, "run", stops)
    with pytest.raises(MemoryError):
        process(bundles, tmp_path, CINE, T1, format=kind)
    assert list(tmp_path.iterdir()) == []


def test_a_cine_that_cannot_be_used(bundles: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    frames = STUDY.heart.frames()[:1]
    one = Series.from_array(frames, affine=STUDY.heart.affine, kind="cine")
    with pytest.raises(UnusableError, match="one phase of the beat"):
        process(bundles, tmp_path, one, STUDY.t1.series())
    assert list(tmp_path.iterdir()) == []


def test_one_sample_has_no_spread(bundles: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    options = MieOptions(steps=1, samples=1)
    process(bundles, tmp_path, CINE, T1, options=options)
    assert not (tmp_path / "c_mie_std.nii.gz").exists()
    assert read(tmp_path / "c_mie.json")["plan"]["spread_factor"] is None


def test_a_dicom_study(bundles: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    """Masks and maps of the files as of the numbers; the sources are those of the slice and its partner."""
    cine, t1 = (discover([path])[0][0].open() for path in dicom_study().save_dicom(tmp_path / "in"))
    out = tmp_path / "out"
    result = process(bundles, out, cine, t1)
    assert {p.name for p in result.outputs} == {
        "c_mie", "c_mie_std.dcm", "c_scar.dcm", "c_scar_probability.dcm", "c_t1map.dcm", "c_mie.json"
    }  # fmt: skip
    record = read(out / "c_mie.json")
    masks = hd.seg.segread(out / "c_scar.dcm")
    z, y, x = t1.spacing_mm
    assert masks.pixel_array.sum() * x * y * z / 1000 * 1.05 == pytest.approx(record["scar_g"], rel=0.05)
    for k, path in enumerate(sorted((out / "c_mie").iterdir())):
        ds = pydicom.dcmread(path)
        named = {item.ReferencedSOPInstanceUID for item in ds.SourceImageSequence}
        pair = record["plan"]["slices"][k]
        assert pair["z"] == k + 1
        beat = {row[pair["cine_z"] - 1].sop_instance_uid for row in cine.source.header.table}
        assert beat <= named
        assert len(named) == 8 + 10
        assert record["cine_sha256"] in ds.DerivationDescription
