import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cmrsr.physics.volumes import DENSITY_G_ML
from cmrsr.tasks.mie.evaluation.baselines import BEST_INVERSION, IMAGES, T1_THRESHOLD
from cmrsr.tasks.mie.evaluation.charts import chosen_examples, pictures
from cmrsr.tasks.mie.evaluation.page import protocol_words, write_mie_page
from cmrsr.tasks.mie.evaluation.protocol import MOVED, CaseScore, Reading, Swapped, swap
from cmrsr.tasks.mie.evaluation.record import as_csv, slices_as_csv, summary
from cmrsr.tasks.mie.evaluation.summary import (
    EXTENT,
    VOLUME,
    cohen_kappa,
    compare_images,
    compare_scar,
    engine_rows,
    scar_rows,
    shifts_of,
    strain_agreement,
    swap_row,
    transmurality_agreement,
)
from tests.report.test_report import RUN
from tests.tasks.mie.mie_runs import E_CC_BIAS, ENGINE, FakeEngine, cases, results_of

ENGINES = (ENGINE, "half")


@pytest.fixture(scope="module")
def results() -> list[CaseScore]:
    return results_of(**{ENGINE: FakeEngine({}), "half": FakeEngine({}, keeps=0.5, blind=("p4",))})


@pytest.fixture(scope="module")
def swapped(results: list[CaseScore]) -> list[Swapped]:
    known = cases()
    names = list(known)
    return [
        swap(known[a], known[b], FakeEngine(known), results[i].readings[ENGINE])
        for i, (a, b) in enumerate(zip(names, [*names[1:], names[0]], strict=True))
    ]


def reading(results: list[CaseScore], truth: list[float], ours: list[float]) -> Reading:
    """With transmuralities (percent) of the first segments, the others unknown."""
    both = [np.array([*values, *[np.nan] * (16 - len(values))]) for values in (truth, ours)]
    return replace(results[0].readings[ENGINE], true_transmurality=both[0], transmurality=both[1])


def test_scar_by_method(results: list[CaseScore]) -> None:
    rows = {row.method: row for row in scar_rows(results, ENGINES)}
    assert list(rows) == [ENGINE, "half", T1_THRESHOLD]
    ours, half = rows[ENGINE], rows["half"]
    assert ours.detection is not None
    assert (ours.detection.sensitivity, ours.detection.specificity, ours.detection.auc) == (1, 1, 1)
    assert ours.agreement[VOLUME].mae == pytest.approx(0, abs=1e-6)
    assert set(ours.agreement) == {VOLUME, EXTENT}
    assert results[0].scar_g is not None
    lost = results[0].scar_g / DENSITY_G_ML - results[0].readings["half"].scar_ml
    assert half.agreement[VOLUME].bias == pytest.approx(-2 * lost / 3, rel=0.01)  # of three patients, one without
    assert (half.n_failed, half.n_normal, ours.n_normal) == (1, 1, 2)
    assert ours.normal_largest_g == 0
    assert ours.overlap.n == 2
    assert ours.overlap.moved is not None
    assert ours.overlap.unmoved is not None
    assert ours.overlap.moved > ours.overlap.unmoved


def test_classes_of_transmurality(results: list[CaseScore]) -> None:
    one = reading(results, [0, 30, 60, 80, 10], [0, 30, 80, 80, 26])
    found = transmurality_agreement([one])
    assert found.n == 5
    assert found.share == pytest.approx(3 / 5)
    assert (found.n_scarred, found.share_scarred) == (4, pytest.approx(2 / 4))
    assert found.table[2, 3] == 1  # rows are the reference
    assert found.table.sum() == 5
    assert transmurality_agreement([]).share is None


def test_kappa_is_agreement_beyond_chance() -> None:
    assert cohen_kappa(np.diag([3, 5])) == 1
    assert cohen_kappa(np.array([[25, 25], [25, 25]])) == pytest.approx(0)
    assert cohen_kappa(np.array([[20, 5], [10, 15]])) == pytest.approx(0.4)  # Cohen 1960's example of two raters
    assert cohen_kappa(np.array([[7, 0], [0, 0]])) is None


def test_images_are_compared_slice_by_slice(results: list[CaseScore]) -> None:
    found = compare_images(results, [ENGINE], MOVED)
    by = {(c.method, c.metric): c for c in found}
    assert {c.method for c in found} == {ENGINE, *IMAGES}
    assert by[ENGINE, "SSIM"].per_image.n == 12
    assert by[ENGINE, "SSIM in scar"].per_image.n == 6  # of those with scar
    assert BEST_INVERSION in by[ENGINE, "MSE"].patient_tests
    several = compare_images(results, ENGINES, MOVED)
    assert ENGINE in {b for c in several for b in c.image_tests}
    assert {c.per_image.n for c in several if c.metric == "SSIM"} == {9}  # one patient was refused by the second


def test_scar_errors_are_paired(results: list[CaseScore]) -> None:
    by = {(c.method, c.metric): c for c in compare_scar(results, ENGINES)}
    assert by["half", "scar error (mL)"].per_patient.mean > by[ENGINE, "scar error (mL)"].per_patient.mean
    assert by["half", "Dice of scar"].per_patient.n == 2
    assert set(by["half", "Dice of scar"].patient_tests) == {T1_THRESHOLD, ENGINE}


def test_strain_and_shifts(results: list[CaseScore]) -> None:
    middle, everywhere = (strain_agreement(results, ENGINE, middle=m) for m in (True, False))
    assert middle is not None
    assert everywhere is not None
    assert (middle.n, everywhere.n) == (4, 12)
    assert middle.bias == pytest.approx(-E_CC_BIAS - 1, abs=1e-4)
    found = shifts_of(results, ENGINE)
    assert (found.n, found.n_not) == (12, 0)
    assert found.largest_mm == pytest.approx(1.5 * 5**0.5, abs=0.4)


def test_swapped_inputs_stand_beside_own_ones(swapped: list[Swapped]) -> None:
    row = swap_row(swapped)
    assert row is not None
    assert (row.n, row.n_told, row.n_own_told, row.n_refused) == (4, 4, 0, 0)
    assert row.told_ci95 is not None
    assert row.uncertainty is not None
    assert row.uncertainty.mean_difference > 0
    refused = swap_row([replace(s, refused="no heart", flags=(), uncertainty_percent=np.nan) for s in swapped])
    assert refused is not None
    assert (refused.n_told, refused.uncertainty) == (4, None)
    quiet = swap_row([replace(s, flags=("uncertain",)) for s in swapped])
    assert quiet is not None
    assert (quiet.n_told, quiet.n_flagged) == (0, 4)
    assert swap_row([]) is None


def test_a_row_a_method(results: list[CaseScore]) -> None:
    rows = {row["method"]: row for row in engine_rows(results, ENGINES)}
    assert list(rows) == [*ENGINES, *IMAGES, T1_THRESHOLD]
    assert {"SSIM", "SSIM in scar", "Dice", "sensitivity"} <= set(rows[ENGINE])
    assert "Dice" not in rows[BEST_INVERSION]
    assert "SSIM" not in rows[T1_THRESHOLD]


def test_the_record_is_plain(results: list[CaseScore], swapped: list[Swapped]) -> None:
    record = json.loads(json.dumps(summary(results, ENGINES, swapped), allow_nan=False))
    assert record["n_with_scar"] == 2
    assert record["engines"][ENGINE]["strain_middle"]["n"] == 4
    assert record["failures"] == ["p4 (half): p4: no left ventricle was found"]
    assert len(record["cases"][0]["readings"][ENGINE]["transmurality"]) == 16
    assert record["swapped"]["n_told"] == 4


def test_tables_of_cases_and_slices(results: list[CaseScore]) -> None:
    lines = list(csv.DictReader(as_csv(results, ENGINES).splitlines()))
    assert len(lines) == 4 * (len(ENGINES) + 1 + len(IMAGES))
    assert [line["message"] for line in lines if line["status"] == "failed"] == ["p4: no left ventricle was found"]
    assert all(None not in line and None not in line.values() for line in lines)
    (perfect,) = [line for line in lines if (line["case"], line["method"]) == ("p1", ENGINE)]
    assert float(perfect["scar_g"]) == pytest.approx(float(perfect["reference scar_g"]))
    assert perfect[f"SSIM ({MOVED})"]
    slices = slices_as_csv(results, ENGINES).splitlines()
    assert len(slices) == 1 + 3 * (12 + 9 + 12 * len(IMAGES))


def test_best_median_and_worst(results: list[CaseScore]) -> None:
    names = list(chosen_examples(results, ENGINE))
    assert [name.split(":")[0] for name in names] == ["best", "median", "worst"]
    scores = [float(name.rsplit(" ", 1)[1]) for name in names]
    assert scores == sorted(scores, reverse=True)
    assert [name.split(":")[0] for name in chosen_examples(results[:1], ENGINE)] == ["best"]


def test_the_page_says_what_was_done(results: list[CaseScore], swapped: list[Swapped], tmp_path: Path) -> None:
    drawn = pictures(results, ENGINES)
    assert "Best, median and worst case" in {p.title for p in drawn}
    words = protocol_words(results, ENGINES, best_image=7)
    path = tmp_path / "evaluation.html"
    write_mie_page(path, results, ENGINES, swapped, RUN, words=words, pictures=drawn)
    page = path.read_text()
    for said in ("SYNTHETIC", "LPIPS was not computed", "number 8 by inversion time", "Swapped inputs", "scar mask",
                 "Circumferential strain", "no left ventricle was found", "in print (CPKDM"):  # fmt: skip
        assert said in page, said
    assert "nan" not in page.split("base64")[0].lower().replace("nance", "")
    with_distance = [
        replace(r, images={k: [row | {"LPIPS": 0.1} for row in v] for k, v in r.images.items()}) for r in results
    ]
    assert not any("LPIPS was not computed" in w for w in protocol_words(with_distance, ENGINES))
