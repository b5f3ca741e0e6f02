"""``cmrsr function`` from the command line: batches, resumption, references, bad input, the report."""

import csv
import re
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cmrsr.cli import run
from tests.beating_heart import UNIT, Heart, dicom_heart
from tests.cli.test_sr_bad_input import only_line, tree
from tests.cli.test_sr_runs import Capture, digests, read, statuses
from tests.heart_engine import TISSUE, heart_engine, write_heart_engine

__all__ = ["heart_engine"]

SMALL = Heart(n_t=2, n_z=3, gap_mm=30, matrix=(80, 80), pixel_mm=(2.2, 2.2))


@dataclass(frozen=True)
class Cli:
    """``cmrsr function`` with the tiny engine."""

    engine: Path

    def __call__(self, *arguments: object, code: int = 0, report: bool = False) -> None:
        pages = [] if report else ["--no-report"]
        assert run(["function", *map(str, arguments), "--engine", str(self.engine), *pages]) == code


@pytest.fixture
def function(heart_engine: Path) -> Cli:
    return Cli(heart_engine)


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return SMALL.save_nifti(tmp_path / "p1_cine.nii.gz")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two NIfTI series and one DICOM series, in folders."""
    folder = tmp_path / "study"
    SMALL.save_nifti(folder / "p2_cine.nii.gz")
    replace(SMALL, n_t=3, contraction=0.2).save_nifti(folder / "sub" / "p10_cine.nii.gz")
    dicom_heart(2, 3).save_dicom(folder / "scanner")
    return folder


ALL = {"p2_cine", "scanner/5-7_cine_sax", "sub/p10_cine"}


def table(folder: Path, name: str = "function.csv") -> dict[str, dict[str, str]]:
    with (folder / name).open(newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


# ---- what is written -------------------------------------------------------------------------------------------------


def test_nifti_in_nifti_out(function: Cli, one: Path, tmp_path: Path) -> None:
    function(one)
    out = tmp_path / "p1_cine_cmrsr"
    assert sorted(p.name for p in out.iterdir()) == [
        "audit.jsonl", "function.csv", "p1_cine_function.json", "p1_cine_function.nii.gz", "p1_cine_masks.nii.gz",
        "run.json",
    ]  # fmt: skip
    before, after = nib.load(one), nib.load(out / "p1_cine_function.nii.gz")
    assert after.shape == before.shape
    assert after.get_data_dtype() == before.get_data_dtype()
    np.testing.assert_allclose(after.affine, before.affine, atol=1e-5)
    record = read(out / "p1_cine_function.json")
    assert record["lv"]["ef_percent"] == pytest.approx(SMALL.ef_percent(), abs=1.5)
    assert record["command"].startswith("cmrsr function ")


def test_a_batch(function: Cli, study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    function(study, "-o", out)
    assert statuses(out) == dict.fromkeys(ALL, "ok")
    assert sorted(p.name for p in (out / "scanner").iterdir()) == [
        "5-7_cine_sax_function", "5-7_cine_sax_function.json", "5-7_cine_sax_masks.dcm", "5-7_cine_sax_report.dcm",
    ]  # fmt: skip
    rows = table(out)
    assert set(rows) == ALL
    for case, row in rows.items():
        record = read(out / f"{case}_function.json")
        for side, name in (("lv", "edv_ml"), ("lv", "ef_percent"), ("lv", "mass_g"), ("rv", "esv_ml")):
            assert float(row[f"{side}_{name}"]) == record[side][name]
        assert row["flags"].split(";") == [flag["code"] for flag in record["flags"] if flag["doubt"]]
        assert (row["ed_frame"], row["cardiac_output_l_min"]) == ("1", "")


def test_two_phases_as_two_files(function: Cli, tmp_path: Path) -> None:
    """3-D files of ED and ES in one folder are one case; the numbers are those of one file with both."""
    frames = SMALL.frames()
    for phase, t in (("ES", 1), ("ED", 0)):
        path = SMALL.save_nifti(tmp_path / "in" / f"p3_sa_{phase}.nii.gz", frames=frames[t : t + 1])
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[..., 0], image.affine), path)
        assert nib.load(path).ndim == 3
    SMALL.save_nifti(tmp_path / "both.nii.gz")
    function(tmp_path / "in", tmp_path / "both.nii.gz", "-o", tmp_path / "out")
    rows = {Path(case).name: row for case, row in table(tmp_path / "out").items()}
    assert set(rows) == {"p3_sa_ED_ES", "both"}
    assert rows["p3_sa_ED_ES"] | {"case": "both"} == rows["both"] | {"case": "both"}
    masks = nib.load(next((tmp_path / "out").rglob("p3_sa_ED_ES_masks.nii.gz")))
    assert masks.shape == (80, 80, 3, 2)


def test_doubled_and_restored(function: Cli, one: Path, tmp_path: Path) -> None:
    function(one, "-o", tmp_path / "out", "--scale", 2, "--samples", 2, "--steps", 5)
    out = tmp_path / "out"
    record = read(out / "p1_cine_function.json")
    assert (record["plan"]["super_resolved"], record["plan"]["spread_factor"]) == (True, 1.5)
    for name in ("function", "function_std", "masks"):
        assert nib.load(out / f"p1_cine_{name}.nii.gz").shape == (160, 160, 3, 2)
    function(one, "-o", tmp_path / "plain", "--scale", 2, "--no-super-resolve")
    assert read(tmp_path / "plain" / "p1_cine_function.json")["plan"]["super_resolved"] is False


def test_the_same_bytes(function: Cli, study: Path, tmp_path: Path) -> None:
    """For another batch size, order, or in shards; not for another seed."""
    noisy = ("--super-resolve", "--steps", 2, "--samples", 2)
    function(study, "-o", tmp_path / "a", *noisy)
    function(study, "-o", tmp_path / "b", *noisy, "--batch-size", 1, "--threads", 1)
    for i in (1, 2):
        function(study, "-o", tmp_path / "c", *noisy, "--shard", f"{i}/2")
    function(study, "-o", tmp_path / "d", *noisy, "--seed", 1)
    a, b, c, d = (digests(tmp_path / name) for name in "abcd")
    assert a == b == c
    assert len(a) == 2 * 3 + 2 * 3 + 3  # NIfTI: images, spread, masks; DICOM also a report
    assert all(a[name] != d[name] for name in a if name.endswith("_function.nii.gz"))
    rows = [table(tmp_path / "c", path.name) for path in (tmp_path / "c").glob("function*.csv")]
    assert len(rows) == 2
    assert rows[0] | rows[1] == table(tmp_path / "a")


# ---- a second run ----------------------------------------------------------------------------------------------------


def test_a_second_run_skips_what_is_done(function: Cli, study: Path, tmp_path: Path) -> None:
    """The table lists all cases all the same; a damaged result is done again."""
    out = tmp_path / "out"
    function(study, "-o", out)
    first, before = table(out), digests(out)
    function(study, "-o", out)
    assert statuses(out) == dict.fromkeys(ALL, "skipped")
    assert table(out) == first
    (out / "p2_cine_masks.nii.gz").write_bytes(b"")
    (out / "scanner" / "5-7_cine_sax_report.dcm").unlink()
    function(study, "-o", out)
    assert statuses(out) == dict.fromkeys(ALL, "ok") | {"sub/p10_cine": "skipped"}
    assert (digests(out), table(out)) == (before, first)
    function(study, "-o", out, "--force")
    assert statuses(out) == dict.fromkeys(ALL, "ok")
    assert digests(out) == before


@pytest.mark.parametrize("options", [("--scale", 2), ("--super-resolve",), ("--seed", 1)])
def test_changed_options_do_it_again(function: Cli, one: Path, tmp_path: Path, options: tuple[object, ...]) -> None:
    out = tmp_path / "out"
    function(one, "-o", out)
    function(one, "-o", out, *options)
    assert statuses(out) == {"p1_cine": "ok"}
    function(one, "-o", out, *options)
    assert statuses(out) == {"p1_cine": "skipped"}


def test_another_engine_does_it_again(function: Cli, one: Path, tmp_path: Path) -> None:
    function(one, "-o", tmp_path / "out")
    Cli(write_heart_engine(tmp_path / "engine", version="2"))(one, "-o", tmp_path / "out")
    assert statuses(tmp_path / "out") == {"p1_cine": "ok"}


def test_results_are_no_input_of_the_next_run(function: Cli, study: Path, tmp_path: Path) -> None:
    function(study)
    assert (tmp_path / "study_cmrsr").is_dir()
    again = tmp_path.parent / f"{tmp_path.name}_again"
    function(tmp_path, "-o", again)
    assert len(statuses(again)) == 3


# ---- bad input -------------------------------------------------------------------------------------------------------


def one_phase(folder: Path) -> None:
    SMALL.save_nifti(folder / "a_cine.nii.gz", frames=SMALL.frames()[:1])


def one_slice(folder: Path) -> None:
    SMALL.save_nifti(folder / "a_cine.nii.gz", frames=SMALL.frames()[:, :1])


def small_field(folder: Path) -> None:
    SMALL.save_nifti(folder / "a_cine.nii.gz", np.diag([0.5, 0.5, 30, 1]))


def not_a_number(folder: Path) -> None:
    frames = SMALL.frames()
    frames[1, 1, 5, 5] = np.nan
    path = folder / "a_cine.nii.gz"
    nib.save(nib.Nifti1Image(frames.transpose(3, 2, 1, 0), SMALL.affine), path)


def noise(folder: Path) -> None:
    SMALL.save_nifti(folder / "a_cine.nii.gz", frames=np.random.default_rng(3).integers(1, 300, (2, 3, 80, 80)))


def even_discs(folder: Path) -> None:
    """Blood without a wall."""
    frames = SMALL.frames()
    SMALL.save_nifti(folder / "a_cine.nii.gz", frames=np.where(frames > 300, 400, 140))


def time_in_the_way(folder: Path) -> None:
    path = SMALL.save_nifti(folder / "a_cine.nii.gz")
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[:, :, 0], image.affine), path)


BAD = {
    "one phase": (one_phase, "one phase of the beat, expected at least two|one volume"),
    "one slice": (one_slice, "one slice, expected a short-axis stack"),
    "small field": (small_field, "40 x 40 mm, expected at least 60 mm"),
    "nan": (not_a_number, "1 NaN or infinite of 19200 voxels in frame 2 of 2"),
    "noise": (noise, "no left ventricle was found"),
    "discs": (even_discs, "no left ventricle was found"),
    "three axes": (time_in_the_way, "--time-axis"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_alone(function: Cli, tmp_path: Path, capfd: Capture, name: str) -> None:
    make, words = BAD[name]
    (tmp_path / "study").mkdir()
    make(tmp_path / "study")
    before = tree(tmp_path)
    function(tmp_path / "study", "-o", tmp_path / "new" / "out", code=4)
    assert re.search(words, only_line(capfd))
    assert tree(tmp_path) == before


def test_bad_input_in_a_batch(function: Cli, tmp_path: Path) -> None:
    """The others are done; the table says which failed."""
    for name in ("noise", "one slice"):
        (tmp_path / "in" / name).mkdir(parents=True)
        BAD[name][0](tmp_path / "in" / name)
    SMALL.save_nifti(tmp_path / "in" / "good_cine.nii.gz")
    out = tmp_path / "out"
    function(tmp_path / "in", "-o", out, code=8, report=True)
    assert statuses(out) == {"good_cine": "ok", "noise/a_cine": "failed", "one slice/a_cine": "failed"}
    rows = table(out)
    assert {case: row["flags"] for case, row in rows.items() if case != "good_cine"} == {
        "noise/a_cine": "failed", "one slice/a_cine": "failed",
    }  # fmt: skip
    assert rows["noise/a_cine"]["lv_edv_ml"] == ""
    assert float(rows["good_cine"]["lv_edv_ml"]) > 0
    assert [p.name for p in out.rglob("a_cine*")] == []
    assert "no left ventricle was found" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--scale", "3"), 2, "--scale 3: expected auto, 1 or 2"),
        (("--samples", "0"), 2, "--samples 0"),
        (("--reference", "nowhere.csv"), 3, "nowhere.csv: no such file or folder"),
    ],
)
def test_bad_requests(
    function: Cli, one: Path, tmp_path: Path, capfd: Capture, options: tuple[str, ...], code: int, words: str
) -> None:
    before = tree(tmp_path)
    function(one, *options, code=code)
    assert words in only_line(capfd)
    assert tree(tmp_path) == before


def test_help(capfd: Capture) -> None:
    assert run(["function", "--help"]) == 0
    text = capfd.readouterr().out
    for option in ("--scale", "--super-resolve", "--reference", "--shard", "--format"):
        assert option in text


# ---- references and the report ---------------------------------------------------------------------------------------


@pytest.fixture
def patients(tmp_path: Path) -> dict[str, Heart]:
    """Three cases in a folder ``in``, each with its own heart."""
    hearts = {f"q{k}": replace(SMALL, contraction=c, radius_mm=r) for k, (c, r) in enumerate(
        [(0.15, 30.0), (0.3, 26.0), (0.4, 23.0)])}  # fmt: skip
    for name, heart in hearts.items():
        heart.save_nifti(tmp_path / "in" / f"{name}.nii.gz")
    return hearts


AGREEMENT = "Agreement with the reference"


def test_a_table_of_references(function: Cli, tmp_path: Path, patients: dict[str, Heart]) -> None:
    lines = ["case,lv_edv_ml,lv_esv_ml"]
    for name, heart in patients.items():
        lines.append(f"{name},{heart.volumes_ml[0, 2]:.1f},{heart.volumes_ml[1, 2]:.1f}")
    (tmp_path / "truth.csv").write_text("\n".join(lines))
    function(tmp_path / "in", "-o", tmp_path / "out", "--reference", tmp_path / "truth.csv", report=True)
    assert AGREEMENT in (tmp_path / "out" / "report.html").read_text()


def test_labels_as_references(function: Cli, tmp_path: Path, patients: dict[str, Heart]) -> None:
    """What the labels hold is in the report, with agreement over three cases."""
    for name in patients:
        grey = patients[name].frames() / UNIT
        labels = np.abs(grey[..., None] - TISSUE).argmin(-1)
        SMALL.save_nifti(tmp_path / "labels" / f"{name}.nii.gz", frames=labels)
    function(tmp_path / "in", "-o", tmp_path / "out", "--reference", tmp_path / "labels", report=True)
    page = (tmp_path / "out" / "report.html").read_text()
    assert AGREEMENT in page
    assert set(statuses(tmp_path / "out")) == set(patients)


def test_the_report(function: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMRSR_DEBUG", "1")  # a picture that cannot be drawn is an error
    Heart(n_z=7).save_nifti(tmp_path / "in" / "whole_cine.nii.gz")
    SMALL.save_nifti(tmp_path / "in" / "short_cine.nii.gz")
    out = tmp_path / "out"
    function(tmp_path / "in", "-o", out, report=True)
    page = (out / "report.html").read_text()
    assert page.count("<section") == 2
    assert page.count("data:image/") >= 2 * 4
    flags = read(out / "short_cine_function.json")["flags"]
    assert {"few_slices", "base_missing"} <= {flag["code"] for flag in flags}
    for flag in flags:
        assert flag["message"] in page
    assert read(out / "whole_cine_function.json")["flags"] == []
    ef = read(out / "whole_cine_function.json")["lv"]["ef_percent"]
    assert f"{ef:.0f}" in page
    assert "Cardiac function" in page
