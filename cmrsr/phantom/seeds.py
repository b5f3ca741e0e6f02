"""Which virtual patients may be scored: those that no shipped engine was trained on."""

from cmrsr.errors import UsageError

TRAINING_SEED = 0  # of the virtual patients that the shipped engines were trained on


def check_unseen(seed: int, subjects: int) -> None:
    """UsageError for a number of patients that cannot be scanned, or for patients that the engines know."""
    if subjects < 1:
        raise UsageError(f"--subjects {subjects}: expected at least 1")
    if seed <= TRAINING_SEED:
        raise UsageError(f"--seed {seed}: the included engines were trained on patients of seed 0; expected 1 or more")
