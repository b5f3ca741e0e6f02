"""``cmrsr mie`` from the command line: pairs, batches, resumption, bad input, the report."""

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from cmrsr.cli import run
from cmrsr.io.discover import discover
from tests.cli.test_sr_bad_input import only_line, tree
from tests.cli.test_sr_runs import Capture, digests, read, statuses
from tests.heart_engine import heart_engine
from tests.heart_study import STUDY, Enhanced, Study, dicom_study
from tests.infarct_engine import infarct_engine, write_infarct_engine

__all__ = ["heart_engine", "infarct_engine"]

SMALL = Study(t1=replace(STUDY.t1, slices=(2,)))
QUICK = ("--steps", 1, "--samples", 2)


@dataclass(frozen=True)
class Cli:
    """``cmrsr mie`` with the tiny engines."""

    engine: Path
    reader: Path

    def __call__(self, *arguments: object, code: int = 0, report: bool = False) -> None:
        pages = [] if report else ["--no-report"]
        engines = ["--engine", str(self.engine), "--reader", str(self.reader)]
        assert run(["mie", *map(str, arguments), *engines, *pages]) == code


@pytest.fixture(scope="module")
def mie(infarct_engine: Path, heart_engine: Path) -> Cli:
    return Cli(infarct_engine, heart_engine)


def table(folder: Path, name: str = "mie.csv") -> dict[str, dict[str, str]]:
    with (folder / name).open(newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patients in NIfTI and one in DICOM, in folders; nobody writes into it."""
    folder = tmp_path_factory.mktemp("in") / "study"
    SMALL.save_nifti(folder / "a", "p2")
    Study(t1=replace(SMALL.t1, scar=None)).save_nifti(folder / "b", "p10")
    dicom_study().save_dicom(folder / "scanner")
    return folder


ALL = {"a/p2_t1", "b/p10_t1", "scanner/t1/30_T1_MOLLI_native"}


@pytest.fixture(scope="module")
def done(mie: Cli, study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A batch of all of it; nobody writes into it."""
    out = tmp_path_factory.mktemp("done") / "out"
    mie(study, "-o", out)
    return out


# ---- what is written -------------------------------------------------------------------------------------------------


def test_a_batch(done: Path) -> None:
    assert statuses(done) == dict.fromkeys(ALL, "ok")
    assert {p.name for p in done.iterdir()} == {
        "a",
        "b",
        "scanner",
        "audit.jsonl",
        "mie.csv",
        "run.json",
    }
    assert {p.name for p in (done / "a").iterdir()} == {
        "p2_t1_mie.nii.gz", "p2_t1_mie_std.nii.gz", "p2_t1_scar.nii.gz", "p2_t1_scar_probability.nii.gz",
        "p2_t1_t1map.nii.gz", "p2_t1_strain.nii.gz", "p2_t1_mie.json",
    }  # fmt: skip
    name = "30_T1_MOLLI_native"
    assert {p.name for p in (done / "scanner" / "t1").iterdir()} == {
        f"{name}_mie", f"{name}_mie_std.dcm", f"{name}_scar.dcm", f"{name}_scar_probability.dcm", f"{name}_t1map.dcm",
        f"{name}_mie.json",
    }  # fmt: skip
    ds = pydicom.dcmread(done / "scanner" / "t1" / f"{name}_mie" / "IM_0001.dcm")
    assert (ds.SyntheticData, ds.SeriesDescription[:13]) == ("YES", "SYNTHETIC LGE")


def test_the_defaults_are_the_engines(done: Path) -> None:
    parameters = read(done / "a" / "p2_t1_mie.json")["parameters"]
    assert (parameters["steps"], parameters["samples"], parameters["threshold"]) == (5, 4, 0.5)


def test_the_table(done: Path) -> None:
    rows = table(done)
    assert set(rows) == ALL
    for case, row in rows.items():
        record = read(done / f"{case}_mie.json")
        for column in ("scar_g", "scar_percent", "wall_g", "t1_wall_ms", "e_cc_percent", "agreement"):
            assert float(row[column]) == record[column]
        assert row["flags"].split(";") == [flag["code"] for flag in record["flags"]] or not record["flags"]
    assert float(rows["a/p2_t1"]["scar_g"]) > 2
    assert float(rows["b/p10_t1"]["scar_g"]) < 0.5


def test_two_inputs_are_the_cine_and_the_t1_images(mie: Cli, tmp_path: Path) -> None:
    """Whatever their names; the default output is beside the first."""
    cine, t1 = SMALL.save_nifti(tmp_path)
    first, second = cine.rename(tmp_path / "x1.nii.gz"), t1.rename(tmp_path / "x2.nii.gz")
    t1.with_name("p1_t1.json").rename(tmp_path / "x2.json")
    mie(first, second, *QUICK)
    record = read(tmp_path / "x1_cmrsr" / "x2_mie.json")
    assert record["plan"]["cine"]["name"] == "x1"
    assert record["command"].startswith("cmrsr mie ")


def test_a_mixed_pair(mie: Cli, tmp_path: Path) -> None:
    """T1 images in DICOM with the cine in NIfTI: both formats have the same world."""
    study = dicom_study()
    _, t1 = study.save_dicom(tmp_path / "d")
    t1_affine = discover([t1])[0][0].open().affine
    cine_affine = t1_affine.copy()
    cine_affine[:3, 3] -= study.t1.shown[0] * t1_affine[:3, 2]
    cine = study.heart.save_nifti(tmp_path / "cine.nii.gz", cine_affine)
    mie(cine, t1, "-o", tmp_path / "out", *QUICK, "--format", "nifti")
    (sidecar,) = (tmp_path / "out").rglob("*_mie.json")
    record = read(sidecar)
    assert [(s["z"], s["cine_z"]) for s in record["plan"]["slices"]] == [(1, 3), (2, 4)]
    assert record["agreement"] > 0.9


def test_inversion_times_from_the_command_line(mie: Cli, tmp_path: Path) -> None:
    """As good as those of a file."""
    cine, t1 = SMALL.save_nifti(tmp_path / "without", with_times=False)
    mie(cine, t1, "-o", tmp_path / "a", *QUICK, "--ti", ",".join(f"{t:g}" for t in SMALL.t1.times_ms))
    mie(*SMALL.save_nifti(tmp_path / "with"), "-o", tmp_path / "b", *QUICK)
    a, b = (read(tmp_path / x / "p1_t1_mie.json") for x in "ab")
    assert a["parameters"]["ti"] == "100.0,180.0,260.0,900.0,980.0,1700.0,2500.0,3300.0"
    assert (a["t1_wall_ms"], a["scar_percent"]) == (b["t1_wall_ms"], pytest.approx(b["scar_percent"], abs=2))


def test_seven_t1_images(mie: Cli, tmp_path: Path, capfd: Capture) -> None:
    seven = Study(t1=replace(SMALL.t1, times_ms=SMALL.t1.times_ms[:-1]))
    mie(*seven.save_nifti(tmp_path / "in"), "-o", tmp_path / "out", *QUICK)
    assert "7 inversion-recovery images" in re.sub(r"\s+", " ", "".join(capfd.readouterr()))
    assert read(tmp_path / "out" / "p1_t1_mie.json")["n_inversions"] == 7


def test_contrast_enhanced_t1_images(mie: Cli, tmp_path: Path, capfd: Capture) -> None:
    """A warning, by their values, in the table as well."""
    enhanced = Study(t1=Enhanced(heart=SMALL.heart, slices=(2,)))
    mie(*enhanced.save_nifti(tmp_path / "in"), "-o", tmp_path / "out", *QUICK)
    assert "contrast" in "".join(capfd.readouterr())
    codes = table(tmp_path / "out")["p1_t1"]["flags"].split(";")
    assert any("contrast" in code for code in codes), codes


# ---- a second run ----------------------------------------------------------------------------------------------------


def test_a_second_run_skips_what_is_done(mie: Cli, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    SMALL.save_nifti(folder)
    mie(folder, "-o", out, *QUICK)
    first, before = table(out), digests(out)
    mie(folder, "-o", out, *QUICK)
    assert statuses(out) == {"p1_t1": "skipped"}
    assert (table(out), digests(out)) == (first, before)
    mie(folder, "-o", out, *QUICK, "--threshold", 0.4)
    assert statuses(out) == {"p1_t1": "ok"}
    mie(folder, "-o", out, *QUICK, "--force")
    assert (statuses(out), digests(out)) == ({"p1_t1": "ok"}, before)
    (out / "p1_t1_strain.nii.gz").write_bytes(b"")
    mie(folder, "-o", out, *QUICK)
    assert statuses(out) == {"p1_t1": "ok"}
    assert digests(out) == before


def test_another_engine_does_it_again(mie: Cli, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    SMALL.save_nifti(folder)
    mie(folder, "-o", out, *QUICK)
    replace(mie, engine=write_infarct_engine(tmp_path / "engine", version="2"))(folder, "-o", out, *QUICK)
    assert statuses(out) == {"p1_t1": "ok"}


def test_another_number_of_samples_leaves_nothing_stale(mie: Cli, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    SMALL.save_nifti(folder)
    mie(folder, "-o", out, *QUICK)
    assert (out / "p1_t1_mie_std.nii.gz").exists()
    mie(folder, "-o", out, "--steps", 1, "--samples", 1)
    assert not (out / "p1_t1_mie_std.nii.gz").exists()
    mie(folder, "-o", out, *QUICK, "--format", "dicom")
    assert {p.name for p in out.iterdir()} == {
        "p1_t1_mie", "p1_t1_mie_std.dcm", "p1_t1_scar.dcm", "p1_t1_scar_probability.dcm", "p1_t1_t1map.dcm",
        "p1_t1_mie.json", "mie.csv", "run.json", "audit.jsonl",
    }  # fmt: skip


def test_the_same_bytes(mie: Cli, study: Path, tmp_path: Path) -> None:
    """In shards and for another batch size; not for another seed."""
    few = (study / "a", study / "b")
    mie(*few, "-o", tmp_path / "a", *QUICK, "--precision", "f32")
    for i in (1, 2):
        mie(*few, "-o", tmp_path / "b", *QUICK, "--precision", "f32", "--shard", f"{i}/2", "--batch-size", 3)
    mie(few[0], "-o", tmp_path / "c" / "a", *QUICK, "--precision", "f32", "--seed", 1)
    a, b, c = (digests(tmp_path / name) for name in "abc")
    assert a == b
    assert len(a) == 2 * 6
    assert c["a/p2_t1_mie.nii.gz"] != a["a/p2_t1_mie.nii.gz"]
    rows = [table(tmp_path / "b", path.name) for path in (tmp_path / "b").glob("mie*.csv")]
    assert len(rows) == 2
    assert rows[0] | rows[1] == table(tmp_path / "a")


# ---- bad input -------------------------------------------------------------------------------------------------------


def moved(folder: Path) -> None:
    """T1 images of another place."""
    _, t1 = SMALL.save_nifti(folder)
    image = nib.load(t1)
    affine = image.affine.copy()
    affine[:3, 3] += 120 * affine[:3, 0]
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), t1)


def other_planes(folder: Path) -> None:
    """T1 images across the slices of the cine."""
    _, t1 = SMALL.save_nifti(folder)
    image = nib.load(t1)
    x, y, z, origin = image.affine.T
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), np.stack([x, z / 8, y * 8, origin], 1)), t1)


def one_phase(folder: Path) -> None:
    SMALL.save_nifti(folder)
    SMALL.heart.save_nifti(folder / "p1_cine.nii.gz", frames=SMALL.heart.frames()[:1])


def no_heart(folder: Path) -> None:
    SMALL.save_nifti(folder)
    noise = np.random.default_rng(3).integers(1, 300, SMALL.heart.frames().shape)
    SMALL.heart.save_nifti(folder / "p1_cine.nii.gz", frames=noise)


def no_times(folder: Path) -> None:
    SMALL.save_nifti(folder, with_times=False)


def not_a_number(folder: Path) -> None:
    _, t1 = SMALL.save_nifti(folder)
    image = nib.load(t1)
    data = np.asarray(image.dataobj).astype(np.float32)
    data[3, 3, 0, 2] = np.nan
    nib.save(nib.Nifti1Image(data, image.affine), t1)


def damaged_cine(folder: Path) -> None:
    cine, _ = SMALL.save_nifti(folder)
    cine.write_bytes(cine.read_bytes()[:2000])


BAD: dict[str, tuple[Callable[[Path], None], int, str]] = {
    "moved": (moved, 4, "do not overlap"),
    "other planes": (other_planes, 4, "cross at 90 degrees"),
    "one phase": (one_phase, 4, "one phase of the beat"),
    "no heart": (no_heart, 4, "no left ventricle was found"),
    "no times": (no_times, 4, "inversion times.*--ti"),
    "nan": (not_a_number, 4, "1 NaN or infinite"),
    "damaged": (damaged_cine, 3, "p1_cine.nii.gz: truncated or damaged"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_alone(mie: Cli, tmp_path: Path, capfd: Capture, name: str) -> None:
    """One line, and nothing is written."""
    make, code, words = BAD[name]
    make(tmp_path / "in")
    before = tree(tmp_path)
    inputs = (tmp_path / "in" / "p1_cine.nii.gz", tmp_path / "in" / "p1_t1.nii.gz")
    mie(*inputs, "-o", tmp_path / "new" / "out", *QUICK, code=code)
    assert re.search(words, only_line(capfd))
    assert tree(tmp_path) == before


def test_a_study_without_a_cine(mie: Cli, tmp_path: Path, capfd: Capture) -> None:
    cine, _ = SMALL.save_nifti(tmp_path / "in")
    cine.unlink()
    before = tree(tmp_path)
    mie(tmp_path / "in", "-o", tmp_path / "out", code=4)
    assert "no cine" in only_line(capfd)
    assert tree(tmp_path) == before


def test_a_study_without_t1_images(mie: Cli, tmp_path: Path, capfd: Capture) -> None:
    SMALL.heart.save_nifti(tmp_path / "in" / "p1_cine.nii.gz")
    before = tree(tmp_path)
    mie(tmp_path / "in", "-o", tmp_path / "out", code=4)
    assert "no T1 images" in only_line(capfd)
    assert tree(tmp_path) == before


def test_inputs_the_wrong_way_round(mie: Cli, tmp_path: Path, capfd: Capture) -> None:
    cine, t1 = SMALL.save_nifti(tmp_path / "in")
    before = tree(tmp_path)
    mie(t1, cine, "-o", tmp_path / "out", code=2)
    assert "cmrsr mie CINE T1" in only_line(capfd)
    assert tree(tmp_path) == before


def test_bad_input_in_a_batch(mie: Cli, tmp_path: Path) -> None:
    """The others are done; the table says which failed."""
    for name in ("no heart", "moved"):
        BAD[name][0](tmp_path / "in" / name)
    SMALL.save_nifti(tmp_path / "in" / "good")
    cine, _ = SMALL.save_nifti(tmp_path / "in" / "alone")
    cine.unlink()
    out = tmp_path / "out"
    mie(tmp_path / "in", "-o", out, *QUICK, code=8, report=True)
    bad = {f"{name}/p1_t1" for name in ("no heart", "moved", "alone")}
    assert statuses(out) == dict.fromkeys(bad, "failed") | {"good/p1_t1": "ok"}
    rows = table(out)
    assert {case for case, row in rows.items() if row["flags"] == "failed"} == bad
    assert rows["moved/p1_t1"]["scar_g"] == ""
    assert float(rows["good/p1_t1"]["scar_g"]) > 2
    assert {p.parent.name for p in out.rglob("p1*")} == {"good"}
    page = (out / "report.html").read_text()
    assert page.count("<section") == 4
    assert "Synthetic late enhancement" in page
    assert "SYNTHETIC" in page
    assert "data:image/" in page
    assert "no left ventricle was found" in page
    assert all(flag["message"] in page for flag in read(out / "good" / "p1_t1_mie.json")["flags"])


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--samples", "0"), 2, "--samples 0: expected 1 to 256"),
        (("--steps", "0"), 2, "--steps 0"),
        (("--threshold", "1"), 2, "--threshold 1: expected a probability"),
        (("--ti", "100,late"), 2, "--ti 100,late: expected numbers in ms"),
        (("--ti", "100,200"), 2, "2 inversion times"),
        (("--ti", "1,2,3,4,5,6,7,8"), 2, "--ti 1,2,3,4,5,6,7,8: expected 20 to 20000 ms"),
        (("--reader", "nowhere"), 5, "nowhere"),
        (("--device", "cuda", "--strict-device"), 6, "cuda"),
    ],
)
def test_bad_requests(
    mie: Cli, tmp_path: Path, capfd: Capture, options: tuple[str, ...], code: int, words: str
) -> None:
    cine, t1 = SMALL.save_nifti(tmp_path)
    before = tree(tmp_path)
    engines = ["--engine", str(mie.engine), "--reader", str(mie.reader)]
    assert run(["mie", str(cine), str(t1), *engines, *options]) == code
    assert words in only_line(capfd)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("swapped", ["--engine", "--reader"])
def test_engines_of_another_task(mie: Cli, tmp_path: Path, capfd: Capture, swapped: str) -> None:
    cine, t1 = SMALL.save_nifti(tmp_path)
    other = mie.reader if swapped == "--engine" else mie.engine
    engines = {"--engine": mie.engine, "--reader": mie.reader} | {swapped: other}
    words = [word for option, path in engines.items() for word in (option, str(path))]
    assert run(["mie", str(cine), str(t1), *words]) == 5
    assert only_line(capfd)


def test_a_cine_is_not_overwritten(mie: Cli, tmp_path: Path, capfd: Capture) -> None:
    """Not even one that has the name of a result."""
    cine, t1 = SMALL.save_nifti(tmp_path)
    before = cine.rename(tmp_path / "p1_t1_scar.nii.gz").read_bytes()
    mie(tmp_path / "p1_t1_scar.nii.gz", t1, "-o", tmp_path, code=7)
    assert "would overwrite an input" in only_line(capfd)
    assert (tmp_path / "p1_t1_scar.nii.gz").read_bytes() == before


def test_help(capfd: Capture) -> None:
    assert run(["mie", "--help"]) == 0
    text = " ".join(capfd.readouterr().out.replace("│", " ").split())
    for words in ("--ti", "--reader", "--threshold", "--shard", "--format", "SYNTHETIC", "For example", "CINE T1"):
        assert words in text
