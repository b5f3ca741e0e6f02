"""``cmrsr evaluate function``: scans with labels or a table, virtual patients, several engines, and bad requests."""

import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.testing import assert_allclose

from cmrsr.cli import evaluate_function
from cmrsr.cli.evaluate_function import EvaluateFunctionRequest, run_evaluate_function_command
from cmrsr.errors import OutputError, UnusableError, UsageError
from cmrsr.tasks import rooms
from cmrsr.tasks.function.evaluation import cases as function_cases
from cmrsr.tasks.function.evaluation.cases import Case
from tests.tasks.function.function_runs import AFFINE, FakeEngine, heart_case

Capture = pytest.CaptureFixture[str]
FILES = ["evaluation.csv", "evaluation.html", "evaluation.json"]
EFS = {"p1": 0.7, "p2": 0.4, "p3": 0.6}


@dataclass(frozen=True)
class FakeBundle:
    path: Path
    digest: str = "0" * 64


def cases() -> dict[str, Case]:
    found = {}
    for number, (name, ef) in enumerate(EFS.items(), start=1):
        case = heart_case(number, ef)
        series = replace(case.series, source=replace(case.series.source, name=f"{name}_sa"))
        found[f"{name}_sa"] = replace(case, name=f"{name}_sa", patient=name, series=series)
    return found


@pytest.fixture(autouse=True)
def engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every engine is a stand-in that knows the cases; those called blind find no heart in the second."""
    known = cases()

    def load(name: str, task: str) -> FakeBundle:
        assert task == "function"
        return FakeBundle(Path(name))

    def measured_by(bundle: FakeBundle, options: Any, choice: Any) -> FakeEngine:
        return FakeEngine(known, blind=("p2_sa",) if bundle.path.name.startswith("blind") else ())

    monkeypatch.setattr(rooms, "load_engine", load)
    monkeypatch.setattr(evaluate_function, "measured_by", measured_by)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Three cines in one folder, their labels in another."""
    for name, case in cases().items():
        labels = np.stack(list(case.reference.labels.values()))
        for folder, volumes in (("scans", case.series.array()), ("labels", labels)):
            (tmp_path / folder).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(volumes.transpose(3, 2, 1, 0), AFFINE), tmp_path / folder / f"{name}.nii.gz")
    return tmp_path / "scans"


def request(scans: Path | None, out: Path | None = None, **changes: Any) -> EvaluateFunctionRequest:
    asked: dict[str, Any] = {
        "arguments": ["evaluate", "function"], "inputs": [scans] if scans else [], "out": out, "subjects": None,
        "labels": scans.with_name("labels") if scans else None, "scale": 2, "crop": 48, "engines": ["causal-s"],
        "steps": 1, "samples": 1, "seed": 1, "batch_size": 8, "time_axis": None, "device": "auto", "backend": "auto",
        "precision": "auto", "threads": None, "quiet": False,
    }  # fmt: skip
    return EvaluateFunctionRequest(**(asked | changes))


def saved(out: Path) -> Any:
    assert sorted(path.name for path in out.iterdir()) == FILES
    return json.loads((out / "evaluation.json").read_text())


def test_scans_with_labels(scans: Path, tmp_path: Path, capfd: Capture) -> None:
    out = tmp_path / "out"
    assert run_evaluate_function_command(request(scans, out)) == 0
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "causal-s" in captured.err
    assert "in print (UK Biobank)" in captured.err
    assert str(out / "evaluation.html") in captured.err
    record = saved(out)
    assert [case["case"] for case in record["cases"]] == list(cases())
    (full,) = [r for r in record["agreement"] if (r["condition"], r["source"]) == ("full resolution", "masks")]
    assert_allclose(full["agreement"]["EF"]["mae"], 0, atol=1e-5)
    assert record["engine_digests"] == {"causal-s": "0" * 64}


def test_a_refused_case_is_listed_and_the_others_go_on(scans: Path, tmp_path: Path, capfd: Capture) -> None:
    (scans / "p4_sa.nii.gz").write_bytes(b"no image")
    labels = scans.with_name("labels")
    wrong = nib.Nifti1Image(np.full((66, 72, 2, 4), 3, np.uint8), np.diag([1.5, 1.5, 6.0, 1]))
    nib.save(wrong, labels / "p3_sa.nii.gz")
    out = tmp_path / "out"
    assert run_evaluate_function_command(request(scans, out, engines=["causal-s", "blind-s"])) == 8
    errors = " ".join(capfd.readouterr().err.split())
    for words in ("p4_sa", "p3_sa.nii.gz: labels", "p2_sa (blind-s, full resolution): p2_sa: no left ventricle"):
        assert words in errors
    record = saved(out)
    assert [row["engine"] for row in record["engines"]] == ["causal-s", "blind-s"]
    assert [row["n_failed"] for row in record["engines"]] == [0, 1]
    assert (len(record["refused_cases"]), len(record["failures"])) == (2, 3)
    with (out / "evaluation.csv").open() as stream:
        assert [row["status"] for row in csv.DictReader(stream)].count("failed") == 3


def test_a_table_of_values_and_a_scan_without_one(scans: Path, tmp_path: Path, capfd: Capture) -> None:
    table = tmp_path / "truth.csv"
    table.write_text("case,lv_ef_percent\np1,70\np2,40\n")
    out = tmp_path / "out"
    assert run_evaluate_function_command(request(scans, out, labels=table)) == 0
    assert "Without a reference, not scored: 1 series (p3_sa)" in " ".join(capfd.readouterr().err.split())
    record = saved(out)
    assert record["without_reference"] == ["p3_sa"]
    assert record["agreement"][0]["agreement"]["EF"]["n"] == 2
    assert not record["comparisons"]["overlap"]


def test_nothing_to_compare_with_leaves_nothing(scans: Path, tmp_path: Path) -> None:
    table = tmp_path / "truth.csv"
    table.write_text("case,lv_ef_percent\nx,70\n")
    with pytest.raises(UnusableError, match="no reference for any of 3 series"):
        run_evaluate_function_command(request(scans, tmp_path / "out", labels=table))
    with pytest.raises(UnusableError, match="no left ventricle"):
        run_evaluate_function_command(request(scans / "p2_sa.nii.gz", tmp_path / "out",
                                              labels=scans.with_name("labels"), engines=["blind"]))  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_virtual_patients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = list(cases().values())
    monkeypatch.setattr(function_cases, "virtual_case", lambda seed, n: replace(known[n - 1], body=known[0].reference))
    out = tmp_path / "out"
    assert run_evaluate_function_command(request(None, out, subjects=2, quiet=True)) == 0
    record = saved(out)
    assert (record["virtual_patients"], record["n_cases"]) == (2, 2)
    assert record["labels_against_body"]["EF"]["n"] == 2
    assert "Virtual patients 1 to 2 of seed 1" in (out / "evaluation.html").read_text()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scale": 3}, "--scale 3"),
        ({"crop": 4}, "--crop 4"),
        ({"steps": 0}, "--steps 0"),
        ({"batch_size": 0}, "--batch-size 0"),
        ({"labels": None}, "--labels"),
        ({"subjects": 2}, "one of them"),
        ({"inputs": []}, "one of them"),
        ({"inputs": [], "subjects": 0}, "--subjects 0"),
        ({"inputs": [], "subjects": 1, "labels": None, "seed": 0}, "--seed 0"),
        ({"inputs": [], "subjects": 1}, "--labels"),
        ({"engines": ["a/causal-s,b/causal-s"]}, "another engine causal-s"),
        ({"engines": [","]}, "--engine"),
        ({"time_axis": "7"}, "--time-axis 7"),
        ({"device": "tpu"}, "--device tpu"),
    ],
)
def test_bad_requests(scans: Path, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        run_evaluate_function_command(request(scans, tmp_path / "out", **changes))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_output_is_never_inside_the_input(scans: Path) -> None:
    with pytest.raises(OutputError, match="is inside the input"):
        run_evaluate_function_command(request(scans, scans / "out"))
    assert not (scans / "out").exists()
