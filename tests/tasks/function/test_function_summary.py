"""Rows, comparisons and the page of an evaluation whose errors are known."""

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cmrsr.io.outputs import write_json_atomic
from cmrsr.report.report import ReportRun
from cmrsr.tasks.function.evaluation.charts import pictures
from cmrsr.tasks.function.evaluation.page import protocol_words, write_function_page
from cmrsr.tasks.function.evaluation.protocol import FULL, MASKS, REGRESSION, RESTORED, CaseScore, Protocol
from cmrsr.tasks.function.evaluation.record import as_csv, summary
from cmrsr.tasks.function.evaluation.summary import (
    BY_EF,
    BY_PROBABILITY,
    compare_errors,
    compare_images,
    compare_overlap,
    detections,
    engine_rows,
    rows_of,
)
from tests.tasks.function.function_runs import ENGINE, FakeEngine, results_of

PROTOCOL = Protocol(crop=48)
NAMES = [ENGINE]


@pytest.fixture(scope="module")
def results() -> list[CaseScore]:
    return results_of()


@pytest.fixture(scope="module")
def ablation() -> list[CaseScore]:
    """Two engines: the second finds no heart in one case, and restores nothing."""
    return results_of(
        **{"full": FakeEngine({}), "function-only": FakeEngine({}, bias=9.0, blind=("p2/sa",), restores=False)}
    )


def test_agreement_has_the_known_errors(results: list[CaseScore]) -> None:
    rows = {(row.condition, row.source): row for row in rows_of(results, NAMES, PROTOCOL)}
    exact, direct = rows[FULL.name, MASKS].agreement["EF"], rows[FULL.name, REGRESSION].agreement["EF"]
    assert_allclose([exact.mae, direct.bias, direct.mae], [0, 3, 3], atol=1e-9)
    assert_allclose(direct.r, 1)
    assert "mass" not in rows[FULL.name, REGRESSION].agreement
    assert rows[RESTORED.name, MASKS].agreement["EDV"].bias < -0.5
    assert {row.n_failed for row in rows.values()} == {0}


def test_detection_by_both_rules(results: list[CaseScore]) -> None:
    found = detections(results, NAMES, PROTOCOL)
    for rule in (BY_PROBABILITY, BY_EF):
        one = found[ENGINE, FULL.name, rule]
        assert (one.n_positive, one.n_negative, one.auc) == (2, 2, 1)
    assert found[ENGINE, FULL.name, BY_EF].sensitivity == 1


def test_images_are_tested_against_zero_filling(results: list[CaseScore]) -> None:
    found = {(c.method, c.metric): c for c in compare_images(results, NAMES)}
    ours = found[RESTORED.name, "PSNR (dB)"]
    assert_allclose(ours.patient_tests["zero-filling"].mean_difference, 6.02, atol=0.01)
    assert (ours.per_image.n, ours.per_patient.n) == (4 * 8, 4)
    assert found["bicubic", "TCI"].per_image.n == 4


def test_errors_are_tested_by_patient(results: list[CaseScore]) -> None:
    found = {(c.method, c.metric): c for c in compare_errors(results, NAMES, PROTOCOL)}
    direct = found["full resolution, regression", "EF error (points)"]
    assert_allclose(direct.per_patient.mean, 3)
    assert list(direct.patient_tests) == ["zero-filled, masks"]
    overlap = {(c.method, c.metric): c for c in compare_overlap(results, NAMES, PROTOCOL)}
    assert overlap["full resolution", "Dice LV"].per_image.mean == 1


def test_one_row_an_engine(ablation: list[CaseScore]) -> None:
    first, second = engine_rows(ablation, ["full", "function-only"], PROTOCOL)
    assert (first.engine, first.condition, first.n_failed) == ("full", "super-resolved", 0)
    assert (second.engine, second.condition, second.n_failed) == ("function-only", "zero-filled", 1)
    assert "PSNR (dB)" not in second.figures
    assert second.figures["EF error by regression"] > first.figures["EF error by regression"]
    failed = {
        (row.engine, row.condition): row.n_failed for row in rows_of(ablation, ["full", "function-only"], PROTOCOL)
    }
    assert failed["function-only", "super-resolved"] == 4
    names = {c.method for c in compare_errors(ablation, ["full", "function-only"], PROTOCOL)}
    assert "function-only: zero-filled, masks" in names
    assert "function-only: super-resolved, masks" not in names
    tested = compare_errors(ablation, ["full", "function-only"], PROTOCOL)[-1]
    assert list(tested.patient_tests) == ["full: zero-filled, masks", "full: super-resolved, masks"]
    assert tested.per_patient.n == 3


def test_everything_is_written_down(ablation: list[CaseScore], tmp_path: Path) -> None:
    names = ["full", "function-only"]
    record = summary(ablation, names, PROTOCOL)
    write_json_atomic(tmp_path / "a.json", record)
    read = json.loads((tmp_path / "a.json").read_text())
    assert [row["engine"] for row in read["engines"]] == names
    assert len(read["failures"]) == 3 + 3
    assert "p2/sa (function-only, full resolution): p2/sa: no left ventricle was found" in read["failures"]
    rows = list(csv.DictReader(io.StringIO(as_csv(ablation, names, PROTOCOL))))
    assert len(rows) == 4 * 2 * 3
    assert [row["status"] for row in rows].count("failed") == 6
    exact = [row for row in rows if row["condition"] == FULL.name and row["engine"] == "full"]
    assert_allclose([float(row["EF"]) for row in exact], [float(row["reference EF"]) for row in exact], rtol=1e-5)
    assert {row["PSNR (dB)"] for row in exact} == {""}
    restored = [row for row in rows if row["condition"] == RESTORED.name and row["engine"] == "full"]
    means = [r.images["full"]["PSNR (dB)"].mean() for r in ablation]
    assert_allclose([float(row["PSNR (dB)"]) for row in restored], means, rtol=1e-5)


@pytest.mark.parametrize("several", [False, True])
def test_the_page(results: list[CaseScore], ablation: list[CaseScore], several: bool, tmp_path: Path) -> None:
    found, names = (ablation, ["full", "function-only"]) if several else (results, NAMES)
    run = ReportRun(
        title="Evaluation of cardiac function", command="cmrsr evaluate function", version="1",
        started=datetime(2025, 1, 1, tzinfo=UTC), seconds=1.0, engine=", ".join(names), engine_digest="0" * 64,
    )  # fmt: skip
    write_function_page(
        tmp_path / "a.html", found, names, PROTOCOL, run, words=protocol_words(found, PROTOCOL),
        pictures=[] if several else pictures(found, names, PROTOCOL), not_scored=["p9: truncated <file>"],
    )  # fmt: skip
    page = (tmp_path / "a.html").read_text()
    for words in ("Engines", "in print (UK Biobank), not measured here", "bias [limits of agreement]", "AUC", "Dice LV",
                  "p9: truncated &lt;file&gt;", "TCI"):  # fmt: skip
        assert words in page
    assert ("1 of 4 without" in page) == several
    assert ("difference to full: super-resolved, masks" in page) == several
    drawn = ("EF: full resolution, masks", "EF below 50 %", "Images by patient", "p1/sa: frame 1, slice 1")
    assert [f"<h3>{title}</h3><img" in page for title in drawn] == [not several] * 4


def test_full_resolution_alone(tmp_path: Path) -> None:
    protocol = Protocol(scale=1)
    found = results_of((0.7, 0.3), protocol)
    assert not compare_images(found, NAMES)
    (row,) = engine_rows(found, NAMES, protocol)
    assert row.condition == FULL.name
    assert "TCI" not in " ".join(protocol_words(found, protocol))
    assert np.isfinite(summary(found, NAMES, protocol)["agreement"][0]["agreement"]["EF"]["mae"])
