"""A few hundred damaged files in the suite, and what the harness makes of makers and readers that misbehave."""

import os
import time
from pathlib import Path

import numpy as np

from cmrsr.errors import UnreadableError
from tests.fuzz import nifti
from tests.fuzz.harness import BAD, run

LIMIT_S = 2.0


def write_number(rng: np.random.Generator, folder: Path) -> None:
    (folder / "number").write_text(str(rng.integers(10**6)))


def misbehave(folder: Path) -> None:
    """By the number of the mutant, which is the folder's name."""
    match int(folder.name):
        case 0:
            raise UnreadableError("x: no image")
        case 1:
            raise KeyError("foreign")
        case 2:
            np.ones(2**28)
        case 3:
            time.sleep(10 * LIMIT_S)
        case 4:
            os._exit(3)
        case 5:
            try:
                np.ones(2**28)
            except MemoryError as error:
                raise UnreadableError("x: no image") from error


def test_every_end_is_told_apart() -> None:
    outcomes = run(write_number, misbehave, number=8, seed=0, limit_s=LIMIT_S, memory_bytes=2**29)
    assert outcomes.counts == {
        ("refused", "UnreadableError (exit 3)"): 1,
        ("other exception", "KeyError in test_mutants.py:misbehave"): 1,
        ("out of memory", ""): 1,
        ("hang", "more than 2 s"): 1,
        ("died", "exit code 3"): 1,
        ("out of memory", "x: no image"): 1,
        ("read", ""): 2,
    }
    assert outcomes.total(*BAD) == 5
    assert "raise KeyError" in outcomes.table()


def test_a_bad_mutant_is_kept_as_it_was(tmp_path: Path) -> None:
    run(write_number, misbehave, number=2, seed=5, keep=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert (tmp_path / "1" / "number").read_text() == str(np.random.default_rng([5, 1]).integers(10**6))


def test_damaged_nifti_files_are_read_or_refused() -> None:
    outcomes = run(nifti.make, nifti.read, number=250, seed=0)
    assert outcomes.total(*BAD) == 0, outcomes.table()
    assert min(outcomes.total("read"), outcomes.total("refused")) > 50, outcomes.table()
