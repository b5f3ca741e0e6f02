"""Which series ``cmrsr sr`` takes."""

from collections.abc import Sequence

from cmrsr.batch.verdict import Look, Verdict
from cmrsr.io.candidate import Candidate
from cmrsr.io.series import Series
from cmrsr.io.survey import Survey
from cmrsr.runtime.bundle import Bundle
from cmrsr.tasks.sr.plan import SrOptions, plan_sr


def judge(candidates: Sequence[Candidate], bundle: Bundle, look: Look) -> dict[str, Verdict]:
    """By the names of the series, each on its own, with the command's default options."""

    def plan(series: Series, found: Survey) -> tuple[str, ...]:
        return plan_sr(series, found, bundle, SrOptions()).notes

    # blank images: one is enough, for the heart is sought in all there are
    return {one.name: look.verdict(one, plan, n_blank=1) for one in candidates}
