"""Which series ``cmrsr interp4d`` takes."""

from collections.abc import Sequence

from cmrsr.batch.verdict import Look, Verdict
from cmrsr.io.candidate import Candidate
from cmrsr.io.series import Series
from cmrsr.io.survey import Survey
from cmrsr.runtime.bundle import Bundle
from cmrsr.tasks.interp4d.plan import InterpOptions, plan_interp


def judge(candidates: Sequence[Candidate], bundle: Bundle, look: Look) -> dict[str, Verdict]:
    """By the names of the series, each on its own, with the command's default options."""

    def plan(series: Series, found: Survey) -> tuple[str, ...]:
        return plan_interp(series, found, bundle, InterpOptions(factor=2)).notes

    return {one.name: look.verdict(one, plan) for one in candidates}
