"""Which series ``cmrsr function`` takes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cmrsr.batch.verdict import Look, Verdict
from cmrsr.io.acdc import beats_alone
from cmrsr.io.candidate import Candidate
from cmrsr.io.phases import pair_phases
from cmrsr.io.series import Series
from cmrsr.io.survey import Survey
from cmrsr.runtime.bundle import Bundle
from cmrsr.tasks.function.plan import FunctionOptions, plan_function


def judge(candidates: Sequence[Candidate], bundle: Bundle, look: Look) -> dict[str, Verdict]:
    """By the names of the series, after single phases have been joined as the command joins them."""

    def plan(series: Series, found: Survey) -> tuple[str, ...]:
        return plan_function(series, found, bundle, FunctionOptions()).notes

    arranged = pair_phases(beats_alone(candidates), time_axis=look.time_axis)
    owner = {path: one for one in arranged for path in one.paths}
    verdicts = {}
    for one in candidates:
        taken = owner.get(one.paths[0])
        if taken is None:
            verdicts[one.name] = Verdict(works=False, message="left to the series of the whole beat next to it")
            continue
        verdict = look.verdict(taken, plan)
        if verdict.works and len(taken.paths) > len(one.paths):
            verdict = replace(verdict, message=f"joined with the other phase as {Path(taken.name).name}")
        verdicts[one.name] = verdict
    return verdicts
