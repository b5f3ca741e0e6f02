"""Which patients are held out of training."""

import hashlib


def split_patients(patients: list[str], folds: int, fold: int) -> tuple[list[str], list[str]]:
    """(training, validation): fold ``fold`` of ``folds`` is held out; with one fold, every fifth patient is.

    Patients are ordered by a hash of their names, so that the split does not follow the order of recruitment.
    """
    order = sorted(patients, key=lambda p: hashlib.sha256(p.encode()).hexdigest())
    n = folds if folds > 1 else min(5, max(2, len(order)))
    held_out = {p for i, p in enumerate(order) if i % n == (fold if folds > 1 else 0)}
    return [p for p in patients if p not in held_out], sorted(held_out)
