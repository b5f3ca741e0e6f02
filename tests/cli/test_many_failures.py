"""Many equal failures: one line, one entry, one row; and what records and reports them never stops the others."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmrsr.batch.run import CaseResult, Listener, run_batch
from cmrsr.cli import run
from cmrsr.errors import UnreadableError
from cmrsr.io.candidate import Candidate, Refused
from cmrsr.io.outputs import plain_json
from cmrsr.io.series import Series
from tests.conftest import save_nifti
from tests.engines import acquired_frames

Capture = pytest.CaptureFixture[str]
N = 240


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    save_nifti(folder / "m_good.nii.gz", acquired_frames(3))
    for n in range(N):
        (folder / f"{'az'[n % 2]}_scan{n:03d}.nii.gz").write_bytes(b"no image" * 50)
    return folder


def test_equal_failures_are_one_of_each(study: Path, engine: Path, tmp_path: Path, capfd: Capture) -> None:
    out = tmp_path / "out"
    assert run(["sr", str(study), "--engine", str(engine), "-o", str(out)]) == 8
    first = f"{study / 'a_scan000.nii.gz'}: expected a NIfTI file, found another kind of file"
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[0] == f"✕ {N // 2} cases failed alike; the first: {first}"
    assert lines[1].startswith("✓ m_good")
    assert lines[2] == f"✕ {N // 2} more cases failed like a_scan000"
    record = json.loads((out / "run.json").read_text())
    entry, good = record["cases"]
    assert good["case"] == "m_good"
    assert (entry["case"], entry["status"], entry["message"], entry["failed_alike"]) == (
        "a_scan000",
        "failed",
        first,
        N,
    )
    assert len({entry["case"], *entry["others"]}) == N
    page = (out / "report.html").read_text()
    assert page.count("<section") == 2
    assert page.count("expected a NIfTI file") == 2  # the pattern in its row, the first message in its section
    assert len(set(re.findall("scan[0-9]{3}", page))) == N
    assert f"<summary>{N} names</summary>" in page
    assert len((out / "audit.jsonl").read_text().splitlines()) == N + 1


def test_one_failure_looks_as_ever(engine: Path, tmp_path: Path, capfd: Capture) -> None:
    save_nifti(tmp_path / "study" / "good.nii.gz", acquired_frames(3))
    (tmp_path / "study" / "bad.nii.gz").write_bytes(b"x" * 400)
    assert run(["sr", str(tmp_path / "study"), "--engine", str(engine)]) == 8
    (line,) = (line for line in capfd.readouterr().err.splitlines() if line.startswith("✕"))
    assert line.endswith("bad.nii.gz: expected a NIfTI file, found another kind of file")
    record = json.loads((tmp_path / "study_cmrsr" / "run.json").read_text())
    assert "failed_alike" not in record["cases"][0]


def test_what_was_left_out_is_in_the_record_and_the_report(engine: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    save_nifti(study / "p1.nii.gz", acquired_frames(3))
    for n in range(5):
        save_nifti(study / f"p{n}_label.nii.gz", acquired_frames(3) > 100)
    assert run(["sr", str(study), "--engine", str(engine), "-q"]) == 0
    (entry,) = json.loads((tmp_path / "study_cmrsr" / "run.json").read_text())["left_out"]
    assert (entry["rule"], entry["count"], len(entry["examples"])) == ("label map", 5, 3)
    assert entry["way_out"] == "name the file itself to use it"
    assert "left out: 5 x label map, such as" in (tmp_path / "study_cmrsr" / "report.html").read_text()


# ---- what fails outside the expected class ---------------------------------------------------------------------------


def test_a_library_error_on_reading_is_unreadable(tmp_path: Path) -> None:
    def broken() -> Series:
        raise RecursionError("too\ndeep")

    with pytest.raises(UnreadableError, match=r"x\.nii: cannot be read \(RecursionError: too deep\)"):
        Candidate(name="x", format="nifti", paths=(tmp_path / "x.nii",), open=broken).open()

    def frame(t: int) -> Any:
        raise KeyError("no such frame")

    series = Series(shape=(2, 1, 8, 8), affine=np.eye(4), reader=frame)
    opened = Candidate(name="x", format="nifti", paths=(tmp_path / "x.nii",), open=lambda: series).open()
    with pytest.raises(UnreadableError, match=r"x\.nii, frame 2: cannot be read"):
        opened.frame(1)


def test_a_library_error_on_writing_is_an_output_error(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("Invalid value for VR UI")

    save_nifti(tmp_path / "a.nii.gz", acquired_frames(3))
    monkeypatch.setattr("cmrsr.io.nifti.series.NiftiWriter.write", broken)
    assert run(["sr", str(tmp_path / "a.nii.gz"), "--engine", str(engine)]) == 7
    assert "the result cannot be written (ValueError: Invalid value for VR UI)" in capfd.readouterr().err
    assert not (tmp_path / "a_cmrsr").exists()


def test_a_defect_in_the_work_is_still_one(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("of ours")

    save_nifti(tmp_path / "a.nii.gz", acquired_frames(3))
    monkeypatch.setattr("cmrsr.tasks.sr.run.prepare", broken)
    assert run(["sr", str(tmp_path / "a.nii.gz"), "--engine", str(engine)]) == 1
    assert "report it" in capfd.readouterr().err


def test_a_header_that_breaks_the_reader_is_a_case_of_its_own(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cmrsr.io.dicom.read import instance as dicom_read
    from tests.io.dicom.dicom_files import images, write_series

    paths = write_series(tmp_path / "study" / "dcm", images(4, 1, 32, 24))
    save_nifti(tmp_path / "study" / "good.nii.gz", acquired_frames(3))
    real = dicom_read.read_headers

    def some(files: list[Path]) -> Any:
        if paths[3] in files:
            raise NotImplementedError("Unknown Value Representation '0x4b 0x4f'")
        return real(files)

    monkeypatch.setattr(dicom_read, "read_headers", some)
    assert run(["sr", str(tmp_path / "study"), "--engine", str(engine), "-q", "--no-report"]) == 8
    cases = {c["case"]: c for c in json.loads((tmp_path / "study_cmrsr" / "run.json").read_text())["cases"]}
    assert {name: case["exit_code"] for name, case in cases.items()} == {
        "I003": 3, "dcm/5_perfusion_rest": 0, "good": 0,
    }  # fmt: skip
    assert "Unknown Value Representation" in cases["I003"]["message"]


class Broken(Listener):
    """Cannot report one case."""

    def case_started(self, name: str, n_evaluations: int) -> None: ...
    def evaluated(self, n: int) -> None: ...

    def case_ended(self, result: CaseResult) -> None:
        if result.name == "b":
            raise UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed")


def test_a_case_that_cannot_be_reported_fails_alone(tmp_path: Path) -> None:
    series = Series.from_array(np.zeros((1, 1, 8, 8)))
    cases = [Candidate(name=n, format="nifti", paths=(Path(n),), open=lambda: series) for n in "abc"]
    refused = Refused(name="r", paths=(Path("r"),), error=UnreadableError("r: cut off"))

    def work(one: Candidate, series: Series, listener: Listener) -> CaseResult:
        return CaseResult(name=one.name, status="ok")

    results = run_batch(cases, [refused], work, tmp_path, Broken(), {})
    assert [(r.name, r.exit_code) for r in results] == [("r", 3), ("a", 0), ("b", 1), ("c", 0)]
    assert "could not be reported" in results[2].message


def test_a_section_that_cannot_be_made_costs_that_section(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        save_nifti(tmp_path / "study" / f"{name}.nii.gz", acquired_frames(3))
    from cmrsr.tasks.sr import report as sr_report

    real = sr_report.report_case

    def some(result: CaseResult, *rest: Any, **options: Any) -> Any:
        if result.name == "a":
            raise LookupError("a glyph")
        return real(result, *rest, **options)

    monkeypatch.setattr(sr_report, "report_case", some)
    assert run(["sr", str(tmp_path / "study"), "--engine", str(engine), "-q"]) == 0
    page = (tmp_path / "study_cmrsr" / "report.html").read_text()
    assert page.count("<section") == 2
    assert "its section could not be made (LookupError: a glyph); report this" in page


def test_plain_values() -> None:
    value = {"a\udce9": Path("\udce9"), "n": np.float32("nan"), "x": [np.arange(2), ("\udcff",)]}
    assert plain_json(value) == {"a\\xe9": "\\xe9", "n": None, "x": [[0, 1], ["\\xff"]]}
