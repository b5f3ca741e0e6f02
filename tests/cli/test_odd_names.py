"""Names of files and folders that nobody expects: every other case is done, and all records can be read."""

import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from cmrsr.cli import run
from cmrsr.io.printable import MAX_STEM_BYTES, printable, safe_name, short_name, storable
from tests.conftest import save_nifti
from tests.engines import acquired_frames
from tests.io.dicom.dicom_files import images, write_series

FRAMES = acquired_frames(3)
Capture = pytest.CaptureFixture[str]
LATIN = os.fsdecode(b"P\xe9rez")
JAPANESE = os.fsdecode("心臓".encode("shift-jis"))
ODD = {
    "not UTF-8": f"m_{LATIN}",
    "Shift-JIS": JAPANESE,
    "255 bytes": "m" * (255 - len(".nii.gz")),
    "255 bytes of two": "é" * ((255 - len(".nii.gz")) // 2),
    "a line end": "m\nrun.json",
    "a carriage return": "m\rok",
    "escape sequences": "m\x1b[31mred\x1b[2J\x07",
    "control characters": "m\x01\x02\x7f\x85",
    "markup": "[bold red]m[dim] [link=x]:heart:",
    "unbalanced markup": "m[red",
    "html": "<script>alert(1)</script>".replace("/", ":"),
    "turned text": "m\u202egpj.exe",
    "a leading dash": "-m --force",
    "spaces": " m  x ",
    "quotes": "m'\"`$(id)`;&|",
    "percent": "100%E9%s%d{}",
    "emoji": "m🫀👩\u200d⚕️",
    "a backslash": "m\\n\\xe9",
}


class Checked(HTMLParser):
    """A page whose tags are those of the report alone."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag != "script"


def check_records(out: Path, *, n_cases: int) -> dict[str, Any]:
    """Every file of a run is UTF-8, JSON and HTML without control characters; returns run.json."""
    for path in filter(Path.is_file, out.rglob("*.json")):
        json.loads(path.read_text(encoding="utf-8"))
    for line in (out / "audit.jsonl").read_text(encoding="utf-8").splitlines():
        json.loads(line)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", page)
    Checked().feed(page)
    record: dict[str, Any] = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert len(record["cases"]) == n_cases
    return record


def check_terminal(text: str) -> None:
    """Nothing but printable characters and line ends."""
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", text)


def test_odd_names_are_cases_like_any_other(engine: Path, tmp_path: Path, capfd: Capture) -> None:
    study, out = tmp_path / "study", tmp_path / "out"
    for name in ("a_good", *ODD.values(), "z_good"):
        save_nifti(study / f"{name}.nii.gz", FRAMES)
    n = len(ODD) + 2
    assert run(["sr", str(study), "--engine", str(engine), "-o", str(out), "-v"]) == 0
    record = check_records(out, n_cases=n)
    assert {case["status"] for case in record["cases"]} == {"ok"}
    assert len(list(out.glob("*_sr.nii.gz"))) == n
    captured = capfd.readouterr()
    check_terminal(captured.err + captured.out)
    assert sum(line.startswith("✓") for line in captured.err.splitlines()) == n
    assert run(["sr", str(study), "--engine", str(engine), "-o", str(out)]) == 0  # and is found done before
    assert {case["status"] for case in check_records(out, n_cases=n)["cases"]} == {"skipped"}
    assert run(["info", str(study)]) == 0
    check_terminal(capfd.readouterr().out)


def test_odd_names_that_fail_fail_alone(engine: Path, tmp_path: Path, capfd: Capture) -> None:
    study, out = tmp_path / "study", tmp_path / "out"
    save_nifti(study / "z_good.nii.gz", FRAMES)
    (study / "sub").mkdir()
    for name in ODD.values():
        (study / f"{name}.nii.gz").write_bytes(b"no image" * 100)
        (study / "sub" / f"{name}.dcm").write_bytes(b"no image" * 100)
    assert run(["sr", str(study), "--engine", str(engine), "-o", str(out)]) == 8
    cases = check_records(out, n_cases=3)["cases"]
    assert [(case["status"], case["exit_code"], case.get("failed_alike", 1)) for case in cases] == [
        ("failed", 3, len(ODD)), ("failed", 3, len(ODD)), ("ok", 0, 1),
    ]  # fmt: skip
    text = capfd.readouterr().err
    check_terminal(text)
    assert len(text.splitlines()) <= 6
    assert run(["info", str(study), "--json"]) == 8
    assert len(json.loads(capfd.readouterr().out)["series"]) == 2 * len(ODD) + 1


@pytest.mark.parametrize("kind", ["nifti", "dicom"])
def test_odd_folders(kind: str, engine: Path, tmp_path: Path) -> None:
    odd = [*ODD.values(), "d" * 255]
    for number, name in enumerate(odd):
        folder = tmp_path / "study" / name / name
        if kind == "dicom":
            uid = f"1.2.826.0.1.3680043.8.498.9.{number}"
            write_series(folder, images(3, 1, 32, 24), SeriesInstanceUID=uid, StudyInstanceUID=f"{uid}.1")
        else:
            save_nifti(folder / "scan.nii.gz", FRAMES)
    save_nifti(tmp_path / "study" / "z_good.nii.gz", FRAMES)
    assert run(["sr", str(tmp_path / "study"), "--engine", str(engine), "-q"]) == 0
    record = check_records(tmp_path / "study_cmrsr", n_cases=len(odd) + 1)
    assert all(Path(output).exists() for case in record["cases"] for output in case["outputs"])


@pytest.mark.parametrize("name", ODD.values(), ids=ODD)
def test_an_odd_name_that_is_named_itself(
    name: str, engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_nifti(tmp_path / f"{name}.nii.gz", FRAMES)
    assert run(["sr", str(tmp_path / f"{name}.nii.gz"), "--engine", str(engine), "-q", "--no-report"]) == 0
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_bytes(os.fsencode("./" + name.strip()) + b".nii.gz\n")
    if not set(name) & set("\n\r") and name == name.strip():  # a list has one name a line
        assert run(["sr", "list.txt", "--engine", str(engine), "-o", "out", "-q", "--no-report"]) == 0


@pytest.mark.parametrize("length", [256, 5000])
def test_a_name_that_cannot_be(length: int, engine: Path, tmp_path: Path, capfd: Capture) -> None:
    save_nifti(tmp_path / "a.nii.gz", FRAMES)
    assert run(["sr", "x" * length, "--engine", str(engine)]) == 3
    assert run(["sr", str(tmp_path / "a.nii.gz"), "-o", "x" * length, "--engine", str(engine)]) == 7
    (tmp_path / "list.txt").write_text(f"a.nii.gz\n{'x' * length}\n")
    assert run(["sr", str(tmp_path / "list.txt"), "-o", str(tmp_path / "out"), "--engine", str(engine)]) == 8
    assert "unexpected" not in capfd.readouterr().err


def test_very_deep_folders(engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So deep that no program can name the file by its whole path: the others are done."""
    save_nifti(tmp_path / "study" / "good.nii.gz", FRAMES)
    save_nifti(tmp_path / "scan.nii.gz", FRAMES)
    with monkeypatch.context() as inside:
        inside.chdir(tmp_path / "study")
        for _ in range(16):
            Path("d" * 250).mkdir()
            inside.chdir("d" * 250)
        shutil.copy(tmp_path / "scan.nii.gz", "s.nii.gz")
    out = tmp_path / "out"
    assert run(["sr", str(tmp_path / "study"), "--engine", str(engine), "-o", str(out), "-q"]) in (0, 8)
    record = json.loads((out / "run.json").read_text())
    assert "good" in [case["case"] for case in record["cases"] if case["status"] == "ok"]


# ---- the pieces ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("plain é 心", "plain é 心"),
        (LATIN, r"P\xe9rez"),
        ("a\nb\x1b[0m", r"a\nb\x1b[0m"),
        ("\u202e", r"\u202e"),
        ("\ud800", r"\ud800"),
    ],
)
def test_text_for_a_line(text: str, wanted: str) -> None:
    assert printable(text) == wanted


@pytest.mark.parametrize("name", [LATIN, JAPANESE, f"{LATIN}\\xe9", "plain\\x", "é"])
def test_text_for_json_is_reversible(name: str) -> None:
    stored = storable(name).encode()
    changed = stored != os.fsencode(name)
    assert changed == any("\udc80" <= character <= "\udcff" for character in name)
    assert (_unescaped(stored) if changed else stored) == os.fsencode(name)


def _unescaped(stored: bytes) -> bytes:
    return re.sub(rb"\\(\\|x[0-9a-f]{2})", lambda m: b"\\" if m[1] == b"\\" else bytes([int(m[1][1:], 16)]), stored)


def test_names_for_results() -> None:
    assert safe_name(LATIN) == "P%E9rez"
    assert safe_name("a\nb") == "a%0Ab"
    assert safe_name("p01 rest é") == "p01 rest é"
    long, longer = "m" * 250, "m" * 251
    assert len({safe_name(long), safe_name(longer)}) == 2
    assert max(len(safe_name(name).encode()) for name in (long, "é" * 125, LATIN * 40)) <= MAX_STEM_BYTES
    assert safe_name(safe_name(long)) == safe_name(long)
    assert short_name(long) == safe_name(long) == short_name(long)


def test_a_shortened_name_is_noted(engine: Path, tmp_path: Path) -> None:
    path = tmp_path / f"{'m' * 240}.nii.gz"
    save_nifti(path, FRAMES)
    assert run(["sr", str(path), "--engine", str(engine), "-o", str(tmp_path / "out"), "-q"]) == 0
    (sidecar,) = (tmp_path / "out").glob("*_sr.json")
    (note,) = (note for note in json.loads(sidecar.read_text())["notes"] if "its results are named" in note)
    assert sidecar.name.removesuffix("_sr.json") in note
