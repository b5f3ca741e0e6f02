"""``cmrsr evaluate mie``: virtual patients, studies, several engines, and bad requests."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from cmrsr.cli import evaluate_mie, run
from cmrsr.cli.evaluate_mie import EvaluateMieRequest, run_evaluate_mie_command
from cmrsr.errors import OutputError, UnreadableError, UnusableError, UsageError
from cmrsr.tasks import rooms
from cmrsr.tasks.mie.evaluation import charts as mie_charts
from cmrsr.tasks.mie.evaluation import virtual as mie_virtual
from cmrsr.tasks.mie.evaluation.cases import Case
from cmrsr.tasks.mie.evaluation.virtual import VirtualPatients
from tests.tasks.mie.mie_runs import AFFINE, ENGINE, NONE, SCAR, FakeEngine, made_case

Capture = pytest.CaptureFixture[str]
FILES = ["evaluation.csv", "evaluation.html", "evaluation.json", "slices.csv"]


@dataclass(frozen=True)
class FakeBundle:
    path: Path
    digest: str = "0" * 64


def patient(subject: int) -> Case:
    return made_case(f"subject{subject:03d}", SCAR if subject % 2 == 0 else NONE, moved=(subject, 0))


@pytest.fixture(autouse=True)
def engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every engine is a stand-in that knows the patients; those called blind refuse the second."""
    known = {case.name: case for case in map(patient, (1, 2, 3))}
    known |= {"t1": known["subject002"]}  # as a file of it is called

    def load(name: str, task: str) -> FakeBundle:
        assert task == "mie"
        return FakeBundle(Path(name))

    @contextmanager
    def enhancers(bundles: dict[str, FakeBundle], options: Any, choice: Any) -> Iterator[dict[str, FakeEngine]]:
        assert (options.steps, options.samples) == (2, 3)
        yield {
            name: FakeEngine(known, keeps=0.5 if "half" in name else 1.0, blind=("subject002",) * ("blind" in name))
            for name in bundles
        }

    def virtual(who: VirtualPatients, subject: int, cache: Path | None) -> Case:
        return patient(2 if who.groups == ("infarct",) else subject)

    monkeypatch.setattr(rooms, "load_engine", load)
    monkeypatch.setattr(evaluate_mie, "enhancers", enhancers)
    monkeypatch.setattr(mie_virtual, "virtual_case", virtual)
    monkeypatch.setattr(mie_charts, "pictures", lambda results, names: [])  # slow, and tested elsewhere


def request(out: Path | None = None, **changes: Any) -> EvaluateMieRequest:
    asked: dict[str, Any] = {
        "arguments": ["evaluate", "mie"], "inputs": [], "labels": None, "out": out, "subjects": 3,
        "groups": "normal,infarct", "slices": 3, "frames": 12, "cache": None, "swap": True, "lpips": None,
        "engines": [ENGINE], "reader": "causal-s", "steps": 2, "samples": 3, "seed": 1000, "ti": None, "threshold": 0.5,
        "batch_size": 8, "device": "auto", "backend": "auto", "precision": "auto", "threads": None, "quiet": False,
    }  # fmt: skip
    return EvaluateMieRequest(**(asked | changes))


def saved(out: Path) -> Any:
    assert sorted(path.name for path in out.iterdir()) == FILES
    return json.loads((out / "evaluation.json").read_text())


def test_virtual_patients(tmp_path: Path, capfd: Capture) -> None:
    out = tmp_path / "out"
    assert run_evaluate_mie_command(request(out)) == 0
    captured = capfd.readouterr()
    assert captured.out == ""
    for said in (ENGINE, "in print (CPKDM)", "swapped inputs: 3 of 3 told", str(out / "evaluation.html")):
        assert said in captured.err
    record = saved(out)
    assert (record["n_cases"], record["n_with_scar"], record["virtual_patients"]) == (3, 1, 3)
    assert record["scar"][0]["detection"]["sensitivity"] == 1
    assert record["engine_digests"] == {ENGINE: "0" * 64}
    assert "None of them was seen in training" in (out / "evaluation.html").read_text()


def test_engines_stand_in_one_table_and_a_refusal_is_told(tmp_path: Path, capfd: Capture) -> None:
    out = tmp_path / "out"
    assert run_evaluate_mie_command(request(out, engines=[ENGINE, "half-s,blind-s"], swap=False)) == 8
    assert "subject002 (blind-s): subject002: no left ventricle" in " ".join(capfd.readouterr().err.split())
    record = saved(out)
    assert [row["method"] for row in record["methods"]][:3] == [ENGINE, "half-s", "blind-s"]
    assert record["swapped"] is None
    tested = {name for c in record["images"]["acquired, moved"] for name in c["tests_per_patient"]}
    assert tested == {ENGINE, "best IR image"}


def test_nothing_is_written_where_nothing_was_scored(tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match="no left ventricle"):
        run_evaluate_mie_command(request(tmp_path / "out", engines=["blind"], subjects=2, groups="infarct"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ({"subjects": None}, UsageError, "give STUDY folders"),
        ({"inputs": [Path("study")]}, UsageError, "one of them"),
        ({"seed": 0}, UsageError, "trained on patients of seed 0"),
        ({"labels": Path("masks")}, UsageError, "--labels masks: virtual patients know it"),
        ({"ti": "100,200"}, UsageError, "--ti 100,200"),
        ({"groups": "ill"}, UsageError, "--groups ill"),
        ({"samples": 0}, UsageError, "--samples 0"),
        ({"engines": [","]}, UsageError, "--engine: expected the name"),
        ({"engines": ["a/x", "b/x"]}, UsageError, "another engine x"),
        ({"lpips": Path("none.onnx")}, UnreadableError, "no such file"),
    ],
)
def test_bad_requests(wrong: dict[str, Any], error: type[Exception], said: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=said):
        run_evaluate_mie_command(request(tmp_path / "out", **wrong))
    assert not (tmp_path / "out").exists()


def study(folder: Path, *, late: bool = True) -> Path:
    """The second patient's files."""
    case = patient(2)
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, series in (("cine", case.cine), ("t1", case.t1), ("lge", case.late.series))[: 3 if late else 2]:
        frames = (
            series.array() if name == "lge" else rng.integers(1, 99, (12 if name == "cine" else 8, *series.shape[1:]))
        )
        data = np.asarray(frames, np.float32).transpose(3, 2, 1, 0)
        nib.save(nib.Nifti1Image(data[..., 0] if name == "lge" else data, AFFINE), folder / f"{name}.nii.gz")
    assert case.late.scar is not None
    assert case.late.labels is not None
    codes = np.where(case.late.scar, 4, case.late.labels).astype(np.uint8)
    nib.save(nib.Nifti1Image(codes.transpose(2, 1, 0), AFFINE), folder / "lge_label.nii.gz")
    return folder


def test_studies_with_late_enhancement(tmp_path: Path, capfd: Capture) -> None:
    study(tmp_path / "scans" / "p1")
    study(tmp_path / "scans" / "p2", late=False)
    out = tmp_path / "out"
    assert run_evaluate_mie_command(request(out, inputs=[tmp_path / "scans"], subjects=None)) == 0
    assert "Without late enhancement, not scored: 1 (p2/t1)." in " ".join(capfd.readouterr().err.split())
    record = saved(out)
    assert record["without_reference"] == ["p2/t1"]
    assert record["n_with_scar"] == 1
    assert record["cases"][0]["readings"][ENGINE]["dice"] > 0.95
    assert record["engines"][ENGINE]["strain_all"] is None
    assert record["swapped"] is None  # of one case


def test_studies_without_any(tmp_path: Path) -> None:
    study(tmp_path / "scans" / "p2", late=False)
    with pytest.raises(UnusableError, match="no late enhancement in it"):
        run_evaluate_mie_command(request(tmp_path / "out", inputs=[tmp_path / "scans"], subjects=None))
    with pytest.raises(OutputError):
        run_evaluate_mie_command(request(study(tmp_path / "more" / "p1"), inputs=[tmp_path / "more"], subjects=None))


def test_the_command_line_reaches_it(tmp_path: Path, capfd: Capture) -> None:
    out = tmp_path / "out"
    typed = ["evaluate", "mie", "--subjects", "2", "-o", str(out), "--steps", "2", "--samples", "3", "--no-swap", "-q"]
    assert run(typed) == 0
    assert saved(out)["seed"] == 1000
    assert capfd.readouterr().err == ""
