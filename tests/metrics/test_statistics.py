import numpy as np
import pytest
from numpy.testing import assert_allclose

from cmrsr.errors import UnusableError
from cmrsr.metrics.statistics import compare_methods, paired, per_patient, summarise


def test_summarise_known_values() -> None:
    summary = summarise([1, 2, 3, 4, 10])
    assert (summary.n, summary.mean, summary.median, summary.iqr) == (5, 4.0, 3.0, 2.0)
    assert_allclose(summary.sd, np.sqrt(50 / 4))
    assert summarise([3.0]).sd is None


def test_summarise_refuses_what_has_no_mean() -> None:
    with pytest.raises(UnusableError, match="no values"):
        summarise([])
    with pytest.raises(UnusableError, match="1 of 2"):
        summarise([1.0, np.inf])


def test_paired_tests_by_hand() -> None:
    # Student's sleep data (1908): t = -4.0621 with 9 degrees of freedom, p = 0.002833.
    drug_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    drug_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    result = paired(drug_1, drug_2)
    assert_allclose(result.t_test_p, 0.002833, atol=1e-6)
    assert_allclose(result.mean_difference, -1.58)
    assert_allclose(result.ci95, (-2.4598858, -0.7001142), atol=1e-6)
    # Eight differences of one sign: the exact two-sided Wilcoxon p is 2 / 2**8.
    assert_allclose(paired(np.arange(1.0, 9.0) ** 1.5, np.zeros(8)).wilcoxon_p, 2 / 2**8)


def test_paired_is_antisymmetric() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 1, 20), rng.normal(0, 1, 20)
    forth, back = paired(a, b), paired(b, a)
    assert_allclose(forth.mean_difference, -back.mean_difference)
    assert forth.ci95 is not None
    assert back.ci95 is not None
    assert_allclose(forth.ci95, (-back.ci95[1], -back.ci95[0]))
    assert_allclose([forth.t_test_p, forth.wilcoxon_p], [back.t_test_p, back.wilcoxon_p])


@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_pairs_get_no_p_value_but_a_reason(n: int) -> None:
    result = paired(np.arange(n) + 1.5, np.zeros(n))
    assert (result.t_test_p, result.wilcoxon_p) == (None, None)
    assert f"{n} pair" in result.reason
    assert (result.ci95 is None) == (n == 1)


def test_differences_without_variation() -> None:
    values = np.linspace(1, 2, 10)
    same = paired(values, values)
    assert (same.ci95, same.t_test_p, same.wilcoxon_p, same.reason) == (None, None, None, "all differences are zero")
    shifted = paired(values + 0.1, values)
    assert shifted.t_test_p is None
    assert shifted.wilcoxon_p is not None
    assert "equal" in shifted.reason


def test_paired_needs_equal_counts() -> None:
    with pytest.raises(UnusableError, match="3 and 2"):
        paired([1, 2, 3], [1, 2])


def test_per_patient_means_in_first_seen_order() -> None:
    assert per_patient([1, 2, 3, 5], ["b", "a", "b", "a"]) == {"b": 2.0, "a": 3.5}
    with pytest.raises(UnusableError, match="3 ids and 2 values"):
        per_patient([1, 2], ["a", "b", "c"])


def test_compare_methods() -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(30, 1, 40)
    values = {"zero-filling": {"PSNR": base}, "ours": {"PSNR": base + rng.normal(1, 0.1, 40)}}
    zero, ours = compare_methods(values, [f"p{i // 5}" for i in range(40)], ["zero-filling"])
    assert zero.image_tests == {}
    assert (ours.method, ours.metric, ours.per_image.n, ours.per_patient.n) == ("ours", "PSNR", 40, 8)
    assert_allclose(ours.per_image.mean, ours.per_patient.mean)  # equally many images per patient
    test = ours.patient_tests["zero-filling"]
    assert test.n == 8
    assert test.t_test_p is not None
    assert test.t_test_p < 1e-6
    with pytest.raises(UnusableError, match="'gan'"):
        compare_methods(values, ["p"] * 40, ["gan"])
