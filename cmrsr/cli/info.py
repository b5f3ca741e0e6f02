"""``cmrsr info``."""

import json
import platform
from typing import Any

from rich.console import Console
from rich.table import Table


def run_info_command(as_json: bool) -> None:
    """Print what is installed and what is shipped."""
    record = gather()
    if as_json:
        print(json.dumps(record, indent=2))
        return
    console = Console(highlight=False)
    console.print(f"cmrsr {record['version']}, Python {record['python']}, {record['processors']} processors")
    console.print("Research software, not a medical device.")
    backends = Table("backend", "version", "devices", "precision")
    for b in record["backends"]:
        backends.add_row(b["name"], b["version"], ", ".join(b["devices"]), b["precision"])
    console.print(backends)
    engines = Table("engine", "task", "version", "parameters", "sha256", "state")
    for e in record["engines"]:
        engines.add_row(
            e["name"], e.get("task", ""), e.get("version", ""), f"{e.get('parameters', 0) / 1e6:.1f} M",
            e.get("digest", "")[:12], e["state"],
        )  # fmt: skip
    console.print(engines)


def gather() -> dict[str, Any]:
    """Version, Python, processors, backends and engines (each checked against its digests)."""
    from cmrsr import __version__
    from cmrsr.errors import EngineError
    from cmrsr.runtime.bundle import load, shipped
    from cmrsr.runtime.choice import default_threads
    from cmrsr.runtime.engine import backends

    engines: list[dict[str, Any]] = []
    for folder in shipped():
        try:
            bundle = load(str(folder))
        except EngineError as error:
            engines.append({"name": folder.name, "state": str(error)})
            continue
        m = bundle.manifest
        engines.append(
            {
                "name": m.name, "task": m.task, "version": m.version,
                "parameters": sum(graph.parameters for graph in m.graphs), "gflop_96": m.step.gflop_96,
                "digest": bundle.digest, "licence": m.licence, "state": "ok",
            }
        )  # fmt: skip
    return {
        "version": __version__, "python": platform.python_version(), "processors": default_threads(),
        "backends": backends(), "engines": engines,
    }  # fmt: skip
