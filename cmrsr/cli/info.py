"""``cmrsr info``."""

import json
import platform
from dataclasses import dataclass, field
from typing import Any, cast

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cmrsr.cli.tables import tables
from cmrsr.errors import UsageError

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class InfoRequest:
    """The command line of ``info``. engines, device, backend and threads are those of --selftest and --bench."""

    as_json: bool = False
    selftest: bool = False
    bench: bool = False
    engines: list[str] = field(default_factory=list)
    device: str = "auto"
    backend: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        from cmrsr.runtime.choice import DeviceChoice

        DeviceChoice(device=self.device, backend=cast(Any, self.backend), threads=self.threads)  # refuses what is wrong
        narrowed = self.engines or (self.device, self.backend, self.threads) != ("auto", "auto", None)
        if narrowed and not (self.selftest or self.bench):
            raise UsageError("--engine, --device, --backend and --threads are for --selftest or --bench: add one")


def run_info_command(request: InfoRequest) -> int:
    """Print what is installed and included, whether it works and how fast it is; the exit code."""
    console = tables()
    shown = None if request.as_json else console
    record, code = gather(), 0
    if shown:
        print_machine(record, console)
        if not (request.selftest or request.bench):
            print_installed(record, console)
    what = (request.engines, request.device, request.backend, request.threads)
    if request.selftest:
        from cmrsr.cli.selftest import run_selftest

        record["selftest"], code = run_selftest(*what, shown)
    if request.bench and code == 0:  # of what does not work, no one wants the speed
        from cmrsr.cli.bench import run_bench

        record["bench"] = run_bench(*what, request.as_json)
    if request.as_json:
        print(json.dumps(record, indent=2))
    return code


def print_machine(record: dict[str, Any], console: Console) -> None:
    """Version, processors, GPUs."""
    processor = next((b["processor"] for b in record["backends"] if "processor" in b), "")
    console.print(f"[bold]cmrsr {record['version']}[/]  Python {record['python']}")
    console.print("Research software, not a medical device.")
    rows = [("processors", f"{record['processors']}  {processor}".strip())]
    for gpu in record["gpus"]:
        capability = ".".join(map(str, gpu["capability"]))
        memory = f"{gpu['memory_bytes'] / GIB:.0f} GiB, compute capability {capability}"
        rows.append((f"cuda:{gpu['number']}", f"{gpu['name']}, {memory}"))
    if record["no_gpu"]:
        rows.append(("GPU", f"none: {record['no_gpu']}"))
    rows.append(("cache", record["cache"] or "none: set CMRSR_CACHE to a folder that can be written"))
    table = Table(box=None, show_header=False, padding=(0, 1), pad_edge=False)
    table.add_column(style="dim")
    for name, value in rows:
        table.add_row(name, escape(value))
    console.print(table)
    console.print()


def print_installed(record: dict[str, Any], console: Console) -> None:
    """Backends and engines, a table each."""
    backends = _plain("backend", "version", "devices", "precision")
    for b in record["backends"]:
        backends.add_row(*map(escape, (b["name"], b["version"], ", ".join(b["devices"]), b["precision"])))
    console.print(backends)
    console.print()
    engines = _plain("engine", "task", "version", "parameters", "precisions", "sha256", "state")
    for e in record["engines"]:
        engines.add_row(
            escape(e["name"]), e.get("task", ""), escape(e.get("version", "")), f"{e.get('parameters', 0) / 1e6:.1f} M",
            ", ".join(e.get("precisions", ())), e.get("digest", "")[:12], escape(e["state"]),
        )  # fmt: skip
    console.print(engines)


def _plain(*columns: str) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 1), pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name == "parameters" else "left")
    return table


def gather() -> dict[str, Any]:
    """Version, Python, processors, GPUs, cache, backends and engines (each checked against its digests)."""
    from dataclasses import asdict

    from cmrsr.errors import EngineError
    from cmrsr.runtime.bundle import shipped
    from cmrsr.runtime.choice import default_threads
    from cmrsr.runtime.engine import backends
    from cmrsr.runtime.gpu.cache_folder import cache_folder
    from cmrsr.runtime.gpu.cuda import gpus, why_no_gpu
    from cmrsr.tasks.rooms import load_engine
    from cmrsr.version import __version__

    engines: list[dict[str, Any]] = []
    for folder in shipped():
        try:
            bundle = load_engine(str(folder))
        except EngineError as error:
            engines.append({"name": folder.name, "state": str(error)})
            continue
        m = bundle.manifest
        variants = {name: [k for k, g in m.graphs.items() if name in g.variants] for name in ("f16", "bf16")}
        engines.append(
            {
                "name": m.name, "task": m.task, "version": m.version,
                "parameters": sum(graph.parameters for graph in m.graphs.values()), "gflop_96": m.step.gflop_96,
                "precisions": [m.step.precision, *(name for name, graphs in variants.items() if graphs)],
                "variants": {name: graphs for name, graphs in variants.items() if graphs},
                "digest": bundle.digest, "licence": m.licence, "state": "ok",
            }
        )  # fmt: skip
    cache = cache_folder("")
    return {
        "version": __version__, "python": platform.python_version(), "processors": default_threads(),
        "gpus": [asdict(gpu) for gpu in gpus()], "no_gpu": why_no_gpu(), "cache": str(cache) if cache else None,
        "backends": backends(), "engines": engines,
    }  # fmt: skip
