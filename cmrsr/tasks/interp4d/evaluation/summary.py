"""What an evaluation of temporal super-resolution found: as plain values, as a table of frames, and in words."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from cmrsr.metrics.statistics import Comparison, Paired, compare_methods
from cmrsr.tasks.interp4d.evaluation.methods import BASELINES, LINEAR
from cmrsr.tasks.interp4d.evaluation.protocol import Protocol, SeriesResult
from cmrsr.tasks.interp4d.evaluation.published import STANDARDS
from cmrsr.tasks.interp4d.evaluation.score import CLEAN_PSNR, GRADIENT, HEART_PSNR, pooled_psnr

MOST_NOTES = 20  # on the page; the JSON has all
Gaps = Mapping[int, Sequence[SeriesResult]]  # results with every n-th frame kept, by n


def metrics_of(results: Sequence[SeriesResult]) -> list[str]:
    """All metrics that some series has; a single slice has no through-plane error."""
    return list(dict.fromkeys(k for r in results for k in next(iter(r.metrics.values()))))


def methods_of(results: Sequence[SeriesResult]) -> list[str]:
    """In the order of the tables."""
    return list(results[0].metrics)


def compare(results: Sequence[SeriesResult]) -> list[Comparison]:
    """Every method and metric, tested against the linear blend and the optical-flow warp; method by method."""
    found: dict[tuple[str, str], Comparison] = {}
    methods, metrics = methods_of(results), metrics_of(results)
    for metric in metrics:
        some = [r for r in results if metric in r.metrics[methods[0]]]
        values = {m: {metric: np.concatenate([r.metrics[m][metric] for r in some])} for m in methods}
        patients = [r.patient for r in some for _ in range(r.n_frames)]
        found |= {(c.method, metric): c for c in compare_methods(values, patients, BASELINES)}
    return [found[method, metric] for method in methods for metric in metrics]


def pooled(results: Sequence[SeriesResult]) -> dict[str, float]:
    """The primary PSNR of every method over the mean squared error of a series, then the mean over the series."""
    return {
        m: float(np.mean([pooled_psnr(r.metrics[m][r.primary]) for r in results])) for m in methods_of(results)
    }  # fmt: skip


def gains(results: Sequence[SeriesResult]) -> dict[str, tuple[float, float]]:
    """By method: mean gain in the primary PSNR over the linear blend, and the share of series that gain."""
    means = {m: np.array([r.metrics[m][r.primary].mean() for r in results]) for m in methods_of(results)}
    return {
        m: (float((mean - means[LINEAR]).mean()), float((mean > means[LINEAR]).mean()))
        for m, mean in means.items()
        if m != LINEAR
    }


def sureness_ratios(results: Sequence[SeriesResult]) -> dict[str, float]:
    """By method and source: the mean over the series of the error foretold over the true one, root mean squares."""
    names = dict.fromkeys(name for r in results for name in r.sureness)
    return {
        name: float(np.mean([r.sureness[name][0] / r.sureness[name][1] for r in results if name in r.sureness]))
        for name in names
    }


def gap_means(gaps: Gaps) -> dict[int, dict[str, float]]:
    """By gap and method: the mean over the series of their pooled PSNR, in which the frames that move most count."""
    return {gap: pooled(results) for gap, results in gaps.items() if results}


def summary(
    results: Sequence[SeriesResult], comparisons: Sequence[Comparison], protocol: Protocol, gaps: Gaps
) -> dict[str, Any]:
    """The figures of an evaluation as plain values: over all frames and patients, per series, tests, gaps."""
    methods = methods_of(results)
    by_method = {m: {c.metric: c for c in comparisons if c.method == m} for m in methods}
    gained, pool = gains(results), pooled(results)
    overall = {
        m: {
            "per_frame": {k: c.per_image.mean for k, c in by_method[m].items()},
            "per_patient": {k: {"mean": c.per_patient.mean, "sd": c.per_patient.sd} for k, c in by_method[m].items()},
            "pooled_psnr_db": pool[m],
            **({} if m == LINEAR else {"gain_over_linear_db": gained[m][0], "share_of_series_better": gained[m][1]}),
        }
        for m in methods
    }
    tests = {
        m: {k: {b: _test(t) for b, t in c.patient_tests.items()} for k, c in by_method[m].items()} for m in methods
    }
    series = [
        {
            "series": r.name, "patient": r.patient, "frames": [i + 1 for i in r.frames], "tau": r.tau,
            "known_frames": [i + 1 for i in r.split.known], "notes": r.notes,
            "metrics": {m: {k: float(v.mean()) for k, v in r.metrics[m].items()} for m in methods},
            "pooled_psnr_db": {m: pooled_psnr(r.metrics[m][r.primary]) for m in methods},
            "sureness": {m: {"foretold_rms": s, "error_rms": e, "ratio": s / e} for m, (s, e) in r.sureness.items()},
        }
        for r in results
    ]  # fmt: skip
    standard = STANDARDS.get(protocol.name)
    return {
        "protocol": asdict(protocol), "primary": results[0].primary, "n_patients": len({r.patient for r in results}),
        "overall": overall, "tests_per_patient": tests, "sureness_ratio": sureness_ratios(results),
        "pooled_psnr_by_gap": gap_means(gaps), "published_on_acdc": None if standard is None else dict(standard.rows),
        "series": series,
    }  # fmt: skip


def _test(test: Paired) -> dict[str, Any]:
    return {
        "n": test.n, "mean_difference": test.mean_difference, "ci95": test.ci95, "t_test_p": test.t_test_p,
        "wilcoxon_p": test.wilcoxon_p, "reason": test.reason,
    }  # fmt: skip


def as_csv(results: Sequence[SeriesResult]) -> str:
    """One line a hidden frame and method."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    metrics = metrics_of(results)
    writer.writerow(["series", "patient", "frame", "tau", "method", *metrics])
    for r in results:
        for method, found in r.metrics.items():
            for i, (frame, tau) in enumerate(zip(r.frames, r.tau, strict=True)):
                cells = (f"{found[k][i]:.6g}" if k in found else "" for k in metrics)
                writer.writerow([r.name, r.patient, frame + 1, f"{tau:.6g}", method, *cells])
    return stream.getvalue()


def protocol_words(protocol: Protocol, results: Sequence[SeriesResult], gaps: Gaps, *, virtual: str = "") -> list[str]:
    """Paragraphs on what was hidden and how it was scored. ``virtual``: who the virtual patients are, if they are."""
    words = [virtual] if virtual else []
    words += _hidden_words(protocol)
    words.append(
        "An image here is one hidden volume; known frames are never scored. nearest: the known frame nearer in time. "
        "linear blend: of both. optical-flow warp: both warped along dense flow (DIS) to the time, and blended. "
        "classical estimate: the mean of these two blends and half of the curvature over four known frames, which the "
        "engine refines. Ours: stage 1 slice by slice, then stage 2 across slices."
    )
    metrics = metrics_of(results)
    peak = "1" if protocol.name in STANDARDS else "the largest value of the series"
    words.append(
        f"PSNR: mean squared error over the whole volume, peak {peak}, then the mean over frames; pooled PSNR takes "
        "the mean squared error over the hidden frames of a series first. SSIM: mean over slices, Gaussian window of "
        f"11 pixels, sigma 1.5, range {peak}."
    )
    if GRADIENT in metrics:
        words.append(
            f"{GRADIENT}: root mean square error of the differences between neighbouring slices, relative to those "
            "differences in the true frame."
        )
    if HEART_PSNR in metrics:
        words.append(f"Heart: a window of {protocol.crop} x {protocol.crop} pixels, found by itself; the same peak.")
    if CLEAN_PSNR in metrics:
        words.append("PSNR to noise-free: against the same frame without the noise that the scan had.")
    for name, ratio in sureness_ratios(results).items():
        words.append(f"The {name}: its root mean square is {ratio:.2f} of that of the true error.")
    if gaps:
        words.append(f"Gaps: the same series with every n-th frame known, n = {', '.join(map(str, gaps))}.")
    if notes := _notes(results):
        words.append("Notes. " + "; ".join(notes[:MOST_NOTES]) + ("; ..." if len(notes) > MOST_NOTES else "") + ".")
    return words


def _notes(results: Sequence[SeriesResult]) -> list[str]:
    """Each once, with the series it is of."""
    said: dict[str, list[str]] = {}
    for r in results:
        for note in r.notes:
            said.setdefault(note, []).append(r.name)
    return [f"{note} ({names[0] if len(names) == 1 else f'{len(names)} series'})" for note, names in said.items()]


def _hidden_words(protocol: Protocol) -> list[str]:
    if protocol.name == "holdout-frames":
        closed = "The series is a whole beat: its last gap leads back to its first frame."
        order = closed if protocol.cyclic else "The series is not taken as a whole beat."
        return [f"One of {protocol.keep} frames was known, the others hidden and restored. {order}"]
    standard = STANDARDS.get(protocol.name)
    if standard is None:
        return ["End-diastole and end-systole were known, all frames between hidden and restored. Whole images."]
    published = "; ".join(
        f"{name}: {', '.join(f'{k} {v:g}' for k, v in row.items())}" for name, row in standard.rows.items()
    )
    return [standard.words, f"Published on ACDC, not measured here: {published}."]
