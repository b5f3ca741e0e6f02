"""Where labelled beats come from: virtual patients, a folder of labelled series split by patient, or both."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from cmrsr.errors import UnusableError
from cmrsr.tasks.function.training.convention import drawn_to_blood, unsure_rv
from cmrsr.tasks.function.training.data import Beat, Beats
from cmrsr.tasks.function.training.labelled import read_labelled
from cmrsr.tasks.function.training.recipe import BeatData
from cmrsr.tasks.function.training.virtual import FunctionSet
from cmrsr.training.cache import OnItem
from cmrsr.training.folds import split_patients
from cmrsr.training.virtual import described, rendered


def load_beats(data: BeatData, source: str, cache: Path, on_item: OnItem = None) -> Beats:
    """``phantom``, with the labelled series of ``data.also`` beside it, or a folder of labelled series."""
    if source != "phantom":
        return _beat_folder(data, Path(source), on_item)
    beats = _virtual_beats(data, cache, on_item)
    return _with_others(beats, data, data.also) if data.also else beats


def _virtual_beats(data: BeatData, cache: Path, on_item: OnItem) -> Beats:
    virtual, n = FunctionSet(n_patients=data.n_patients), data.n_validation
    beats = [Beat(images=images, labels=labels) for images, labels in rendered(virtual, n, cache, on_item)]
    return Beats(training=beats[n:], validation=beats[:n], description=described(virtual, n))


def _beat_folder(data: BeatData, folder: Path, on_item: OnItem) -> Beats:
    """Labelled series, split by patient."""
    by_patient = read_labelled(folder, on_item=on_item)
    training, validation = split_patients(sorted(by_patient), data.folds, data.fold)
    if not training or not validation:
        raise UnusableError(
            f"{folder}: labelled series of {len(by_patient)} patient found, expected at least 2 patients"
        )
    return Beats(
        training=[beat for p in training for beat in by_patient[p]],
        validation=[beat for p in validation for beat in by_patient[p]],
        description=f"{len(by_patient)} patients of {folder.name}, {len(validation)} of them for validation",
    )


def _with_others(beats: Beats, data: BeatData, folder: Path) -> Beats:
    """Virtual beats, and labelled ones beside them to train and, those of the first of the folds, to validate on."""
    by_patient = read_labelled(folder)
    if missing := set(data.also_held_out) - set(by_patient):
        raise UnusableError(f"{folder}: no labelled series of {', '.join(sorted(missing))}, named in also_held_out")
    left_out = sorted(data.also_held_out)
    if not left_out and data.also_folds > 1:
        _, left_out = split_patients(sorted(by_patient), data.also_folds, 0)
    taken = sorted(set(by_patient) - set(left_out))
    without = f", without {', '.join(left_out)}" if left_out else ""
    return replace(
        beats,
        also=[_prepared(beat, data.cavity) for p in taken for beat in by_patient[p]],
        also_validation=[_prepared(beat, data.cavity) for p in left_out for beat in by_patient[p]],
        description=f"{beats.description}; also {len(taken)} patients of {folder.name}{without}",
    )


def _prepared(beat: Beat, cavity: float | None) -> Beat:
    """A beat whose labels follow one convention, and whose RV is in doubt at the base."""
    labels = beat.labels
    if cavity is not None and beat.known[1]:
        labels = np.stack([
            np.stack([drawn_to_blood(i, k, cavity) for i, k in zip(images, drawn, strict=True)])
            for images, drawn in zip(beat.images.astype(np.float32), labels, strict=True)
        ])  # fmt: skip
    return replace(beat, labels=labels, unsure_rv=unsure_rv(labels) if beat.known[0] else None)
