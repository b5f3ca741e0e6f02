"""What each command would do with the series of a folder, by the commands' own plans."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cmrsr.batch.verdict import Look, Verdict
from cmrsr.errors import CmrsrError
from cmrsr.io.candidate import Candidate
from cmrsr.runtime.bundle import Bundle
from cmrsr.tasks.rooms import TASKS, judge_of, kind_of


def judge_all(
    candidates: Sequence[Candidate], bundles: Mapping[str, Bundle | CmrsrError], look: Look
) -> dict[str, dict[str, Verdict]]:
    """By the names of the series, the verdict of each command; of one that cannot be opened, its error.

    bundles: the engines that are there; what a command lacks is its verdict.
    """
    opened = [replace(one, open=functools.cache(one.open)) for one in candidates]
    result: dict[str, dict[str, Verdict]] = {one.name: {} for one in opened}
    for task in TASKS:
        bundle = bundles[task]
        if isinstance(bundle, CmrsrError):
            verdicts = {one.name: Verdict(works=False, message=str(bundle)) for one in opened}
        else:
            verdicts = judge_of(task)(opened, bundle, look)
        for name, verdict in verdicts.items():
            result[name][task] = verdict
    return result


def load_bundles() -> dict[str, Bundle | CmrsrError]:
    """The engine that each command takes by default, or why it cannot be had."""
    bundles: dict[str, Bundle | CmrsrError] = {}
    for task in TASKS:
        kind = kind_of(task)
        try:
            bundles[task] = kind.load(kind.default)
        except CmrsrError as error:
            bundles[task] = error
    return bundles
