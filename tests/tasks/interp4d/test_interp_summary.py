"""The figures of an evaluation: tests over patients, gains, gaps, tables and words."""

import csv
import io

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cmrsr.tasks.interp4d.evaluation.methods import LINEAR, WARP
from cmrsr.tasks.interp4d.evaluation.protocol import Protocol, ProtocolName
from cmrsr.tasks.interp4d.evaluation.published import PADDED_PSNR
from cmrsr.tasks.interp4d.evaluation.score import GRADIENT, PSNR, SSIM, pooled_psnr
from cmrsr.tasks.interp4d.evaluation.summary import as_csv, compare, gap_means, protocol_words, summary
from tests.tasks.interp4d.interp_results import GAINS, OURS, result

SEVEN = [result(i) for i in range(1, 8)]


def test_methods_are_tested_over_patients() -> None:
    comparisons = compare(SEVEN)
    assert [(c.method, c.metric) for c in comparisons] == [(m, k) for m in GAINS for k in (PSNR, SSIM, GRADIENT)]
    mine = next(c for c in comparisons if (c.method, c.metric) == (OURS, PSNR))
    assert set(mine.patient_tests) == {LINEAR, WARP}
    test = mine.patient_tests[LINEAR]
    assert (mine.per_image.n, test.n) == (42, 7)
    assert_allclose(test.mean_difference, 2 + 0.02 * 4)
    assert test.wilcoxon_p == pytest.approx(2 / 2**7)  # of seven pairs, all of one sign


def test_two_series_of_one_patient_are_one_pair() -> None:
    twice = [*SEVEN, result(1)]
    mine = next(c for c in compare(twice) if c.method == OURS)
    assert (mine.per_image.n, mine.patient_tests[WARP].n) == (48, 7)


def test_a_single_slice_does_not_hide_the_others_through_plane_error() -> None:
    mixed = [result(1, through_plane=False), *SEVEN[1:]]
    found = {(c.method, c.metric): c for c in compare(mixed)}
    assert (found[OURS, PSNR].per_image.n, found[OURS, GRADIENT].per_image.n) == (42, 36)
    rows = list(csv.DictReader(io.StringIO(as_csv(mixed))))
    assert [row[GRADIENT] == "" for row in rows if row["method"] == OURS] == [True] * 6 + [False] * 36


def test_the_summary_says_what_the_scores_say() -> None:
    gaps = {2: [result(i, keep=2) for i in (1, 2)], 8: []}
    record = summary(SEVEN, compare(SEVEN), Protocol(), gaps)
    mine = record["overall"][OURS]
    values = np.concatenate([r.metrics[OURS][PSNR] for r in SEVEN])
    assert_allclose(mine["per_frame"][PSNR], values.mean())
    assert_allclose(mine["gain_over_linear_db"], 2.08)
    assert mine["share_of_series_better"] == 1
    assert record["overall"]["nearest"]["share_of_series_better"] == 0
    assert_allclose(mine["pooled_psnr_db"], np.mean([pooled_psnr(r.metrics[OURS][PSNR]) for r in SEVEN]))
    assert mine["pooled_psnr_db"] < mine["per_frame"][PSNR]
    assert_allclose(record["sureness_ratio"][f"spread of the samples of {OURS}"], 0.9)
    assert list(record["pooled_psnr_by_gap"]) == [2]
    assert record["pooled_psnr_by_gap"] == gap_means(gaps)
    assert record["n_patients"] == 7
    assert record["published_on_acdc"] is None
    assert record["series"][0]["frames"] == [2, 3, 4, 6, 7, 8]
    assert record["series"][0]["known_frames"] == [1, 5]
    assert record["tests_per_patient"][OURS][PSNR][LINEAR]["n"] == 7


def test_a_line_for_every_frame_and_method() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(SEVEN))))
    assert len(rows) == 7 * 6 * len(GAINS)
    mine = [float(row[PSNR]) for row in rows if row["method"] == OURS and row["patient"] == "p3"]
    assert_allclose(mine, SEVEN[2].metrics[OURS][PSNR], rtol=1e-5)
    assert [row["frame"] for row in rows[:6]] == ["2", "3", "4", "6", "7", "8"]


@pytest.mark.parametrize(
    ("name", "figure"), [("uvi", "33.55"), ("tssc", "32.971"), ("holdout-frames", None), ("ed-es", None)]
)
def test_published_figures_stand_beside_their_own_protocol_alone(name: ProtocolName, figure: str | None) -> None:
    protocol = Protocol(name=name)
    results = [result(i, first=PADDED_PSNR) for i in (1, 2)]
    words = " ".join(protocol_words(protocol, results, {}))
    record = summary(results, compare(results), protocol, {})
    assert ("Published on ACDC, not measured here" in words) == (figure is not None)
    assert (record["published_on_acdc"] is not None) == (figure is not None)
    if figure:
        assert f"{PADDED_PSNR} {figure}" in words


def test_words_say_what_was_done() -> None:
    words = " ".join(protocol_words(Protocol(keep=3), SEVEN, {2: SEVEN, 8: []}, virtual="Virtual patients 1 to 7."))
    for part in ("One of 3 frames", "whole beat", "through-plane error", "n = 2, 8", "Virtual patients 1 to 7.",
                 "end-systole as asked for (7 series)", "0.90 of that of the true error"):  # fmt: skip
        assert part in words
    alone = [result(1, through_plane=False)]
    words = " ".join(protocol_words(Protocol(cyclic=False), alone, {}))
    assert "through-plane error" not in words
    assert "not taken as a whole beat" in words
    assert "(p1/sa)" in words
