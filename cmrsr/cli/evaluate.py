"""``cmrsr evaluate``."""

import csv
import io
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from cmrsr.cli.sr import parse_time_axis
from cmrsr.errors import CmrsrError, UsageError

if TYPE_CHECKING:
    from cmrsr.evaluate.report import Picture
    from cmrsr.evaluate.sr_protocol import SeriesResult
    from cmrsr.evaluate.statistics import Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateRequest:
    """The command line of ``cmrsr evaluate sr``."""

    inputs: list[Path]
    out: Path | None
    fraction: float
    axes: str
    crop: int
    every: int
    engine: str
    settings: str
    seed: int
    batch_size: int
    time_axis: str | None
    device: str
    backend: str
    precision: str
    threads: int | None
    quiet: bool


def run_evaluate_sr_command(request: EvaluateRequest) -> int:
    """Score every series, write ``evaluation.json``, ``evaluation.csv`` and ``evaluation.html``, print the table."""
    from cmrsr import __version__
    from cmrsr.evaluate.report import ReportRun, write_evaluation_report
    from cmrsr.evaluate.sr_protocol import METRICS, ZERO_FILLING, EngineCache, Protocol, evaluate_series, parse_settings
    from cmrsr.evaluate.statistics import compare_methods
    from cmrsr.io.discover import discover
    from cmrsr.io.outputs import resolve_output, write_json_atomic, write_text_atomic
    from cmrsr.runtime.bundle import load
    from cmrsr.runtime.engine import DeviceChoice

    started, clock = datetime.now(UTC), time.monotonic()
    if not request.axes or set(request.axes) - {"x", "y"}:
        raise UsageError(f"--axes {request.axes}: expected x, y or xy")
    protocol = Protocol(
        fraction=request.fraction, axes=cast(Any, tuple(request.axes)), crop=request.crop, every=request.every
    )
    settings = parse_settings(request.settings)
    bundle = load(request.engine, "sr")
    choice = DeviceChoice(
        device=request.device, backend=cast(Any, request.backend), precision=cast(Any, request.precision), threads=request.threads
    )
    candidates, refused, _ = discover(request.inputs, time_axis=parse_time_axis(request.time_axis))
    console = Console(stderr=True, highlight=False)
    engines = EngineCache(choice, request.batch_size)
    results: list[SeriesResult] = []
    failures = [str(one.error) for one in refused]
    with Progress(console=console, transient=True, disable=request.quiet or not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=len(candidates))
        for candidate in candidates:
            try:
                for result in evaluate_series(
                    candidate, bundle, protocol, settings, engines, seed=request.seed,
                    on_method=lambda method, name=candidate.name: bar.update(task, description=f"{name}: {method}"),
                ):  # fmt: skip
                    results.append(result)
            except CmrsrError as error:
                failures.append(str(error))
                if len(candidates) == 1:
                    raise
            bar.advance(task)
    for failure in failures:
        console.print(f"[red]✕[/] {failure}", markup=True)
    if not results:
        raise CmrsrError("no series could be evaluated")
    methods = list(results[0].metrics)
    values = {m: {k: np.concatenate([r.metrics[m][k] for r in results]) for k in METRICS} for m in methods}
    patients = [r.patient for r in results for _ in range(r.n_images)]
    best = next(m for m in methods if m not in (ZERO_FILLING, "bicubic", "Lanczos"))
    comparisons = compare_methods(values, patients, [ZERO_FILLING, *([best] if len(methods) > 4 else [])])
    out = resolve_output(request.inputs, request.out)
    record = summary(results, methods, bundle.digest, protocol)
    record["software"], record["failures"] = f"cmrsr {__version__}", failures
    write_json_atomic(out / "evaluation.json", record)
    write_text_atomic(out / "evaluation.csv", _csv(results, methods))
    run = ReportRun(
        title="Evaluation of perfusion super-resolution", command=shlex.join(["cmrsr", *sys.argv[1:]]), version=__version__,
        started=started, seconds=time.monotonic() - clock, engine=bundle.manifest.name, engine_digest=bundle.digest,
    )  # fmt: skip
    write_evaluation_report(
        out / "evaluation.html", comparisons, run, protocol=_words(protocol, results, record), pictures=_pictures(results, methods)
    )
    if not request.quiet:
        _print(console, comparisons, record)
        console.print(f"report: {out / 'evaluation.html'}")
    return 8 if failures else 0


def summary(results: Sequence["SeriesResult"], methods: Sequence[str], digest: str, protocol: Any) -> dict[str, Any]:
    """The figures of an evaluation as plain values: per series, and over all series."""
    from cmrsr.evaluate.sr_protocol import ZERO_FILLING

    def gain(result: "SeriesResult", method: str, metric: str) -> float:
        return float((result.metrics[method][metric] - result.metrics[ZERO_FILLING][metric]).mean())

    series = [
        {
            "series": r.name, "patient": r.patient, "axis": r.axis, "images": r.n_images,
            "metrics": {m: {k: float(v.mean()) for k, v in r.metrics[m].items()} for m in methods},
            "psnr_gain_db": {m: gain(r, m, "PSNR (dB)") for m in methods if m != ZERO_FILLING},
            "ssim_gain": {m: gain(r, m, "SSIM") for m in methods if m != ZERO_FILLING},
            "curve_nrmse": r.curve_errors,
            "spread": {m: {"std_rms": s, "error_rms": e, "ratio": s / e} for m, (s, e) in r.spread.items()},
        }
        for r in results
    ]  # fmt: skip
    overall = {
        m: {
            "psnr_gain_db": float(np.mean([gain(r, m, "PSNR (dB)") for r in results])),
            "ssim_gain": float(np.mean([gain(r, m, "SSIM") for r in results])),
            "nrmse_gain_percent": float(np.mean([gain(r, m, "nRMSE (%)") for r in results])),
            "share_of_series_better_psnr": float(np.mean([gain(r, m, "PSNR (dB)") > 0 for r in results])),
            "share_of_series_better_ssim": float(np.mean([gain(r, m, "SSIM") > 0 for r in results])),
        }
        for m in methods
        if m != ZERO_FILLING
    }
    regions = sorted({region for r in results for region in r.curve_errors})
    curves = {
        region: {m: float(np.mean([r.curve_errors[region][m] for r in results if region in r.curve_errors])) for m in methods}
        for region in regions
    }
    spread = {
        m: float(np.mean([s for r in results if m in r.spread for s in [r.spread[m][0] / r.spread[m][1]]]))
        for m in {m for r in results for m in r.spread}
    }
    return {
        "engine_digest": digest, "fraction": protocol.fraction, "axes": protocol.axes, "crop": protocol.crop,
        "every": protocol.every, "overall": overall, "curve_nrmse": curves, "spread_ratio": spread, "series": series,
    }  # fmt: skip


def _csv(results: Sequence["SeriesResult"], methods: Sequence[str]) -> str:
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


def _words(protocol: Any, results: Sequence["SeriesResult"], record: dict[str, Any]) -> list[str]:
    region = "the whole image" if not protocol.crop else f"a window of {protocol.crop} x {protocol.crop} pixels around the heart"
    words = [
        f"Of every image the central {protocol.fraction:.0%} of the phase-encoding lines were kept (axes tried: "
        f"{', '.join(protocol.axes)}), the rest zero-filled, and the magnitude taken (PerfGen, 2.1.3). Scores are inside "
        f"{region}, found from the temporal variance, against the original image.",
        "nRMSE is relative to the range of the reference image (eq. 10), PSNR is 20 log10 of its inverse (eq. 11), SSIM has a "
        "Gaussian window of 11 pixels, sigma 1.5 (eq. 12). Bicubic and Lanczos interpolate the magnitude image of the small "
        "matrix.",
    ]
    for method, ratio in record["spread_ratio"].items():
        words.append(f"Uncertainty of {method}: the root mean square of the standard deviation is {ratio:.2f} of the true error.")
    for curve, errors in record["curve_nrmse"].items():
        listed = ", ".join(f"{m} {100 * e:.2f} %" for m, e in errors.items())
        words.append(f"Error of the signal-time curve in {curve}, of its range: {listed}.")
    return words


def _pictures(results: Sequence["SeriesResult"], methods: Sequence[str]) -> list["Picture"]:
    from cmrsr.evaluate import figures, style
    from cmrsr.evaluate.report import Picture

    pictures = []
    per_series = {
        k: {m: np.array([r.metrics[m][k].mean() for r in results]) for m in methods} for k in results[0].metrics[methods[0]]
    }
    if len(results) > 2:
        pictures.append(
            Picture(title="By series", caption="One dot is the mean of one series.", data=style.png(figures.boxplots(per_series)))
        )
    for r in results[:: max(1, len(results) // 4)][:4]:
        shown = dict(r.shown)
        reference = shown.pop("reference")
        pictures.append(
            Picture(
                title=f"{r.name}, phase axis {r.axis}",
                caption="One frame in the grey window of the reference, and the absolute error below.",
                data=style.png(figures.comparison(reference, shown)),
            )
        )
        if r.curves:
            kept = ("reference", "zero-filling", *(m for m in methods if m not in ("zero-filling", "bicubic", "Lanczos")))
            regions = {region: {m: c[m] for m in kept} for region, c in r.curves.items()}
            pictures.append(
                Picture(
                    title=f"Signal over time: {r.name}, phase axis {r.axis}",
                    caption="Mean signal of each region against the reference (wide grey line).",
                    data=style.png(figures.curve_comparison(None, regions)),
                )
            )
    return pictures


def _print(console: Console, comparisons: Sequence["Comparison"], record: dict[str, Any]) -> None:
    methods = list(dict.fromkeys(c.method for c in comparisons))
    table = Table("method", *dict.fromkeys(c.metric for c in comparisons), "gain (dB)", "SSIM gain", "better series")
    for method in methods:
        cells = [f"{c.per_image.mean:.3f} ± {c.per_image.sd or 0:.3f}" for c in comparisons if c.method == method]
        o = record["overall"].get(method)
        more = [f"{o['psnr_gain_db']:+.2f}", f"{o['ssim_gain']:+.4f}", f"{o['share_of_series_better_psnr']:.0%}"] if o else [""] * 3
        table.add_row(method, *cells, *more)
    console.print(table)
    for method, ratio in record["spread_ratio"].items():
        console.print(f"uncertainty of {method}: {ratio:.2f} of the true error")
    for region, errors in record["curve_nrmse"].items():
        console.print(f"curve error in {region}: " + ", ".join(f"{m} {100 * e:.2f} %" for m, e in errors.items()))
