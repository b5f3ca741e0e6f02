"""Latency of ``cmrsr sr --stream`` by the clock of who feeds it: ``python -m tests.benchmarks.stream``.

A file counts from the moment it is closed to the moment its result is seen under its name. Nothing here is asserted:
figures depend on the machine and on what else it does.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmrsr.phantom.examination import Protocol
from cmrsr.phantom.patient import draw_patient
from cmrsr.phantom.scans import scan_patient
from cmrsr.runtime.choice import default_threads
from tests.conftest import save_nifti
from tests.io.dicom.dicom_files import write_series

SIZE, SLICES, FRACTION = 96, 6, 0.36
BEAT_S = 0.8  # 75 a minute
LOOK_S = 0.0005
PATIENCE_S = 60.0
PIECES, PIECE_S = 4, 0.01  # of a file that is written slowly


@dataclass(frozen=True, slots=True)
class File:
    """One frame to come: its name, its bytes, and the name of its result."""

    name: str
    data: bytes
    result: str


def perfusion(beats: int) -> np.ndarray[Any, Any]:
    """The first-pass perfusion of a virtual patient (t, z, y, x), so many of its phase lines acquired."""
    protocol = Protocol(
        kinds=("perfusion",), n_frames=beats, n_slices=SLICES, matrix=SIZE, fraction=FRACTION, long_axis=False
    )
    return next(scan_patient(draw_patient(1, 1), protocol)).frames.round().astype(np.uint16)


def dicom_files(frames: np.ndarray[Any, Any]) -> list[File]:
    """In the order of acquisition: all slices of a beat, then those of the next."""
    with tempfile.TemporaryDirectory() as folder:
        paths = write_series(Path(folder), frames, InPlanePhaseEncodingDirection="COL")
        return [File(f"{p.name}.dcm", p.read_bytes(), f"{p.name}_sr.dcm") for p in paths]


def nifti_files(frames: np.ndarray[Any, Any]) -> list[File]:
    """One slice a file, compressed."""
    files = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.nii.gz"
        for k, image in enumerate(frames.reshape(-1, 1, 1, SIZE, SIZE)):
            save_nifti(path, image)
            files.append(File(f"perf_{k:04d}.nii.gz", path.read_bytes(), f"perf_{k:04d}_sr.nii.gz"))
    return files


def feed(folder: Path, out: Path, files: list[File], gap_s: float | None, slow_every: int) -> Iterator[float]:
    """Write the files, one every ``gap_s`` or as soon as the result before is there; yields each one's latency, ms."""
    begun = time.perf_counter()
    for k, file in enumerate(files):
        if gap_s is not None:
            time.sleep(max(0.0, begun + k * gap_s - time.perf_counter()))
        n = PIECES if slow_every and k % slow_every == slow_every - 1 else 1
        cuts = [len(file.data) * i // n for i in range(n + 1)]
        with (folder / file.name).open("wb", buffering=0) as stream:
            for first, last in itertools.pairwise(cuts):
                if first:
                    time.sleep(PIECE_S)
                stream.write(file.data[first:last])
        closed = time.perf_counter()
        while not (out / file.result).exists():
            if time.perf_counter() - closed > PATIENCE_S:
                raise SystemExit(f"no {file.result} after {PATIENCE_S:g} s")
            time.sleep(LOOK_S)
        yield 1000 * (time.perf_counter() - closed)


def measure(files: list[File], engine: str, gap_s: float | None, slow_every: int = 0) -> dict[str, Any]:
    """Feed one process of the command; what the feeder saw, and what ``run.json`` says."""
    with tempfile.TemporaryDirectory() as root:
        folder, out = Path(root) / "incoming", Path(root) / "out"
        folder.mkdir()
        command = [sys.executable, "-m", "cmrsr", "sr", str(folder), "--stream", "-o", str(out), "--engine", engine]
        with subprocess.Popen([*command, "--idle", "1.5", "-q"]) as process:
            while not (out / "run.json").exists():
                time.sleep(0.01)
            time.sleep(1.0)  # the engine is compiled before a scan begins
            seen = list(feed(folder, out, files, gap_s, slow_every))
            process.wait()
        run = json.loads((out / "run.json").read_text())
    median, high = np.percentile(seen, [50, 95])
    return {
        "frames": len(seen), "first_ms": seen[0], "median_ms": float(median), "p95_ms": float(high),
        "max_ms": max(seen), "log": run["latency_ms"], "exit_code": run["exit_code"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="perfgen-s")
    parser.add_argument("--beats", type=int, default=20)
    options = parser.parse_args()
    frames = perfusion(options.beats)
    dicom = dicom_files(frames)
    gap_s = BEAT_S / SLICES
    found = {
        "processors": default_threads(),
        "dicom_six_slices_a_beat": measure(dicom, options.engine, gap_s),
        "dicom_every_fifth_in_pieces": measure(dicom[:60], options.engine, gap_s, slow_every=5),
        "dicom_as_fast_as_taken": measure(dicom, options.engine, None),
        "nifti_six_slices_a_beat": measure(nifti_files(frames)[:60], options.engine, gap_s),
    }
    print(json.dumps(found, indent=2, default=float))


if __name__ == "__main__":
    main()
