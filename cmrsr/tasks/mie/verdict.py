"""Which series ``cmrsr mie`` takes: T1 images, and the cine of each."""

from collections.abc import Sequence
from pathlib import Path

from cmrsr.batch.verdict import Look, Verdict
from cmrsr.errors import CmrsrError
from cmrsr.io.candidate import Candidate
from cmrsr.runtime.bundle import Bundle
from cmrsr.tasks.mie.inputs.pairing import pair_studies


def judge(candidates: Sequence[Candidate], bundle: Bundle, look: Look) -> dict[str, Verdict]:
    """By the names of the series, after they have been paired as the command pairs them."""
    try:
        pairs = pair_studies(candidates, inputs=look.inputs, time_axis=look.time_axis)
    except CmrsrError as error:
        return {one.name: Verdict(works=False, message=str(error)) for one in candidates}
    verdicts: dict[Path, Verdict] = {}
    for refused in pairs.refused:
        verdicts |= {path: Verdict(works=False, message=str(refused.error)) for path in refused.paths}
    for t1 in pairs.cases:
        from cmrsr.tasks.mie.plan import MieOptions, plan_mie  # imports much, and most folders hold no pair

        cine = t1.cine
        try:
            plan_mie(t1.open(), cine.open(), "", MieOptions())
            both = Path(t1.name).name, Path(cine.name).name
            found = [Verdict(works=True, message=f"{what} {other}") for what, other in
                     zip(("with the cine", "as the cine of"), reversed(both), strict=True)]  # fmt: skip
        except CmrsrError as error:
            found = [Verdict(works=False, message=str(error))] * 2
        for one, verdict in zip((t1, cine), found, strict=True):
            for path in one.paths:
                if not (known := verdicts.get(path)) or not known.works:
                    verdicts[path] = verdict
    alone = Verdict(works=False, message="neither T1 images nor the cine of any")
    return {one.name: verdicts.get(one.paths[0], alone) for one in candidates}
