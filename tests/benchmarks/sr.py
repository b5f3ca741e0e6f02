"""Speed and memory of ``cmrsr sr``, as ratios measured side by side in one run: ``python -m tests.benchmarks.sr``.

Nothing here is asserted: figures depend on the machine and on what else it does. Needs the extra ``dev``.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from cmrsr.diagnostics.ceilings import LayersAlone
from cmrsr.diagnostics.rounds import rounds
from cmrsr.diagnostics.workload import Workload
from cmrsr.io.nifti.series import nifti_writer
from cmrsr.io.series import Series
from cmrsr.physics.kspace import degrade
from cmrsr.runtime.bundle import Bundle, load
from cmrsr.runtime.choice import DeviceChoice, default_threads
from cmrsr.runtime.engine import load_graph
from tests.benchmarks.measure import command

SIZE, BATCH = 96, 8


def denoiser(bundle: Bundle) -> dict[str, float]:
    """One evaluation against its own layers run alone, both in OpenVINO at the default precision, in turns."""
    one = Workload(bundle, "step", {"batch": BATCH, "rows": SIZE, "columns": SIZE})
    engine = load_graph(bundle, one.graph, one.shapes, DeviceChoice(device="cpu", backend="openvino"))
    inputs = one.inputs().values()
    precision: Any = engine.precision
    layers = LayersAlone(bundle.step_path, one.shapes, precision=precision, threads=None)
    times = rounds({"whole": lambda: engine(*inputs), "layers": layers}, seconds=10.0)
    whole, alone = (float(np.median(times[name])) for name in ("whole", "layers"))
    return {
        "ms_per_image": 1000 * whole / BATCH,
        "ms_per_image_layers_alone": 1000 * alone / BATCH,
        "layers_alone_over_whole": alone / whole,
        "tflop_s": layers.flop / whole / 1e12,
        "tflop_s_layers": layers.flop / alone / 1e12,
    }


def truncated_series(n_frames: int, size: int = SIZE) -> Series:
    """A moving scene of ``n_frames``, one slice, 35 % of the phase lines; frames are made one at a time."""
    rng = np.random.default_rng(0)
    scene = rng.random((size, size)).astype(np.float32)
    scene = np.abs(degrade(np.kron(scene[: size // 8, : size // 8], np.ones((8, 8), np.float32)), size // 2)) * 400

    def frame(t: int) -> Any:
        return degrade(np.roll(scene, t % 7, 1)[None] * (1 + 0.5 * np.sin(t / 9)), round(0.35 * size), -2)

    return Series(shape=(n_frames, 1, size, size), affine=np.diag([2.3, 2.3, 10.0, 1.0]), reader=frame, phase_axis="y")


def write(series: Series, path: Path) -> None:
    with nifti_writer(path, series, shape=series.shape, affine=series.affine, description="benchmark") as writer:
        for image in series:
            writer.write(image)


def processes(engine: str) -> dict[str, Any]:
    """Whole processes: frames per second, the share of time outside the denoiser, memory from 60 to 600 frames."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for n in (60, 180, 600):
            write(truncated_series(n), root / f"f{n}.nii.gz")
        common = ("--engine", engine, "--force", "-q")

        def wall(*arguments: str) -> float:
            source, out = str(root / "f180.nii.gz"), str(root / "out")
            return float(np.median([command("sr", source, "-o", out, *common, *arguments)[0] for _ in range(3)]))

        command("sr", str(root / "f60.nii.gz"), "-o", str(root / "warm"), *common)
        found["frames_per_s_180_frames_1_step"] = 180 / wall()
        found["frames_per_s_180_frames_1_step_no_report"] = 180 / wall("--no-report")
        several = ("--steps", "3", "--samples", "1")
        found["seconds_180_frames_4_evaluations"] = wall(*several)
        found["seconds_180_frames_4_evaluations_no_report"] = wall(*several, "--no-report")
        for n in (60, 600):
            found[f"peak_mb_{n}_frames"] = command(
                "sr", str(root / f"f{n}.nii.gz"), "-o", str(root / f"m{n}"), *common
            )[1]
        helps = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-m", "cmrsr", "--help"], capture_output=True, check=True)
            helps.append(time.perf_counter() - start)
        found["help_seconds"] = float(np.median(helps))
    return found


def paper(n_timed: int = 3) -> dict[str, float]:
    """The paper's network in PyTorch: a few of its 2000 ancestral steps are timed, the rest extrapolated."""
    import torch

    from cmrsr.diffusion.ddim import ancestral
    from cmrsr.diffusion.schedule import Schedule
    from cmrsr.tasks.registry import build_model

    model = build_model({"name": "perfgen-paper"}).eval().to(memory_format=torch.channels_last)
    schedule = Schedule(name="linear", prediction="eps", n_train=2000)
    lr = torch.rand(BATCH, 1, SIZE, SIZE)
    times = {}
    for name, bf16 in (("f32", False), ("bf16", True)):

        def denoise(x: torch.Tensor, c: float, bf16: bool = bf16) -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                out: torch.Tensor = model(x, lr, torch.full((BATCH,), c)).float()
            return out

        noises = iter(lambda: torch.randn(BATCH, 1, SIZE, SIZE), None)
        with torch.inference_mode():
            denoise(lr, 0.5)
            start = time.perf_counter()
            ancestral(denoise, torch.randn(BATCH, 1, SIZE, SIZE), schedule, noises, n_first=n_timed)
            times[name] = (time.perf_counter() - start) / n_timed / BATCH
    return {f"paper_seconds_per_image_2000_steps_torch_{k}_extrapolated": 2000 * v for k, v in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="perfgen-s")
    parser.add_argument("--no-paper", action="store_true", help="leave out the 92 M-parameter network")
    options = parser.parse_args()
    bundle = load(options.engine, "sr")
    found: dict[str, Any] = {"processors": default_threads(), **denoiser(bundle), **processes(options.engine)}
    # 180 frames through 4 evaluations at the speed measured alone; the rest of the process is everything else
    alone = 180 * 4 * found["ms_per_image"] / 1000
    for name in ("", "_no_report"):
        whole = found[f"seconds_180_frames_4_evaluations{name}"]
        found[f"share_outside_denoiser_4_evaluations{name}"] = 1 - alone / whole
    if not options.no_paper:
        found |= paper()
        for name in ("f32", "bf16"):
            seconds_paper = found[f"paper_seconds_per_image_2000_steps_torch_{name}_extrapolated"]
            found[f"times_faster_than_paper_torch_{name}"] = seconds_paper / (found["ms_per_image"] / 1000)
    found["peak_mb_this_process"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in found.items()}, indent=2))


if __name__ == "__main__":
    main()
