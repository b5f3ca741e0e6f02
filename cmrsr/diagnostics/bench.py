"""Speed of one graph on everything that can run it, measured side by side in one run."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cmrsr.diagnostics.ceilings import Arithmetic, Ceiling, LayersAlone, count_flop
from cmrsr.diagnostics.cold_start import ColdStart, cold_start
from cmrsr.diagnostics.contenders import Contender
from cmrsr.diagnostics.rounds import rounds
from cmrsr.diagnostics.workload import Workload
from cmrsr.errors import CmrsrError
from cmrsr.runtime.choice import Engine
from cmrsr.runtime.gpu.device_loop import SLOTS

Array = NDArray[np.float32]
STEPS = (1, 5, 50)  # of the loops whose frames a second are given
LOOP = 10  # steps of the loop that is timed on a GPU
LAYERS = "layers alone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One contender on one graph. Times are medians over rounds; they move with the machine, the shares hardly do.

    share_of_ceiling: of the rate of a plain matrix product in the same arithmetic on the same kind of device, best of
    the rounds. ratio_to_layers: time of the graph's own products run alone over that of the graph; it can pass 1, as
    alone each of them converts its data. None without such a thing to compare with.
    frames_per_s: by number of steps; evaluations alone, on a GPU whole loops from host array to host array.
    error: largest against the oracle, relative to the largest value of the same output.
    """

    name: str
    backend: str
    device: str
    precision: str
    ms: float
    ms_per_image: float
    tflop_s: float
    share_of_ceiling: float | None
    ratio_to_layers: float | None
    frames_per_s: dict[int, float]
    cold_start_s: float | None
    peak_mb: float | None
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All contenders on one graph. ceilings_tflop_s: of the matrix products by name; skipped: the reasons by name."""

    engine: str
    task: str
    graph: str
    shapes: dict[str, tuple[int, ...]]
    images: int
    gflop: float
    oracle: str
    n_rounds: int
    ceilings_tflop_s: dict[str, float]
    backends: tuple[Measured, ...]
    skipped: dict[str, str]

    def record(self) -> dict[str, Any]:
        return asdict(self)


class Running:
    """A contender that was loaded, and what it made of the inputs. CmrsrError: it cannot be loaded or run."""

    def __init__(self, one: Contender, workload: Workload) -> None:
        self.name, self.workload, self.inputs = one.name, workload, workload.inputs()
        self.engine: Engine = one.factory(workload.bundle, workload.graph, workload.shapes, one.choice)
        try:
            self.outputs = self.engine(*self.inputs.values())
            # a GPU is timed over loops, whose evaluations have no copies between them
            self.looped = self.engine.device != "cpu" and workload.graph_name == "step"
            if self.looped:
                self.prepare(LOOP)  # memory that is too small for the loop shows now
        except CmrsrError:
            self.engine.close()
            raise

    def turn(self) -> None:
        if self.looped:
            self.loop(LOOP)
        else:
            self.engine(*self.inputs.values())

    def prepare(self, n_steps: int) -> None:
        """Run a loop as often as it takes until every place that it may run in has captured it."""
        for _ in range(SLOTS):
            self.loop(n_steps)

    def loop(self, n_steps: int) -> None:
        x_t, *others = self.inputs
        given = {name: self.inputs[name] for name in others if name != "coefficients"}
        self.engine.start(self.inputs[x_t], given, self.workload.coefficients(n_steps))()

    def frames_per_s(self, evaluation: float) -> dict[int, float]:
        """By number of steps; evaluation: seconds of one."""
        if self.workload.graph_name != "step":
            return {}
        took = {n: n * evaluation for n in STEPS}
        if self.looped:
            for n in STEPS:
                self.prepare(n)
            times = rounds({str(n): partial(self.loop, n) for n in STEPS}, 0.0)
            took = {n: float(np.median(times[str(n)])) for n in STEPS}
        return {n: self.workload.n_images / seconds for n, seconds in took.items()}

    def measured(
        self, turn: float, flop: float, wanted: Sequence[Array], *, rate: float | None, layers: float | None,
        start: ColdStart | None,
    ) -> Measured:  # fmt: skip
        """turn, layers: seconds; flop: of an evaluation; rate: of the ceiling, flop a second."""
        took = turn / LOOP if self.looped else turn
        return Measured(
            name=self.name, backend=self.engine.backend, device=self.engine.device, precision=self.engine.precision,
            ms=1e3 * took, ms_per_image=1e3 * took / self.workload.n_images, tflop_s=flop / took / 1e12,
            share_of_ceiling=flop / took / rate if rate else None, ratio_to_layers=layers / took if layers else None,
            frames_per_s=self.frames_per_s(took), cold_start_s=start.seconds if start else None,
            peak_mb=start.peak_mb if start else None, error=relative_error(self.outputs, wanted),
        )  # fmt: skip


def compare(
    workload: Workload,
    found: Sequence[Contender],
    ceilings: Sequence[Ceiling],
    oracle: Contender,
    *,
    seconds: float,
    cold: bool = True,
    say: Callable[[str], None] = lambda what: None,
) -> Comparison:
    """Measure all contenders on one graph, in rounds of about ``seconds`` altogether.

    cold: a fresh process of each is started as well. A contender that cannot be loaded or run, or not in a fresh
    process, is skipped with its reason. CmrsrError: the oracle cannot be run.
    """
    skipped: dict[str, str] = {}
    running: dict[str, Running] = {}
    starts: dict[str, ColdStart] = {}
    with ExitStack() as stack:
        for one in found:
            say(one.name)
            try:
                loaded = Running(one, workload)
                stack.callback(loaded.engine.close)
                if cold:
                    starts[one.name] = cold_start(workload, one.factory, one.choice)
                running[one.name] = loaded
            except CmrsrError as error:
                skipped[one.name] = str(error)
        wanted = _answer(running.get(oracle.name), oracle, workload)
        layers = _layers_of(found, workload)
        calls: dict[str, Callable[[], object]] = {name: one.turn for name, one in running.items()}
        calls |= {c.name: c.run for c in ceilings} | ({LAYERS: layers} if layers else {})
        say("turn by turn")
        times = rounds(calls, seconds)
        taken = {name: float(np.median(of_rounds)) for name, of_rounds in times.items()}
        rates: dict[tuple[str, str], float] = {(c.device, c.precision): c.flop / min(times[c.name]) for c in ceilings}
        flop = layers.flop if layers else count_flop(workload.bundle.path / workload.graph.file, workload.shapes)
        fastest = next((name for name, one in running.items() if one.engine.backend == "openvino"), None)
        measured = tuple(
            one.measured(
                taken[name], flop, wanted, start=starts.get(name),
                rate=rates.get((one.engine.device.partition(":")[0], one.engine.precision)),
                layers=taken.get(LAYERS) if name == fastest else None,
            )
            for name, one in running.items()
        )  # fmt: skip
    return Comparison(
        engine=workload.bundle.manifest.name, task=workload.bundle.manifest.task, graph=workload.graph_name,
        shapes=workload.shapes, images=workload.n_images, gflop=flop / 1e9, oracle=oracle.name,
        n_rounds=len(next(iter(times.values()), [])), backends=measured, skipped=skipped,
        ceilings_tflop_s={c.name: rates[c.device, c.precision] / 1e12 for c in ceilings},
    )  # fmt: skip


def relative_error(found: Sequence[Array], wanted: Sequence[Array]) -> float:
    """Largest error over all outputs, each relative to the largest value of that output; infinite for no number."""
    if not all(np.isfinite(output).all() for output in found):
        return float("inf")
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(found, wanted, strict=True))


def _answer(running: Running | None, oracle: Contender, workload: Workload) -> tuple[Array, ...]:
    """What the oracle makes of the inputs; ``running``: it is one of the contenders."""
    if running is None:
        running = Running(oracle, workload)
        running.engine.close()
    return running.outputs


def _layers_of(found: Sequence[Contender], workload: Workload) -> LayersAlone | None:
    """The graph's products run alone by OpenVINO at its fastest, if that is among the contenders."""
    one = next((c for c in found if c.choice.backend == "openvino"), None)
    if one is None:
        return None
    precision = cast(Arithmetic, one.choice.precision)
    path = workload.bundle.path / workload.graph.file
    return LayersAlone(path, workload.shapes, precision=precision, threads=one.choice.threads)
