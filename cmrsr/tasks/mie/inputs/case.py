"""A case of ``cmrsr mie``: a T1 series with its cine."""

from dataclasses import dataclass

from cmrsr.io.candidate import Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class MieCase(Candidate):
    """A T1 series to work on, and the cine that was taken for it."""

    cine: Candidate
