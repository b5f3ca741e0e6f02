from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cmrsr.errors import UnusableError
from cmrsr.heart.window import READING_MM
from cmrsr.tasks.mie.evaluation.baselines import BEST_INVERSION, IMAGES, MIXTURE, T1_THRESHOLD
from cmrsr.tasks.mie.evaluation.cases import Enhancement
from cmrsr.tasks.mie.evaluation.images import LPIPS, MSE, SCAR_SSIM, SSIM
from cmrsr.tasks.mie.evaluation.protocol import (
    CLEAN,
    MOVED,
    REFERENCES,
    UNMOVED,
    CaseScore,
    add_baselines,
    evaluate_case,
    failures_of,
    laid_over,
    swap,
)
from tests.tasks.mie.mie_runs import E_CC_BIAS, ENGINE, FakeEngine, cases, made_case, results_of


@pytest.fixture(scope="module")
def results() -> list[CaseScore]:
    return results_of(**{ENGINE: FakeEngine({}), "half": FakeEngine({}, keeps=0.5)})


def mean(result: CaseScore, method: str, reference: str, metric: str) -> float:
    return float(np.mean([row[metric] for row in result.images[method, reference]]))


def test_a_perfect_scar_is_found_to_be_perfect(results: list[CaseScore]) -> None:
    for result in results:
        one = result.readings[ENGINE]
        assert result.scar_g is not None
        assert one.scar_g == pytest.approx(result.scar_g, rel=1e-6, abs=1e-9)
        assert one.scar_percent == pytest.approx(one.true_scar_percent, abs=0.5)
        assert_allclose(one.transmurality, one.true_transmurality, atol=3)
    assert [r.has_scar for r in results] == [True, True, False, False]
    assert results[0].readings[ENGINE].dice > 0.97
    assert np.isnan(results[2].readings[ENGINE].dice)


def test_half_a_scar_is_half_a_scar(results: list[CaseScore]) -> None:
    one = results[0].readings["half"]
    assert results[0].scar_g is not None
    assert 0.35 < one.scar_g / results[0].scar_g < 0.65
    assert 0.5 < one.dice < 0.8


def test_the_reference_is_moved_by_where_it_lies(results: list[CaseScore]) -> None:
    one = results[0].readings[ENGINE]
    assert_allclose(one.shift_mm, READING_MM * np.hypot(2, 1), atol=0.4)
    assert one.dice > one.dice_unmoved + 0.05
    for metric in (SSIM, SCAR_SSIM):
        assert mean(results[0], ENGINE, MOVED, metric) > mean(results[0], ENGINE, UNMOVED, metric) + 0.05
    assert mean(results[0], ENGINE, CLEAN, MSE) < mean(results[0], ENGINE, MOVED, MSE)


def test_strain_is_that_of_the_slice_of_the_cine(results: list[CaseScore]) -> None:
    one = results[0].readings[ENGINE]
    assert_allclose(one.true_e_cc_percent - one.e_cc_percent, E_CC_BIAS + np.arange(3), atol=1e-4)
    assert one.middle.tolist() == [False, True, False]


def test_baselines_stand_beside_the_engines(results: list[CaseScore]) -> None:
    assert results[0].readings[T1_THRESHOLD].dice > 0.9  # its T1 map shows the scar without noise
    for result in results:
        assert {(m, k) for m in IMAGES for k in REFERENCES} <= set(result.images)
    errors = {m: np.mean([mean(r, m, MOVED, MSE) for r in results]) for m in IMAGES}
    assert errors[MIXTURE] <= errors[BEST_INVERSION]
    assert results[0].shown is not None
    assert results[0].shown.scar_truth is not None
    assert (results[0].shown.scar & results[0].shown.scar_truth).any()


def test_a_perceptual_distance_is_computed_where_there_is_one() -> None:
    known = cases()
    asked = []

    def perceived(ours: np.ndarray, truth: np.ndarray) -> float:
        asked.append(ours.shape)
        return 0.25

    result = evaluate_case(known["p1"], {ENGINE: FakeEngine(known)}, perceived=perceived)
    add_baselines([result], perceived)
    assert {row[LPIPS] for rows in result.images.values() for row in rows} == {0.25}
    assert len(asked) == 3 * 3 * (1 + len(IMAGES))


def test_refused_runs_are_kept_and_others_go_on() -> None:
    known = cases()
    result = evaluate_case(known["p1"], {"blind": FakeEngine(known, blind=("p1",)), ENGINE: FakeEngine(known)})
    assert list(result.readings) == [ENGINE, T1_THRESHOLD]
    assert list(failures_of([result])) == ["p1 (blind): p1: no left ventricle was found"]
    assert add_baselines([evaluate_case(known["p1"], {"blind": FakeEngine(known, blind=("p1",))})]) is None


def test_images_alone_are_compared_where_nobody_drew_a_scar() -> None:
    case = made_case("p1")
    bare = replace(case, late=Enhancement(series=case.late.series), e_cc_percent=None)
    result = evaluate_case(bare, {ENGINE: FakeEngine({"p1": case})})
    assert result.scar_g is result.has_scar is None
    assert CLEAN not in {reference for _, reference in result.images}
    assert np.isnan(result.readings[ENGINE].dice)
    assert set(result.images[ENGINE, MOVED][0]) == {SSIM, "PSNR (dB)", MSE}


def test_enhancement_of_another_place_is_refused() -> None:
    case = made_case("p1")
    far = case.late.series.affine.copy()
    far[:3, 3] += 200
    elsewhere = replace(case, late=replace(case.late, series=replace(case.late.series, affine=far)))
    with pytest.raises(UnusableError, match="no slice of it lies at a slice of p1"):
        evaluate_case(elsewhere, {ENGINE: FakeEngine({"p1": case})})


# --- swapped inputs ---------------------------------------------------------------------------------------------------


def test_swapped_inputs_are_run_and_told_apart() -> None:
    known = cases()
    engine = FakeEngine(known)
    own = evaluate_case(known["p1"], {ENGINE: engine}).readings[ENGINE]
    found = swap(known["p1"], known["p02"], engine, own)
    assert engine.asked[-1] == ("p1", "p02")
    assert "hearts_differ" in found.flags
    assert "hearts_differ" not in found.own_flags
    assert (found.agreement, found.own_agreement) == (0.3, 0.9)
    assert found.uncertainty_percent > found.own_uncertainty_percent
    refused = swap(known["p1"], known["p02"], FakeEngine(known, blind=("p1",)), own)
    assert "no left ventricle" in refused.refused


@pytest.mark.parametrize("n_z", [3, 6])
def test_a_swapped_cine_is_laid_over_the_t1_images(n_z: int) -> None:
    t1 = made_case("p1").t1
    affine = np.diag([1.2, 1.4, 7.0, 1.0])
    other = replace(t1, shape=(8, n_z, 100, 90), affine=affine)
    laid = laid_over(other, t1)
    assert_allclose(laid.spacing_mm[1:], (1.4, 1.2))
    assert laid.spacing_mm[0] == pytest.approx(t1.spacing_mm[0] if n_z == 3 else 7.0)

    def middle(s: object) -> np.ndarray:
        shape, own = s.shape, s.affine  # type: ignore[attr-defined]
        return np.asarray(own @ np.append((np.array(shape[:0:-1]) - 1) / 2, 1.0))

    assert_allclose(middle(laid), middle(t1))
    assert_allclose(np.linalg.inv(t1.affine)[:3, :3] @ laid.affine[:3, :3] * (1 - np.eye(3)), 0, atol=1e-9)
    assert np.linalg.det(laid.affine) * np.linalg.det(t1.affine) > 0
