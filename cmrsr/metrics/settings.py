"""The ways to run an engine that an evaluation compares: ``--settings``."""

import re
from dataclasses import dataclass

from cmrsr.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One way to run the engine; ``consistency`` None takes the engine's own weight.

    The image is what the command writes with these options, but for ``plain_mean``: the mean of the samples alone.
    """

    steps: int
    samples: int
    realism: float = 0.0
    plain_mean: bool = False
    consistency: float | None = None

    @property
    def name(self) -> str:
        steps = f"{self.steps} step{'s' if self.steps > 1 else ''}"
        text = steps if self.steps == 1 else f"{steps}, {self.samples} sample{'s' if self.samples > 1 else ''}"
        if self.plain_mean:
            text = f"mean of {self.samples} × {steps}"
        elif self.realism == 1:
            text = f"single sample of {steps}"
        elif self.realism:
            text += f", realism {self.realism:g}"
        return text if self.consistency is None else f"{text}, consistency {self.consistency:g}"


def parse_settings(text: str) -> list[Setting]:
    """``1x1,5x8,5x1r1,5x8m,1x1@0.5``: steps x samples, then realism or m (mean of the samples alone), consistency."""
    settings = []
    for part in text.split(","):
        found = re.fullmatch(r"(\d+)(?:x(\d+))?(?:r([0-9.]+)|(m))?(?:@([0-9.]+))?", part.strip())
        try:
            if found is None:
                raise ValueError
            steps, samples, realism, mean, weight = found.groups()
            setting = Setting(
                steps=int(steps), samples=int(samples or 1), realism=float(realism or 0), plain_mean=mean is not None,
                consistency=float(weight) if weight else None,
            )  # fmt: skip
        except ValueError:
            raise UsageError(
                f"--settings {part!r}: expected STEPSxSAMPLES[rREALISM or m][@CONSISTENCY], for instance 5x8, 5x1r1, "
                "5x8m or 1x1@0.5"
            ) from None
        if setting.plain_mean and setting.steps == 1:
            raise UsageError(f"--settings {part!r}: one step has no samples to take the mean of; leave out the m")
        settings.append(setting)
    return settings
