"""Where beats come from: virtual patients, or a folder of 4-D series split by patient."""

from contextlib import suppress
from pathlib import Path

import numpy as np

from cmrsr.errors import CmrsrError, UnusableError
from cmrsr.io.discover import discover
from cmrsr.io.patient import patient_of
from cmrsr.tasks.interp4d.training.data import Stack, Stacks
from cmrsr.tasks.interp4d.training.recipe import ClipData
from cmrsr.tasks.interp4d.training.virtual import CineSet
from cmrsr.training.cache import OnItem
from cmrsr.training.folds import split_patients
from cmrsr.training.virtual import described, rendered


def load_stacks(data: ClipData, n_slices: int, source: str, cache: Path, on_item: OnItem = None) -> Stacks:
    """``phantom``, or a folder of 4-D series with at least ``n_slices`` slices."""
    if source == "phantom":
        return _virtual_cine(data, cache, on_item)
    return _cine_folder(data, n_slices, Path(source), on_item)


def _virtual_cine(data: ClipData, cache: Path, on_item: OnItem) -> Stacks:
    virtual, n = CineSet(n_patients=data.n_patients), data.n_validation
    stacks = [Stack(shown=noisy, clean=clean) for noisy, clean in rendered(virtual, n, cache, on_item)]
    return Stacks(training=stacks[n:], validation=stacks[:n], description=described(virtual, n))


def _cine_folder(data: ClipData, n_slices: int, folder: Path, on_item: OnItem) -> Stacks:
    """All usable 4-D series of enough phases, slices and pixels for a clip, split by patient."""
    candidates, _, _ = discover([folder])
    by_patient: dict[str, list[Stack]] = {}
    for i, candidate in enumerate(candidates):
        with suppress(CmrsrError):  # `cmrsr interp4d` says why; training takes what is usable
            series = candidate.open()
            n_t, n_z, *matrix = series.shape
            if n_t > data.gap[0] and n_z >= n_slices and min(matrix) >= data.crop:
                frames = series.array()
                if np.isfinite(frames).all() and frames.max() > 0:
                    by_patient.setdefault(patient_of(candidate.name), []).append(Stack(shown=frames))
        if on_item:
            on_item(i + 1, len(candidates))
    training, validation = split_patients(sorted(by_patient), data.folds, data.fold)
    if not training or not validation:
        raise UnusableError(
            f"{folder}: 4-D series of {len(by_patient)} patients found, expected at least 2 with more than "
            f"{data.gap[0]} phases, {n_slices} slices and {data.crop}x{data.crop} pixels (a "
            "patient is a sub-folder, or the name up to the first _)"
        )
    return Stacks(
        training=[stack for p in training for stack in by_patient[p]],
        validation=[stack for p in validation for stack in by_patient[p]],
        description=f"{len(by_patient)} patients of {folder.name}, {len(validation)} of them for validation",
    )
