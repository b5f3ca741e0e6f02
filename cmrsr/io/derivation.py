"""What was done to a series: written into every output, and the root of its identifiers."""

import hashlib
import json
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Derivation:
    """One processing of one series. Equal derivations of equal inputs get equal identifiers: a re-run is idempotent.

    resampled: in space, for which DICOM has a code. number: added to the series number, so that results of several
    tasks on one series have numbers of their own.
    """

    task: str
    engine: str
    engine_version: str
    engine_digest: str
    software_version: str
    parameters: dict[str, str | int | float | bool | None] = field(default_factory=dict)
    resampled: bool = False
    number: int = 0

    def describe(self) -> str:
        """One line of text for DerivationDescription and the NIfTI description."""
        settings = ", ".join(f"{k}={v}" for k, v in sorted(self.parameters.items()) if v is not None)
        return (
            f"cmrsr {self.software_version} {self.task}: engine {self.engine} {self.engine_version} "
            f"(sha256 {self.engine_digest[:12]}), {settings}. Research use only, not a medical device."
        )

    def digest(self, *source_ids: str) -> str:
        """sha256 over the source identifiers and everything above."""
        record = [
            sorted(source_ids), self.task, self.engine, self.engine_digest, self.software_version,
            sorted(self.parameters.items()),
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(record).encode()).hexdigest()
