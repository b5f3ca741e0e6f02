"""Speed and memory of ``cmrsr interp4d``, measured side by side in one run: ``python -m tests.benchmarks.interp4d``.

Nothing here is asserted: figures depend on the machine and on what else it does. Needs the extra ``dev``.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cmrsr.io.nifti.series import nifti_writer
from cmrsr.io.series import Series
from cmrsr.io.survey import survey
from cmrsr.networks.ssd import ssd
from cmrsr.runtime.bundle import Bundle, load
from cmrsr.runtime.choice import DeviceChoice, default_threads
from cmrsr.tasks.interp4d.plan import InterpOptions, plan_interp
from cmrsr.tasks.interp4d.run import Engines, run_interp
from tests.benchmarks.measure import command, seconds

LENGTH, WIDTH, STATE = 8192, 64, 16  # of the SSD layer whose times are known


def beating(n_t: int, n_z: int, size: int) -> Series:
    """A bright disc that shrinks and grows over a textured ground; frames are made one at a time."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    texture = 200 + 60 * np.sin(x / 3) * np.cos(y / 4)
    radius = np.hypot(y - size / 2, x - size / 2)

    def frame(t: int) -> Any:
        edge = size * (0.13 + 0.04 * np.cos(2 * np.pi * t / n_t))
        disc = 700 / (1 + np.exp((radius[None] - edge * (1 + 0.02 * np.arange(n_z)[:, None, None])) / 1.5))
        return (texture + disc).astype(np.float32)

    return Series(
        shape=(n_t, n_z, size, size), affine=np.diag([1.5, 1.5, 8.0, 1.0]), reader=frame, kind="cine",
        times_ms=np.arange(n_t) * (900 / n_t),
    )  # fmt: skip


def interval(bundle: Bundle) -> dict[str, float]:
    """One interval of 256 x 256 x 10 with ten new frames: stage 1 alone, both stages, and five steps of stage 1."""
    series = beating(2, 10, 256)
    found = survey(series)

    def run(**options: Any) -> float:
        chosen = InterpOptions(factor=11, cyclic=False, **options)
        plan = plan_interp(series, found, bundle, chosen)
        engines = Engines(bundle, DeviceChoice())
        next(iter(run_interp(series, plan, engines, chosen)))
        list(run_interp(series, plan, engines, chosen))  # compiles and warms up
        start = time.perf_counter()
        list(run_interp(series, plan, engines, chosen))
        engines.close()
        return time.perf_counter() - start

    return {
        "stage_1_s": run(consistency=False), "both_stages_s": run(consistency=True),
        "stage_1_5_steps_s": run(consistency=False, steps=5),
        "stage_1_5_steps_8_samples_s": run(consistency=False, steps=5, samples=8),
    }  # fmt: skip


def ssd_layer() -> dict[str, float]:
    """The state-space-dual scan over 8192 tokens: torch float32, OpenVINO float32 and its fastest precision, in ms."""
    import openvino as ov

    class Layer(torch.nn.Module):
        def forward(self, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
            return ssd(x, a, b, c)

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, LENGTH, 1, WIDTH, generator=generator)
    a = -torch.rand(1, LENGTH, 1, generator=generator)
    b, c = torch.randn(2, 1, LENGTH, STATE, generator=generator)
    layer = Layer().eval()
    values = (x, a, b, c)
    with torch.inference_mode():
        found = {"torch_ms": 1e3 * seconds(lambda: layer(*values))}
    program = torch.export.export(layer, values)
    model = ov.convert_model(program)
    for precision in ("f32", "bf16"):
        hint = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": default_threads()}
        request = ov.Core().compile_model(model, "CPU", hint).create_infer_request()
        inputs = [v.numpy() for v in values]
        found[f"openvino_{precision}_ms"] = 1e3 * seconds(
            lambda request=request, inputs=inputs: request.infer(inputs, share_inputs=True)
        )
    return found


def processes(engine: str) -> dict[str, Any]:
    """Whole processes: a usual cine, and peak memory of a large one."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, shape in (("usual", (25, 10, 192)), ("large", (30, 32, 256))):
            series = beating(*shape)
            path = root / f"{name}_cine.nii.gz"
            with nifti_writer(
                path, series, shape=series.shape, affine=series.affine, times_ms=series.times_ms, description="speed"
            ) as writer:
                for image in series:
                    writer.write(image)
            wall, memory = command("interp4d", str(path), "-o", str(root / name), "--engine", engine, "--force", "-q")
            found[name] = {"shape_tzyx": series.shape, "seconds": wall, "memory_mb": memory}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="tssc-s")
    engine = parser.parse_args().engine
    bundle = load(engine, "interp4d")
    print(json.dumps(processes(engine), indent=2), flush=True)  # first: a process inherits its parent's peak memory
    print(json.dumps({"interval_256x256x10_10_new": interval(bundle), "ssd_8192": ssd_layer()}, indent=2))


if __name__ == "__main__":
    main()
