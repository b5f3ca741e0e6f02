"""``cmrsr info PATH``: what is in a folder, what each command would do with it, and that nothing is written."""

import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

from cmrsr.batch.verdict import Verdict
from cmrsr.cli import run
from cmrsr.cli.info_table import Seen, print_series, size_in_words
from cmrsr.diagnostics import verdicts
from cmrsr.diagnostics.series_facts import facts_of, plane_of
from cmrsr.errors import EngineError
from cmrsr.io.series import Series
from tests.conftest import oblique_affine, perfusion_frames, save_nifti
from tests.io.dicom.dicom_files import images, write_series

Capture = pytest.CaptureFixture[str]
COMMANDS = ["sr", "interp4d", "function", "mie"]


def tree(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(p), p.stat().st_mtime_ns) for p in folder.rglob("*"))


def info(*arguments: object, capfd: Capture, code: int = 0) -> dict[str, Any]:
    assert run(["info", *map(str, arguments), "--json"]) == code
    record: dict[str, Any] = json.loads(capfd.readouterr().out)
    return record


def works(entry: dict[str, Any]) -> list[str]:
    return [command for command, verdict in entry["commands"].items() if verdict["works"]]


def uid(number: int) -> dict[str, str]:
    return {"SeriesInstanceUID": f"1.2.826.0.1.3680043.8.498.4.{number}"}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A cine, a perfusion series, a phase image, a label map, a text file."""
    folder = tmp_path / "study"
    cine = {"SeriesDescription": "cine SAX", "SeriesNumber": 3, "ManufacturerModelName": "Model", **uid(3)}
    write_series(
        folder / "a", images(12, 4, 64, 64), edit=lambda ds, t, z: setattr(ds, "TriggerTime", f"{t * 40}"), **cine
    )
    write_series(folder / "b", images(9, 1, 64, 64), SeriesNumber=5, **uid(5))
    write_series(folder / "c", images(9, 1, 64, 64), ImageType=["ORIGINAL", "PRIMARY", "P"], SeriesNumber=6, **uid(6))
    save_nifti(folder / "p1_label.nii.gz", perfusion_frames() > 300)
    (folder / "notes.md").write_text("x")
    return folder


def test_every_series_with_its_facts_and_verdicts(study: Path, capfd: Capture) -> None:
    before = tree(study.parent)
    record = info(study, capfd=capfd)
    assert tree(study.parent) == before
    cine, perfusion, phase = record["series"]
    assert (cine["name"], cine["format"], cine["files"]) == ("a/3_cine_SAX", "dicom", 48)
    assert cine["bytes"] == sum(p.stat().st_size for p in (study / "a").iterdir())
    assert (cine["kind"], cine["shape_tzyx"]) == ("cine", [12, 4, 64, 64])
    assert cine["spacing_mm_zyx"] == pytest.approx([8, 1.5, 1.25])
    assert cine["times_ms"] == {"first": 0, "last": 440, "step": 40, "even": True, "from": "TriggerTime"}
    assert (cine["phase_axis"], cine["scanner"]) == ("x", "Tests Model 1.5 T")
    assert works(cine) == ["sr", "interp4d", "function"]
    assert "made for perfusion" in cine["commands"]["sr"]["remarks"][0]
    assert works(perfusion) == ["sr", "interp4d"]
    assert "one slice, expected a short-axis stack" in perfusion["commands"]["function"]["message"]
    assert (phase["component"], works(phase)) == ("phase images", [])
    assert "phase images, expected magnitude images" in phase["commands"]["sr"]["message"]
    assert [(one["rule"], one["count"]) for one in record["left_out"]] == [("label map", 1), (".md file", 1)]


def test_nothing_about_the_patient(study: Path, capfd: Capture) -> None:
    text = json.dumps(info(study, capfd=capfd))
    assert run(["info", str(study)]) == 0
    text += capfd.readouterr().out
    for word in ("Phantom^One", "Phantom", 'P1"', "19700101", "1970"):
        assert word not in text


def test_the_terminal_says_the_same(study: Path, capfd: Capture) -> None:
    assert run(["info", str(study)]) == 0
    text = capfd.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    words = " ".join(text.split())
    for part in (
        "3 series, 66 files", "3_cine_SAX in a", "cine, oblique 12 × 4 × 64 × 64 8 × 1.5 × 1.25 mm",
        "440 ms, steps of 40 ms", "~ sr ✓ interp4d ✓ function ✕ mie", "DICOM, 48 files", "from TriggerTime",
        "phase images, expected magnitude images", "left out: 1 x label map", "other files: 1 x .md file", "--deep",
    ):  # fmt: skip
        assert part in words, part


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_it_fits_the_terminal(width: int) -> None:
    series = Series.from_array(perfusion_frames(20, 10), affine=oblique_affine(), times_ms=np.arange(20) * 38.25)
    verdict = {"sr": Verdict(works=False, message="word " * 60), "mie": Verdict(works=True)}
    rows = [
        Seen(
            name=f"folder/name_{n}" * (1 + 3 * n), format="nifti", n_files=1, n_bytes=10**7, paths=(Path("x.nii"),),
            facts=facts_of(series), verdicts=verdict,  # type: ignore[arg-type]
        )
        for n in range(3)
    ]  # fmt: skip
    stream = io.StringIO()
    print_series(rows, (), [Path("folder")], Console(file=stream, width=width), deep=False)
    assert max(map(len, stream.getvalue().splitlines())) <= width
    assert "20 × 10 × 48 × 40" in stream.getvalue()


def test_many_series_alike_are_one_paragraph(tmp_path: Path, capfd: Capture) -> None:
    for n in range(40):
        save_nifti(tmp_path / f"p{n:02d}.nii.gz", perfusion_frames(4, 1))
    assert run(["info", str(tmp_path)]) == 0
    text = capfd.readouterr().out
    assert "p11" in text
    assert "p12" not in text
    assert "and 28 more like these, to number 40" in text
    assert text.count("✓ sr") == 1


def test_series_treated_alike_share_the_line_of_commands(tmp_path: Path, capfd: Capture) -> None:
    for n in (1, 2, 3):
        save_nifti(tmp_path / f"p{n}.nii.gz", perfusion_frames(4 + n, 1))
    assert run(["info", str(tmp_path)]) == 0
    text = capfd.readouterr().out
    for n in (1, 2, 3):
        assert f"{n}  p{n}  unknown, " in text
        assert f"  {4 + n} × 1 × 48 × 40  " in text
    assert text.count("✓ sr") == 1
    assert "NIfTI, 3 files" in text


@pytest.mark.parametrize(
    ("n", "wanted"),
    [(0, "0 bytes"), (1, "1 byte"), (1023, "1023 bytes"), (2**10, "1 KiB"), (1000 * 2**10, "1000 KiB"),
     (2**20 - 1, "1 MiB"), (15 * 2**20, "15 MiB"), (int(1.5 * 2**30), "1.5 GiB")],
)  # fmt: skip
def test_sizes(n: int, wanted: str) -> None:
    assert size_in_words(n) == wanted


# ---- what each command would do --------------------------------------------------------------------------------------


def test_a_study_of_cine_and_t1_is_for_mie(tmp_path: Path, capfd: Capture) -> None:
    save_nifti(tmp_path / "cine.nii.gz", np.ones((12, 3, 80, 80)))
    save_nifti(tmp_path / "t1.nii.gz", np.ones((8, 3, 80, 80)))
    (tmp_path / "t1.json").write_text(json.dumps({"InversionTime": [0.1, 0.18, 0.26, 1, 1.1, 1.2, 2, 3]}))
    cine, t1 = info(tmp_path, capfd=capfd)["series"]
    assert t1["commands"]["mie"] == {"works": True, "message": "with the cine cine", "remarks": []}
    assert cine["commands"]["mie"] == {"works": True, "message": "as the cine of t1", "remarks": []}
    assert t1["times_ms"]["from"] == "InversionTime" or t1["kind"] == "t1"


def test_two_phases_are_one_series_for_function(tmp_path: Path, capfd: Capture) -> None:
    for name in ("sa_ED", "sa_ES"):
        nib.save(nib.Nifti1Image(np.full((80, 80, 5), 7, np.int16), oblique_affine()), tmp_path / f"{name}.nii.gz")
    for entry in info(tmp_path, capfd=capfd)["series"]:
        assert "--time-axis" in entry["error"]
        assert works(entry) == ["function"]
        assert entry["commands"]["function"]["message"] == "joined with the other phase as sa_ED_ES"


def test_by_the_voxels(tmp_path: Path, capfd: Capture) -> None:
    """What only the voxels show is found with --deep alone, as the commands find it."""
    frames = perfusion_frames(5, 1)
    data = frames.transpose(3, 2, 1, 0).copy()
    data[3, 3, 0, 2] = np.nan
    nib.save(nib.Nifti1Image(data, oblique_affine()), tmp_path / "x.nii.gz")
    (entry,) = info(tmp_path, capfd=capfd)["series"]
    assert works(entry) == ["sr", "interp4d"]
    (entry,) = info(tmp_path, "--deep", capfd=capfd)["series"]
    assert works(entry) == []
    assert "1 NaN or infinite" in entry["commands"]["sr"]["message"]


def test_a_missing_engine_is_a_verdict(tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    save_nifti(tmp_path / "x.nii.gz", perfusion_frames(5, 1))
    bundles = verdicts.load_bundles() | {"sr": EngineError("no engine 'perfgen-s'")}
    monkeypatch.setattr(verdicts, "load_bundles", lambda: bundles)
    (entry,) = info(tmp_path, capfd=capfd)["series"]
    assert entry["commands"]["sr"]["message"] == "no engine 'perfgen-s'"


@pytest.mark.parametrize("deep", [[], ["--deep"]])
def test_a_verdict_is_what_the_command_does(study: Path, tmp_path: Path, capfd: Capture, deep: Sequence[str]) -> None:
    """The cheap commands are run: what is said to work does, and what is refused is, with the same words."""
    for entry in info(study, *deep, capfd=capfd)["series"]:
        folder = study / Path(entry["name"]).parent
        for command in ("sr", "interp4d"):
            verdict = entry["commands"][command]
            code = run([command, str(folder), "-o", str(tmp_path / "out"), "--no-report", "-q"])
            assert (code == 0) == verdict["works"], (entry["name"], command)
            said = capfd.readouterr().err
            assert verdict["works"] or verdict["message"].split(": ", 1)[1] in said
            shutil.rmtree(tmp_path / "out", ignore_errors=True)


# ---- exit codes and requests -----------------------------------------------------------------------------------------


def test_exit_codes(tmp_path: Path, capfd: Capture) -> None:
    assert run(["info", str(tmp_path)]) == 3
    (tmp_path / "bad.nii.gz").write_bytes(b"x" * 400)
    assert run(["info", str(tmp_path)]) == 3
    assert "✕" in capfd.readouterr().out
    save_nifti(tmp_path / "good.nii.gz", perfusion_frames(4, 1))
    assert run(["info", str(tmp_path)]) == 8
    assert run(["info", str(tmp_path / "good.nii.gz")]) == 0


def test_many_equal_failures_are_one_line(tmp_path: Path, capfd: Capture) -> None:
    for n in range(240):
        (tmp_path / f"bad{n}.nii.gz").write_bytes(b"x" * 400)
    assert run(["info", str(tmp_path)]) == 3
    assert " ".join(capfd.readouterr().out.split()).count("240 cases failed alike") == 1


@pytest.mark.parametrize("option", [["--selftest"], ["--bench"], ["--engine", "x"], ["--threads", "1"]])
def test_options_of_the_installation_want_no_path(option: list[str], tmp_path: Path, capfd: Capture) -> None:
    assert run(["info", str(tmp_path), *option]) == 2
    assert "leave PATH out" in capfd.readouterr().err


@pytest.mark.parametrize("option", [["--deep"], ["--time-axis", "0"], ["--on-missing", "drop-frame"]])
def test_options_of_series_want_a_path(option: list[str], capfd: Capture) -> None:
    assert run(["info", *option]) == 2
    assert "name a file or folder" in capfd.readouterr().err


def test_the_options_of_the_commands_are_there(tmp_path: Path, capfd: Capture) -> None:
    nib.save(nib.Nifti1Image(np.ones((5, 32, 24), np.int16), np.eye(4)), tmp_path / "x.nii")
    assert run(["info", str(tmp_path)]) == 4
    (entry,) = info(tmp_path, "--time-axis", "0", capfd=capfd)["series"] if capfd.readouterr() else []
    assert entry["shape_tzyx"] == [5, 1, 32, 24]


# ---- planes ----------------------------------------------------------------------------------------------------------


def plane(normal: Sequence[float], n_z: int = 1) -> str:
    """Of slices with this normal (RAS)."""
    axis = np.asarray(normal, float) / np.linalg.norm(normal)
    x = np.cross(axis, [0.3, 0.8, 0.5])
    affine = np.eye(4)
    affine[:3, :3] = np.stack([x / np.linalg.norm(x), np.cross(axis, x) / np.linalg.norm(x), axis], 1)
    return plane_of(Series.from_array(np.ones((1, n_z, 8, 8)), affine=affine))


@pytest.mark.parametrize("sign", [1, -1])
def test_planes_in_words(sign: int) -> None:
    heart = sign * np.array([-0.66, 0.56, -0.50])
    for normal, word in (((0, 0, 1), "axial"), ((1, 0.1, 0), "sagittal"), ((0, 1, -0.1), "coronal")):
        assert plane(sign * np.array(normal)) == word
    assert plane(heart) == "short axis"
    assert plane(heart + np.array([0.3, 0.2, 0.2]), 9) == "short axis"
    for across in ([0.5, 0.5, 0.1], [0.1, 0.4, 0.5], [0.6, 0.1, -0.5]):
        assert plane(np.cross(heart, across)) == "long axis"
    assert plane([-0.9, 0.6, 0.45]) == "oblique"


def test_real_folders(real_data: Path, capfd: Capture) -> None:
    for folder, kind, word in (
        ("perfusion-dicom", "perfusion", "short axis"), ("cine-beats-sunnybrook", "unknown", "short axis"),
    ):  # fmt: skip
        series = info(real_data / folder, capfd=capfd)["series"]
        assert {(one["kind"], one["plane"]) for one in series} == {(kind, word)}
