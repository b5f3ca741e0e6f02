"""One case under every condition: what is compared with what, masks on other grids, and refused runs."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cmrsr.errors import UnusableError, UsageError
from cmrsr.metrics.images import psnr
from cmrsr.phantom.examination import Protocol as Scan
from cmrsr.phantom.scan import VirtualScan
from cmrsr.tasks.function.evaluation import cases as function_cases
from cmrsr.tasks.function.evaluation.cases import virtual_case
from cmrsr.tasks.function.evaluation.coarse import coarse, made_even, zero_filling
from cmrsr.tasks.function.evaluation.images import GRADIENT_ERROR, HEART_PSNR, PSNR, TCI, ImageScoring
from cmrsr.tasks.function.evaluation.protocol import (
    FULL,
    MASKS,
    REGRESSION,
    RESTORED,
    ZERO_FILLED,
    Protocol,
    evaluate_case,
)
from tests.phantom.virtual_scans import virtual_scan
from tests.tasks.function.function_runs import ENGINE, N_T, N_Z, FakeEngine, FakeRun, heart_case


def test_every_condition_is_compared_with_the_reference() -> None:
    case = heart_case(1, 0.6)
    result = evaluate_case(case, {ENGINE: FakeEngine({case.name: case})}, Protocol(crop=48))
    assert not result.failures
    full, before = result.readings[ENGINE, FULL.name], result.readings[ENGINE, ZERO_FILLED.name]
    assert_allclose(full.values[MASKS]["EF"], case.reference.ef_percent)
    assert_allclose(full.values[REGRESSION]["EF"], full.values[MASKS]["EF"] + 3)
    assert full.dice == {"LV": 1, "myocardium": 1, "RV": 1}
    assert before.dice["LV"] < 1
    assert before.dice["RV"] == 1
    assert_allclose(full.values[MASKS]["RV EDV"], case.reference.rv_edv_ml)


def test_images_are_those_of_the_half_matrix_brought_back() -> None:
    case = heart_case(2, 0.5)
    result = evaluate_case(case, {ENGINE: FakeEngine({case.name: case})}, Protocol(crop=48))
    low = coarse(case.series)
    filled = np.stack([zero_filling(volume) for volume in low])
    assert_allclose(result.images["zero-filling"][PSNR], psnr(filled, case.series.array()).ravel())
    # half of the error: 6.02 dB more, and half the error of the gradient
    for metric in (PSNR, HEART_PSNR):
        gain = result.images[ENGINE][metric] - result.images["zero-filling"][metric]
        assert_allclose(gain, 20 * np.log10(2), atol=1e-3)
        assert gain.size == N_T * N_Z
    assert_allclose(result.images[ENGINE][GRADIENT_ERROR] * 2, result.images["zero-filling"][GRADIENT_ERROR], rtol=1e-4)
    assert result.images[ENGINE][TCI] > result.images["zero-filling"][TCI]
    assert list(result.shown) == [FULL.name, ZERO_FILLED.name, ENGINE]


def test_odd_matrices_are_cut_with_their_labels() -> None:
    case = heart_case(3, 0.5, columns=65)
    result = evaluate_case(case, {ENGINE: FakeEngine({case.name: case})}, Protocol(crop=0))
    assert not result.failures
    assert result.readings[ENGINE, FULL.name].dice["LV"] == 1
    assert HEART_PSNR not in result.images[ENGINE]
    assert made_even(case.series).shape[3] == 64


def test_masks_on_a_finer_matrix_are_brought_to_the_labels() -> None:
    case = heart_case(1, 0.6)

    class Doubled(FakeEngine):
        def __call__(self, series, condition):  # type: ignore[no-untyped-def]
            run = super().__call__(series, condition)
            affine = run.affine @ np.diag([0.5, 0.5, 1, 1])
            labels = run.labels.repeat(2, 2).repeat(2, 3)
            return FakeRun(run.frames, labels, affine, run.measured)

    result = evaluate_case(case, {ENGINE: Doubled({case.name: case})}, Protocol(scale=1))
    assert result.readings[ENGINE, FULL.name].dice == {"LV": 1, "myocardium": 1, "RV": 1}
    assert not result.images
    assert list(result.readings) == [(ENGINE, FULL.name)]


def test_a_refused_run_is_a_failure_of_its_own() -> None:
    case = heart_case(1, 0.6)
    engines = {
        "full": FakeEngine({case.name: case}), "function": FakeEngine({case.name: case}, restores=False),
        "blind": FakeEngine({case.name: case}, blind=(case.name,)),
    }  # fmt: skip
    result = evaluate_case(case, engines, Protocol())
    assert list(result.failures) == [
        ("function", RESTORED.name), ("blind", FULL.name), ("blind", ZERO_FILLED.name), ("blind", RESTORED.name),
    ]  # fmt: skip
    assert "no left ventricle" in str(result.failures["blind", FULL.name])
    assert list(result.images) == ["zero-filling", "bicubic", "Lanczos", "full"]


def test_a_result_on_another_matrix_is_refused() -> None:
    case = heart_case(1, 0.6)

    class Cut(FakeEngine):
        def __call__(self, series, condition):  # type: ignore[no-untyped-def]
            run = super().__call__(series, condition)
            return FakeRun(run.frames[..., :-2], run.labels, run.affine, run.measured)

    result = evaluate_case(case, {ENGINE: Cut({case.name: case})}, Protocol())
    assert list(result.failures) == [(ENGINE, RESTORED.name)]


def test_images_without_a_signal_are_left_out() -> None:
    case = heart_case(1, 0.6)
    frames = case.series.array()
    frames[:, 0] = 0
    scoring = ImageScoring(case.series.with_frames(frames))
    assert scoring(frames + 1)[PSNR].size == N_T
    with pytest.raises(UnusableError, match="every image is constant"):
        ImageScoring(case.series.with_frames(0 * frames))


@pytest.mark.parametrize(("numbers", "flag"), [({"scale": 3}, "--scale 3"), ({"crop": 8}, "--crop 8")])
def test_numbers_out_of_range(numbers: dict[str, int], flag: str) -> None:
    with pytest.raises(UsageError, match=flag):
        Protocol(**numbers)


def test_virtual_patients_are_labelled_throughout(monkeypatch: pytest.MonkeyPatch) -> None:
    scan = virtual_scan("cine_sax")
    labels = (scan.frames // 300).clip(0, 4).astype(np.uint8)
    scan = replace(scan, labels=labels)

    def scanned(patient: object, protocol: Scan) -> "object":
        assert protocol.kinds == ("cine",)
        return iter([scan])

    monkeypatch.setattr(function_cases, "scan_patient", scanned)
    case = virtual_case(3, 2)
    assert (case.name, case.series.source.name) == ("subject002", "subject002")
    assert isinstance(scan, VirtualScan)
    assert case.reference.labels[0].max() <= 3
    assert ((case.reference.labels[4] == 2) == np.isin(labels[4], (2, 4))).all()
    assert case.body is not None
    assert case.body.ef_percent is not None
    assert 5 < case.body.ef_percent < 90
    assert case.clean is not None
