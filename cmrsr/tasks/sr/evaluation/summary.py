"""What an evaluation found, as plain values, as a table of images, in words and in pictures."""

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from cmrsr.report import figures, style
from cmrsr.report.page import Picture
from cmrsr.tasks.sr.evaluation.protocol import EDGE_SLOPE, HF_POWER, ZERO_FILLING, Protocol, SeriesResult
from cmrsr.tasks.sr.uncertainty import INTERVAL


def summary(results: Sequence[SeriesResult], methods: Sequence[str], digest: str, protocol: Protocol) -> dict[str, Any]:
    """The figures of an evaluation as plain values: per series, and over all series."""

    def gain(result: SeriesResult, method: str, metric: str) -> float:
        return float((result.metrics[method][metric] - result.metrics[ZERO_FILLING][metric]).mean())

    def mean(method: str, metric: str) -> float:
        return float(np.mean([r.metrics[method][metric].mean() for r in results]))

    series = [
        {
            "series": r.name, "patient": r.patient, "axis": r.axis, "images": r.n_images,
            "metrics": {m: {k: float(v.mean()) for k, v in r.metrics[m].items()} for m in methods},
            "psnr_gain_db": {m: gain(r, m, "PSNR (dB)") for m in methods if m != ZERO_FILLING},
            "ssim_gain": {m: gain(r, m, "SSIM") for m in methods if m != ZERO_FILLING},
            "curve_nrmse": r.curve_errors,
            "seconds_per_image": r.seconds,
            "spread": {
                m: {"std_rms": s.std, "error_rms": s.error, "ratio": s.ratio, "covered": s.covered}
                for m, s in r.spread.items()
            },
        }
        for r in results
    ]  # fmt: skip
    overall = {
        m: {
            "psnr_gain_db": float(np.mean([gain(r, m, "PSNR (dB)") for r in results])),
            "ssim_gain": float(np.mean([gain(r, m, "SSIM") for r in results])),
            "nrmse_gain_percent": float(np.mean([gain(r, m, "nRMSE (%)") for r in results])),
            "share_of_series_better_psnr": float(np.mean([gain(r, m, "PSNR (dB)") > 0 for r in results])),
            "hf_power": mean(m, HF_POWER),
            "edge_slope": mean(m, EDGE_SLOPE),
            "share_of_series_better_ssim": float(np.mean([gain(r, m, "SSIM") > 0 for r in results])),
        }
        for m in methods
        if m != ZERO_FILLING
    }
    regions = sorted({region for r in results for region in r.curve_errors})
    curves = {
        region: {
            m: float(np.mean([r.curve_errors[region][m] for r in results if region in r.curve_errors])) for m in methods
        }
        for region in regions
    }
    sampled = dict.fromkeys(m for r in results for m in r.spread)
    spreads = {m: [r.spread[m] for r in results if m in r.spread] for m in sampled}
    seconds = {m: float(np.mean([r.seconds[m] for r in results])) for m in results[0].seconds}
    return {
        "engine_digest": digest, "fraction": protocol.fraction, "axes": protocol.axes, "crop": protocol.crop,
        "every": protocol.every, "overall": overall, "curve_nrmse": curves,
        "spread_ratio": {m: float(np.mean([s.ratio for s in found])) for m, found in spreads.items()},
        "covered": {m: float(np.mean([s.covered for s in found])) for m, found in spreads.items()},
        "seconds_per_image": seconds, "series": series,
    }  # fmt: skip


def as_csv(results: Sequence[SeriesResult], methods: Sequence[str]) -> str:
    """One line an image and method."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    metrics = list(results[0].metrics[methods[0]])
    writer.writerow(["series", "patient", "axis", "image", "method", *metrics])
    for r in results:
        for method in methods:
            for i, row in enumerate(zip(*(r.metrics[method][k] for k in metrics), strict=True)):
                writer.writerow([r.name, r.patient, r.axis, i, method, *(f"{v:.6g}" for v in row)])
    return stream.getvalue()


def protocol_words(protocol: Protocol, results: Sequence[SeriesResult], record: dict[str, Any]) -> list[str]:
    """What was done and what the figures mean, in sentences."""
    region = (
        "the whole image"
        if not protocol.crop
        else f"a window of {protocol.crop} x {protocol.crop} pixels around the heart"
    )
    words = [
        f"Of every image the central {protocol.fraction:.0%} of the phase-encoding lines were kept (axes tried: "
        f"{', '.join(protocol.axes)}), the rest zero-filled, and the magnitude taken (PerfGen, 2.1.3). Scores are "
        f"inside {region}, found from the passage of contrast, against the original image.",
        "nRMSE is relative to the range of the reference image (eq. 10), PSNR is 20 log10 of its inverse (eq. 11), "
        "SSIM has a Gaussian window of 11 pixels, sigma 1.5 (eq. 12). Bicubic and Lanczos interpolate the magnitude "
        "image of the small matrix.",
        "HF power is the power outside the acquired band along the phase axis, as a share of the reference's (Hann "
        "window); edge slope is the gradient along the phase axis at the steepest 5 % of the reference's pixels, "
        "regressed on the reference's own (after Ahmad et al. 2015). Both are 1 for a result as sharp as the "
        "reference; noise adds to HF power, not to the edge slope.",
    ]
    for method, ratio in record["spread_ratio"].items():
        found = [r.spread[method] for r in results if method in r.spread]
        ratios, covered = [s.ratio for s in found], [s.covered for s in found]
        words.append(
            f"Uncertainty of {method}: the root mean square of the standard deviation is {ratio:.2f} of the true error "
            f"({min(ratios):.2f} to {max(ratios):.2f} by series), and {record['covered'][method]:.0%} of the errors "
            f"({min(covered):.0%} to {max(covered):.0%}) lie "
            f"within the 90 % interval (± {INTERVAL:.3f} standard deviations)."
        )
    for curve, errors in record["curve_nrmse"].items():
        listed = ", ".join(f"{m} {100 * e:.2f} %" for m, e in errors.items())
        words.append(f"Error of the signal-time curve in {curve}, of its range: {listed}.")
    return words


def pictures(results: Sequence[SeriesResult], methods: Sequence[str]) -> list[Picture]:
    """Box plots, and frames and curves of a few series."""
    found = []
    per_series = {
        k: {m: np.array([r.metrics[m][k].mean() for r in results]) for m in methods}
        for k in results[0].metrics[methods[0]]
    }
    if len(results) > 2:
        found.append(
            Picture(
                title="By series",
                caption="One dot is the mean of one series.",
                data=style.png(figures.boxplots(per_series)),
            )
        )
    for r in results[:: max(1, len(results) // 4)][:4]:
        shown = dict(r.shown)
        reference = shown.pop("reference")
        found.append(
            Picture(
                title=f"{r.name}, phase axis {r.axis}",
                caption="One frame in the grey window of the reference, and the absolute error below.",
                data=style.png(figures.comparison(reference, shown)),
            )
        )
        if r.curves:
            kept = (
                "reference",
                "zero-filling",
                *(m for m in methods if m not in ("zero-filling", "bicubic", "Lanczos")),
            )
            regions = {region: {m: c[m] for m in kept} for region, c in r.curves.items()}
            found.append(
                Picture(
                    title=f"Signal over time: {r.name}, phase axis {r.axis}",
                    caption="Mean signal of each region against the reference (wide grey line).",
                    data=style.png(figures.curve_comparison(None, regions)),
                )
            )
    return found
