"""What lower precision costs the results of the shipped engines: ``python -m tests.benchmarks.precision``.

Every task at its default settings on virtual patients that no engine was trained on, computed in float32 (ONNX
Runtime), bfloat16 (OpenVINO's hint) and float16 (the variant, with every rounding that a GPU makes, see
``cmrsr.exporting.rounded``). PSNR between the results, and how much nearer or farther they
come to the truth. Nothing here is asserted. Needs the extra ``dev``.
"""

import argparse
import json
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from cmrsr.errors import CmrsrWarning
from cmrsr.exporting.rounded import rounded
from cmrsr.io.outputs import sha256_file, write_json_atomic
from cmrsr.metrics.images import psnr
from cmrsr.phantom.examination import Protocol
from cmrsr.phantom.patient import draw_patient
from cmrsr.phantom.scans import scan_patient
from cmrsr.physics.kspace import degrade, n_lines
from cmrsr.runtime.bundle import MANIFEST, load
from cmrsr.runtime.choice import DeviceChoice
from cmrsr.tasks.function.evaluation import cases as function_cases
from cmrsr.tasks.function.evaluation.coarse import coarse, made_even
from cmrsr.tasks.function.plan import FunctionOptions
from cmrsr.tasks.function.run import measure_function
from cmrsr.tasks.interp4d.evaluation import virtual as interp_virtual
from cmrsr.tasks.interp4d.plan import InterpOptions
from cmrsr.tasks.interp4d.run import interpolate
from cmrsr.tasks.mie.evaluation import virtual as mie_virtual
from cmrsr.tasks.mie.run import enhance
from cmrsr.tasks.sr.plan import SrOptions
from cmrsr.tasks.sr.run import super_resolve
from tests.benchmarks.markdown import table

FULL = DeviceChoice(device="cpu", backend="onnxruntime", precision="f32")
LOWER = {
    "bf16": DeviceChoice(device="cpu", backend="openvino", precision="bf16"),
    "f16": FULL,  # of graphs that were made for it
}
GAP = 4  # of every so many frames one is known
FRACTION = 0.35  # of the phase lines
EVERY = 4  # frames of a perfusion series are taken, to save time


@dataclass(frozen=True, slots=True)
class Result:
    """Images (n, y, x), their truth, and a number that is read from them with its unit."""

    images: NDArray[np.float32]
    truth: NDArray[np.float32] | None = None
    number: float = float("nan")
    unit: str = ""


Run = Callable[[str, DeviceChoice], Result]


def sr(seed: int, subject: int, *, steps: int = 1, samples: int = 1) -> Run:
    """A perfusion series of which 35 % of the phase lines were acquired."""
    scan = next(scan_patient(draw_patient(seed, subject), Protocol(kinds=("perfusion",), n_frames=30, n_slices=1)))
    times = scan.times_ms[::EVERY]
    whole = scan.series().with_frames(scan.frames[::EVERY], times_ms=times)
    lines = n_lines(FRACTION, whole.shape[2])
    series = replace(whole, reader=lambda t: degrade(whole.frame(t), lines, -2), phase_axis="y")
    options = SrOptions(phase_axis="y", steps=steps, samples=samples)

    def run(engine: str, choice: DeviceChoice) -> Result:
        found, _ = super_resolve(series, engine=engine, options=options, choice=choice)
        return Result(_flat(found.array()), _flat(scan.clean[::EVERY]))

    return run


def interp4d(seed: int, subject: int) -> Run:
    """A cine of which every fourth frame is known; the others are compared."""
    case = interp_virtual.virtual_case(seed, subject)
    assert case.clean is not None
    whole = case.series
    known = whole.with_frames(whole.array()[::GAP], times_ms=None if whole.times_ms is None else whole.times_ms[::GAP])
    hidden = np.arange(whole.n_frames) % GAP > 0
    truth = case.clean.array()[hidden]

    def run(engine: str, choice: DeviceChoice) -> Result:
        found, _ = interpolate(known, engine=engine, options=InterpOptions(factor=GAP), choice=choice)
        return Result(_flat(found.array()[hidden]), _flat(truth))

    return run


def function(seed: int, subject: int) -> Run:
    """A cine of half the matrix, doubled and measured."""
    case = function_cases.virtual_case(seed, subject)
    assert case.clean is not None
    series, truth = coarse(made_even(case.series)), made_even(case.clean).array()

    def run(engine: str, choice: DeviceChoice) -> Result:
        found = measure_function(series, engine=engine, options=FunctionOptions(scale=2), choice=choice)
        return Result(_flat(found.frames), _flat(truth), found.measured.lv.ef_percent, "EF, points")

    return run


def mie(seed: int, subject: int) -> Run:
    """Three T1 slices of an infarct."""
    case = mie_virtual.virtual_case(mie_virtual.VirtualPatients(n=subject, seed=seed, groups=("infarct",)), subject)

    def run(engine: str, choice: DeviceChoice) -> Result:
        found = enhance(case.cine, case.t1, engine=engine, choice=choice)
        return Result(np.stack([one.image for one in found.slices]), None, found.measured.scar_g, "scar, g")

    return run


TASKS: dict[str, tuple[str, Callable[[int, int], Run]]] = {
    "sr": ("perfgen-s", sr),
    "sr 5x4": ("perfgen-s", lambda seed, subject: sr(seed, subject, steps=5, samples=4)),
    "interp4d": ("tssc-s", interp4d),
    "function": ("causal-s", function),
    "mie": ("cpkdm-s", mie),
}


def compare(task: str, subjects: int, seed: int, made: dict[tuple[str, str], Path]) -> dict[str, Any]:
    """Means over the virtual patients; of numbers the largest change."""
    engine, prepare = TASKS[task]
    found: dict[str, dict[str, list[float]]] = {name: {} for name in LOWER}
    unit = ""
    for subject in range(1, subjects + 1):
        run = prepare(seed, subject)
        whole = run(engine, FULL)
        unit = whole.unit
        for name, choice in LOWER.items():
            lower = run(str(made.get((engine, name), engine)), choice)
            for key, value in _costs(whole, lower).items():
                found[name].setdefault(key, []).append(value)
    return {
        "task": task, "engine": engine, "patients": subjects, "number": unit,
        "costs": {name: {key: _summary(key, v) for key, v in one.items()} for name, one in found.items()},
    }  # fmt: skip


def _costs(whole: Result, lower: Result) -> dict[str, float]:
    costs = {"psnr_to_f32_db": _pooled(lower.images, whole.images)}
    if whole.unit:
        costs |= {"number_f32": whole.number, "number_change": lower.number - whole.number}
    if whole.truth is not None:
        before, after = (float(psnr(one.images, whole.truth).mean()) for one in (whole, lower))
        costs |= {"psnr_f32_db": before, "psnr_change_db": after - before}
    return costs


def _pooled(images: NDArray[np.float32], like: NDArray[np.float32]) -> float:
    """PSNR of the mean squared error over all images, in the range of all."""
    error = float(np.sqrt(np.mean(np.square(images.astype(np.float64) - like))))
    return float(20 * np.log10(np.ptp(like) / max(error, 1e-12)))


def _summary(key: str, values: list[float]) -> float:
    return float(max(values, key=abs) if key == "number_change" else np.mean(values))


def _flat(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    return frames.reshape(-1, *frames.shape[-2:])


def markdown(results: list[dict[str, Any]]) -> str:
    """A row for a task and a precision."""
    rows = []
    for one in results:
        for name, costs in one["costs"].items():
            change = costs.get("psnr_change_db")
            number = f"{costs['number_change']:+.2f} ({one['number']})" if one["number"] else ""
            rows.append([
                f"{one['task']} ({one['engine']})", name, f"{costs['psnr_to_f32_db']:.1f}",
                "" if change is None else f"{change:+.3f}", number,
            ])  # fmt: skip
    return table(["", "precision", "PSNR to float32, dB", "PSNR to the truth, change, dB", "largest change"], rows)


def float16(name: str, folder: Path) -> Path:
    """A shipped engine whose graphs are the float16 variants with their roundings."""
    bundle = load(name)
    shutil.copytree(bundle.path, folder)
    digests = dict(bundle.manifest.sha256)
    for graph in bundle.manifest.graphs.values():
        if "f16" in graph.variants:
            path = folder / graph.file
            onnx.save(rounded(onnx.load(str(folder / graph.variants["f16"].file))), str(path))
            digests[graph.file] = sha256_file(path)
    manifest = bundle.manifest.model_copy(update={"sha256": digests})
    write_json_atomic(folder / MANIFEST, manifest.model_dump(mode="json", exclude_none=True))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", default=",".join(TASKS), help="comma-separated")
    parser.add_argument("--subjects", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1000)
    options = parser.parse_args()
    warnings.simplefilter("ignore", CmrsrWarning)
    tasks = [task for task in TASKS if task in options.tasks.split(",")]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        made = {
            (name, "f16"): float16(name, Path(folder) / name) for name in sorted({TASKS[task][0] for task in tasks})
        }
        for task in tasks:
            results.append(compare(task, options.subjects, options.seed, made))
            print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    print(json.dumps(results, indent=2))
    print(markdown(results))


if __name__ == "__main__":
    main()
