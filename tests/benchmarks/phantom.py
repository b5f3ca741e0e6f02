"""Speed of virtual patients: ``python tests/benchmarks/phantom.py`` (about two minutes on two cores).

Prints how many slices a second are rendered anew, and how many training crops a second come from the disk cache.
"""

import os
import tempfile
import time
from pathlib import Path

import numpy as np

from cmrsr.phantom.examination import Examination, Protocol
from cmrsr.phantom.patient import draw_patient
from cmrsr.phantom.scans import scan_patient
from cmrsr.tasks.sr.training.data import Pool
from cmrsr.tasks.sr.training.pairs import PairConfig, draw_batch
from cmrsr.tasks.sr.training.virtual import VirtualSet
from cmrsr.training.cache import load

N_BATCHES, BATCH = 40, 16


def main() -> None:
    patient = draw_patient(1, 1)
    start = time.perf_counter()
    Examination(patient, Protocol()).section(5)
    print(f"a chest and one slice through it: {time.perf_counter() - start:.2f} s")
    start, n_images = time.perf_counter(), 0
    for scan in scan_patient(patient, Protocol()):
        n_images += scan.frames.shape[0] * scan.frames.shape[1]
    seconds = time.perf_counter() - start
    print(f"a study of one patient, with its truth, one process: {seconds:.1f} s, {n_images / seconds:.0f} images/s")
    virtual = VirtualSet(n_chests=16)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        images = load(virtual, Path(folder))
        seconds = time.perf_counter() - start
        print(
            f"training images, {len(os.sched_getaffinity(0))} processes: {len(images) / seconds:.0f} rendered a second"
        )
        pairs = PairConfig(crop=64, fraction=(0.3, 0.5), phase_share=0.15, short=0.25)
        start = time.perf_counter()
        for step in range(N_BATCHES):
            draw_batch([Pool(images=images, sharp=True)], pairs, BATCH, np.random.default_rng(step))
        seconds = time.perf_counter() - start
        print(f"training pairs of 64x64 from the disk cache: {N_BATCHES * BATCH / seconds:.0f} a second")


if __name__ == "__main__":
    main()
