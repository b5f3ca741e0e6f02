"""Speed and memory of ``cmrsr mie``, measured in one run: ``python -m tests.benchmarks.mie``.

Nothing here is asserted: figures depend on the machine and on what else it does.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import command

PHASES, SLICES, MATRIX = 25, 3, 192


def whole_command(study: Path, name: str, engine: str, *flags: str) -> dict[str, Any]:
    """Seconds and peak memory (MB) of `cmrsr mie` from files to report."""
    out = study.parent / name
    wall, memory = command("mie", str(study), "-o", str(out), "--engine", engine, "--force", "-q", *flags)
    return {"seconds": round(wall, 1), "memory_mb": round(memory)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="cpkdm-s")
    engine = parser.parse_args().engine
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / "study"
        size = ("--frames", str(PHASES), "--slices", str(SLICES), "--matrix", str(MATRIX))
        command("phantom", str(study), "--seed", "3", "--group", "infarct", *size, "--no-picture", "-q")
        found = {
            f"{SLICES} slices, {PHASES} phases, 8 T1 images": whole_command(study, "a", engine),
            "without report": whole_command(study, "b", engine, "--no-report"),
            "one step": whole_command(study, "c", engine, "--steps", "1", "--samples", "1"),
            "10 steps x 8 samples": whole_command(study, "d", engine, "--steps", "10", "--samples", "8"),
            "full precision": whole_command(study, "e", engine, "--precision", "f32"),
        }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
