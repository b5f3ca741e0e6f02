"""The tasks that there are, and what each of their rooms has for whoever goes through them all. Imports nothing heavy.

A room is named as its command, and has the files ``engine.py`` (``ENGINE``), ``verdict.py`` (``judge``),
``selftest.py`` (``SCANS``, ``run``) and ``training/entry.py``, see ``registry``. With the public calls of ``cmrsr`` and
the command line this is the one place that names all tasks: a fifth one is a folder beside it, and a word here.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cmrsr.errors import EngineError

if TYPE_CHECKING:
    from cmrsr.batch.verdict import Judge
    from cmrsr.metrics.outcome import TaskRun
    from cmrsr.runtime.bundle import Bundle
    from cmrsr.runtime.kind import EngineKind

TASKS = ("sr", "interp4d", "function", "mie")  # in the order that they are listed in


def kind_of(task: str) -> "EngineKind":
    """What a task expects of its engines."""
    kind: EngineKind = file_of(task, "engine").ENGINE
    return kind


def load_engine(name_or_path: str, task: str | None = None) -> "Bundle":
    """An engine, checked for what its task needs; task: which that has to be, None takes any."""
    from cmrsr.runtime.bundle import load

    bundle = load(name_or_path, task)
    manifest = bundle.manifest
    if manifest.task not in TASKS:
        raise EngineError(
            f"engine {manifest.name} is for `cmrsr {manifest.task}`, expected one of {', '.join(TASKS)}: it needs "
            "another version of cmrsr"
        )
    return kind_of(manifest.task).check(bundle)


def judge_of(task: str) -> "Judge":
    """What tells of series whether the task's command takes them."""
    judge: Judge = file_of(task, "verdict").judge
    return judge


def selftest_of(task: str) -> "tuple[tuple[str, ...], TaskRun]":
    """Which scans of a virtual patient a run of the task needs, and the run."""
    file = file_of(task, "selftest")
    return file.SCANS, file.run


def file_of(task: str, name: str) -> Any:
    """A module of a task's room, by its name in there."""
    return import_module(f"cmrsr.tasks.{task}.{name}")
