"""Every shipped engine on everything that runs it on this processor: ``python -m tests.benchmarks.engines``.

Prints Markdown; ``--json FILE`` keeps all that was measured. Shares of the matrix product's rate and factors are ratios
measured in turns within one run. Nothing here is asserted. Needs the extra ``dev``.
"""

import argparse
import json
import sys
from pathlib import Path

from cmrsr.cli.bench import everything
from cmrsr.diagnostics.bench import Comparison, compare
from cmrsr.diagnostics.contenders import cpu_ceilings, oracle
from cmrsr.diagnostics.workload import usual
from cmrsr.runtime.bundle import load, shipped
from cmrsr.runtime.choice import default_threads
from tests.benchmarks.markdown import comparisons

BESIDE_STEPS = {"interp4d": "volume", "function": "decoder"}  # graphs that time is spent in, too
REFERENCE = "torch f32"


def measure(seconds: float, threads: int | None) -> list[Comparison]:
    """``seconds``: of the rounds of each graph."""
    found = everything("cpu", "auto", threads)
    ceilings = cpu_ceilings(found, threads)
    results = []
    for bundle in (load(str(folder)) for folder in shipped()):
        other = BESIDE_STEPS.get(bundle.manifest.task)
        for name in ("step", *([other] if other else [])):
            print(f"{bundle.manifest.name} {name}", file=sys.stderr)
            results.append(compare(usual(bundle, name), found, ceilings, oracle(threads), seconds=seconds))
    return results


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="of measuring each graph")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args(arguments)
    results = measure(options.seconds, options.threads)
    if options.json:
        options.json.write_text(json.dumps([one.record() for one in results], indent=2) + "\n")
    print(comparisons(results, REFERENCE))
    for name in results[0].ceilings_tflop_s if results else ():
        rates = [f"{one.ceilings_tflop_s[name]:.2f}" for one in results]
        print(
            f"\n{name}, TFLOP/s beside each graph: {', '.join(rates)}; {options.threads or default_threads()} threads."
        )


if __name__ == "__main__":
    main()
