"""Many damaged files, one after the other, in a process with limits on memory and time: what becomes of each.

A maker writes one mutant into an empty folder, from a generator of its own seed. A reader does all that a command of
the user's would do with the folder: it returns when the mutant was read, and raises a CmrsrError when it was refused.
"""

import argparse
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cmrsr.errors import CmrsrError

Maker = Callable[[np.random.Generator, Path], None]
Reader = Callable[[Path], None]
Kind = Literal["read", "refused", "other exception", "out of memory", "hang", "died"]
GOOD: tuple[Kind, ...] = ("read", "refused")
BAD: tuple[Kind, ...] = ("other exception", "out of memory", "hang", "died")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of the mutant of this number; ``what`` tells outcomes of a kind apart."""

    number: int
    kind: Kind
    what: str = ""
    details: str = ""


@dataclass(slots=True, kw_only=True)
class Outcomes:
    """Counts by kind and by what it was, with the first example of everything bad."""

    counts: Counter[tuple[Kind, str]] = field(default_factory=Counter)
    examples: dict[tuple[Kind, str], Outcome] = field(default_factory=dict)

    def add(self, one: Outcome) -> None:
        self.counts[one.kind, one.what] += 1
        self.examples.setdefault((one.kind, one.what), one)

    def total(self, *kinds: Kind) -> int:
        return sum(n for (kind, _), n in self.counts.items() if kind in kinds)

    def table(self) -> str:
        """Counts of every kind, and one traceback for each bad outcome."""
        lines = [f"{n:7d}  {kind}{f': {what}' if what else ''}" for (kind, what), n in sorted(self.counts.items())]
        lines += [f"{0:7d}  {kind}" for kind in BAD if not self.total(kind)]
        bad = [one for (kind, _), one in self.examples.items() if kind in BAD]
        return "\n".join([*lines, *(f"\nmutant {one.number}, {one.kind}\n{one.details}" for one in bad)])


def run(
    make: Maker, read: Reader, *, number: int, seed: int, limit_s: float = 20.0, memory_bytes: int = 2**30,
    keep: Path | None = None,
) -> Outcomes:  # fmt: skip
    """Make and read mutants 0 .. number - 1; a process that hangs or dies is replaced and counts once.

    memory_bytes: of address space, above what the process has at its start. keep: a folder for the bad mutants.
    """
    outcomes = Outcomes()
    with tempfile.TemporaryDirectory() as folder:
        for one in _outcomes(make, read, number, seed, limit_s, memory_bytes, Path(folder)):
            outcomes.add(one)
            if keep is not None and one.kind in BAD:
                place = keep / str(one.number)
                place.mkdir(parents=True, exist_ok=True)
                make(np.random.default_rng([seed, one.number]), place)
    return outcomes


def command(make: Maker, read: Reader, description: str | None) -> int:
    """A command line of ``run``: prints the table; the exit code is 1 where a mutant came to a bad end."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--number", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a folder for the mutants that came to a bad end")
    given = parser.parse_args()
    started = time.monotonic()
    outcomes = run(make, read, number=given.number, seed=given.seed, keep=given.keep)
    print(f"{given.number} mutants, seed {given.seed}, {time.monotonic() - started:.0f} s\n{outcomes.table()}")
    return int(outcomes.total(*BAD) > 0)


def _outcomes(
    make: Maker, read: Reader, number: int, seed: int, limit_s: float, memory_bytes: int, folder: Path
) -> Iterator[Outcome]:
    context = multiprocessing.get_context("spawn")
    done = 0
    while done < number:
        ours, theirs = context.Pipe()
        worker = context.Process(
            target=_work, args=(make, read, range(done, number), seed, memory_bytes, folder, theirs)
        )
        worker.start()
        theirs.close()
        ours.recv()  # imports are done
        try:
            while done < number:
                if not ours.poll(limit_s):
                    yield Outcome(number=done, kind="hang", what=f"more than {limit_s:g} s")
                    done += 1
                    break
                yield ours.recv()
                done += 1
        except EOFError:
            worker.join()
            yield Outcome(number=done, kind="died", what=f"exit code {worker.exitcode}")
            done += 1
        finally:
            worker.kill()
            worker.join()
            ours.close()


def _work(
    make: Maker,
    read: Reader,
    numbers: range,
    seed: int,
    memory_bytes: int,
    folder: Path,
    results: "Connection[Any, Any]",
) -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + memory_bytes, resource.RLIM_INFINITY))
    warnings.simplefilter("error")
    results.send(None)
    for number in numbers:
        place = folder / str(number)
        place.mkdir()
        make(np.random.default_rng([seed, number]), place)
        results.send(_outcome(number, place, read))
        shutil.rmtree(place)


def _outcome(number: int, place: Path, read: Reader) -> Outcome:
    try:
        read(place)
    except CmrsrError as error:
        if _for_memory(error):
            return Outcome(number=number, kind="out of memory", what=str(error), details=traceback.format_exc())
        return Outcome(number=number, kind="refused", what=f"{type(error).__name__} (exit {error.exit_code})")
    except MemoryError:
        return Outcome(number=number, kind="out of memory", details=traceback.format_exc())
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__} in {Path(frame.filename).name}:{frame.name}"
        return Outcome(number=number, kind="other exception", what=what, details=traceback.format_exc())
    return Outcome(number=number, kind="read")


def _for_memory(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, MemoryError):
        error = error.__cause__ or error.__context__
    return error is not None
