"""Speed and memory of ``cmrsr function``, measured in one run: ``python -m tests.benchmarks.function``.

Nothing here is asserted: figures depend on the machine and on what else it does.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import command

PHASES, SLICES, MATRIX = 25, 10, 128  # half resolution, which `function` doubles
LONGER = 4  # times as many phases, for the growth of memory
REPEAT = """
import sys, nibabel, numpy
image = nibabel.load(sys.argv[1])
frames = numpy.concatenate([numpy.asarray(image.dataobj)] * int(sys.argv[3]), -1)
nibabel.save(nibabel.Nifti1Image(frames, image.affine, image.header), sys.argv[2])
"""


def whole_command(path: Path, name: str, engine: str, *flags: str) -> dict[str, Any]:
    """Seconds and peak memory (MB) of `cmrsr function` from file to report."""
    out = path.parents[1] / name
    wall, memory = command("function", str(path), "-o", str(out), "--engine", engine, "--force", "-q", *flags)
    return {"seconds": round(wall, 1), "memory_mb": round(memory)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="causal-s")
    engine = parser.parse_args().engine
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        size = ("--frames", str(PHASES), "--slices", str(SLICES), "--matrix", str(MATRIX))
        command("phantom", str(root / "patient"), "--kind", "cine", "--seed", "3", *size, "--no-picture", "-q")
        cine = next((root / "patient").rglob("*cine_sax.nii.gz"))
        longer = root / "longer" / "cine.nii.gz"
        longer.parent.mkdir()
        # in a process of its own: a process inherits its parent's peak memory
        subprocess.run([sys.executable, "-c", REPEAT, str(cine), str(longer), str(LONGER)], check=True)
        found = {
            f"{PHASES} phases x {SLICES} slices of {MATRIX}x{MATRIX}": whole_command(cine, "a", engine),
            "without report": whole_command(cine, "b", engine, "--no-report"),
            "not super-resolved": whole_command(cine, "c", engine, "--scale", "1", "--no-super-resolve"),
            "5 steps x 4 samples": whole_command(cine, "d", engine, "--steps", "5", "--samples", "4"),
            f"{LONGER * PHASES} phases": whole_command(longer, "e", engine),
        }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
