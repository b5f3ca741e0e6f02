"""Does everything on this machine agree with what was released? Files, graphs on every backend, tasks end to end."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from cmrsr.diagnostics.contenders import Contender, contenders, installed, runtime_contender
from cmrsr.diagnostics.selftest_runs import run_task
from cmrsr.errors import CmrsrError, DeviceError, EngineError
from cmrsr.metrics.outcome import Outcome
from cmrsr.phantom.one_patient import VirtualScans
from cmrsr.runtime.bundle import Bundle, Graph
from cmrsr.runtime.choice import BackendName, DeviceChoice, Engine
from cmrsr.runtime.engine import cuda_provider
from cmrsr.runtime.gpu.cuda import find_gpu
from cmrsr.runtime.sample import GraphSample, read_sample
from cmrsr.tasks.rooms import load_engine, selftest_of

Say = Callable[[str], None]
FILES, SAMPLE, REPEAT = "files", "stored sample", "same seed, same bits"
HINT = "install the engine again; if that does not help, use another --backend and report it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the self-test: of which engine, what was looked at, whether it holds, and what was found.

    exit_code: 0 where it passed, else 6 for a device and 5 for all else. figures: by name, for a script; None is
    infinite or no number.
    """

    engine: str
    what: str
    found: str
    exit_code: int = 0
    figures: dict[str, float | None] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return self.exit_code == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """What to test: names or folders of engines, and what runs them, as on the command line."""

    engines: Sequence[str]
    device: str = "auto"
    backend: BackendName = "auto"
    threads: int | None = None

    @property
    def choice(self) -> DeviceChoice:
        """For whole runs: what was asked for by name has to be there."""
        strict = (self.device, self.backend) != ("auto", "auto")
        return DeviceChoice(device=self.device, backend=self.backend, threads=self.threads, strict=strict)


def run_checks(test: SelfTest, say: Say = lambda what: None) -> Iterator[Check]:
    """All checks in order, each when it is done; ``say`` is told what comes next. UsageError: see DeviceChoice."""
    _ = test.choice  # a wrong request is no failed check
    say("looking for the device")
    if problem := missing_device(test):
        yield Check(engine="", what="device", found=problem, exit_code=DeviceError.exit_code)
        return
    ways = contenders(test.device, test.backend, test.threads)
    patient = VirtualScans()
    for name in test.engines:
        say(f"{name}: files")
        check, bundle = check_files(name)
        yield check
        if bundle:
            yield from check_graphs(bundle, ways, test, say)
            say("making a virtual patient")
            scans, _ = selftest_of(bundle.manifest.task)
            patient.make(*scans)
            yield from check_task(bundle, patient, test.choice, say)


def missing_device(test: SelfTest) -> str:
    """What is wrong with the device or backend that was asked for by name; empty where nothing is."""
    if test.backend != "auto" and not installed(test.backend):
        what = "'cmrsr[tensorrt]'" if test.backend == "tensorrt" else test.backend
        return f"--backend {test.backend} is not installed: pip install {what}"
    by_cuda = test.device.startswith("cuda") and test.backend != "tensorrt" and cuda_provider()
    try:
        if (test.device.startswith("cuda") or test.backend == "tensorrt") and not by_cuda:
            find_gpu(int(test.device.partition(":")[2] or 0))
    except DeviceError as error:
        return str(error)
    if not contenders(test.device, test.backend, test.threads):
        return f"nothing is installed that runs engines with --device {test.device} --backend {test.backend}"
    return ""


def check_files(name: str) -> tuple[Check, Bundle | None]:
    """The bundle with all its digests."""
    start = time.perf_counter()
    try:
        bundle = load_engine(name)
    except EngineError as error:
        return _failed(name, FILES, error, start), None
    m = bundle.manifest
    found = f"version {m.version}, {len(m.sha256)} files as released, sha256 {bundle.digest[:12]}"
    return Check(engine=m.name, what=FILES, found=found, seconds=time.perf_counter() - start), bundle


def check_graphs(bundle: Bundle, ways: Sequence[Contender], test: SelfTest, say: Say) -> Iterator[Check]:
    """All graphs of a bundle on every backend, against the stored outputs of torch float32."""
    name = bundle.manifest.name
    start = time.perf_counter()
    try:
        sample = read_sample(bundle)
    except EngineError as error:
        yield _failed(name, SAMPLE, error, start)
        return
    for way in (*ways, *_half_precision(bundle, ways, test)):
        say(f"{name}: {way.name}")
        start = time.perf_counter()
        try:
            errors = {
                one: _error(bundle, bundle.manifest.graphs[one], kept, way)
                for one, kept in sample.items()
                if way.choice.precision != "f16" or "f16" in bundle.manifest.graphs[one].variants
            }
        except CmrsrError as error:
            yield _failed(name, way.name, error, start)
            continue
        worst = max(errors, key=lambda one: errors[one][0] / errors[one][1])
        passed = all(value <= limit for value, limit in errors.values())
        found = f"error {errors[worst][0]:.1e}, allowed {errors[worst][1]:.0e}, in {worst}"
        yield Check(
            engine=name, what=way.name, found=found if passed else f"{found}; {HINT}",
            exit_code=0 if passed else EngineError.exit_code,
            figures=_finite({one: value for one, (value, _) in errors.items()}), seconds=time.perf_counter() - start,
        )  # fmt: skip


def _half_precision(bundle: Bundle, ways: Sequence[Contender], test: SelfTest) -> list[Contender]:
    """The f16 graphs of a bundle that has some, on ONNX Runtime; a GPU with TensorRT takes them by itself."""
    there = any("f16" in graph.variants for graph in bundle.manifest.graphs.values())
    portable = any((way.choice.backend, way.choice.device) == ("onnxruntime", "cpu") for way in ways)
    return [runtime_contender("onnxruntime", "cpu", "f16", test.threads)] if there and portable else []


def _error(bundle: Bundle, graph: Graph, sample: GraphSample, way: Contender) -> tuple[float, float]:
    """The error of a graph, and what is allowed."""
    engine = way.factory(bundle, graph, sample.dynamic_shapes(graph), way.choice)
    try:
        return sample.error(engine(*sample.inputs.values())), allowed(graph, engine)
    finally:
        engine.close()


def allowed(graph: Graph, engine: Engine) -> float:
    """A GPU's float32 is TF32 where it multiplies: ten bits, as many as f16 has."""
    exact = engine.precision == "f32" and engine.device == "cpu"
    return graph.tolerance if exact else graph.tolerance_low_precision


def check_task(bundle: Bundle, patient: VirtualScans, choice: DeviceChoice, say: Say) -> Iterator[Check]:
    """A whole run of the bundle's task, and another with the same seed."""
    name, task = bundle.manifest.name, bundle.manifest.task
    what = f"cmrsr {task}"
    start = time.perf_counter()
    try:
        say(f"{name}: {what}")
        first = run_task(task, str(bundle.path), patient, choice)
        yield Check(
            engine=name, what=what, found=first.found if first.passed else f"{first.found}; {HINT}",
            exit_code=0 if first.passed else EngineError.exit_code, figures=_finite(first.figures),
            seconds=time.perf_counter() - start,
        )  # fmt: skip
        what, start = REPEAT, time.perf_counter()
        say(f"{name}: {what}")
        yield _repeated(name, first, run_task(task, str(bundle.path), patient, choice), start)
    except CmrsrError as error:
        yield _failed(name, what, error, start)


def _repeated(name: str, first: Outcome, second: Outcome, start: float) -> Check:
    same = all(np.array_equal(a, b, equal_nan=True) for a, b in zip(first.result, second.result, strict=True))
    return Check(
        engine=name, what=REPEAT, found="a second run is the first" if same else f"a second run differs; {HINT}",
        exit_code=0 if same else EngineError.exit_code, seconds=time.perf_counter() - start,
    )  # fmt: skip


def _failed(name: str, what: str, error: CmrsrError, start: float) -> Check:
    code = DeviceError.exit_code if isinstance(error, DeviceError) else EngineError.exit_code
    return Check(engine=name, what=what, found=str(error), exit_code=code, seconds=time.perf_counter() - start)


def _finite(figures: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}
