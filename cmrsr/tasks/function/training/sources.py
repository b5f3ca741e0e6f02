"""Where labelled beats come from: virtual patients, a folder of labelled series split by patient, or both."""

from dataclasses import replace
from pathlib import Path

from cmrsr.errors import UnusableError
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
    return _with_others(beats, data.also, data.also_folds) if data.also else beats


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


def _with_others(beats: Beats, folder: Path, folds: int) -> Beats:
    """Virtual beats to validate on, and labelled ones to train on as well, but for the first of the folds."""
    by_patient = read_labelled(folder)
    taken, left_out = split_patients(sorted(by_patient), folds, 0) if folds > 1 else (sorted(by_patient), [])
    without = f", without {', '.join(left_out)}" if left_out else ""
    return replace(
        beats,
        also=[beat for p in taken for beat in by_patient[p]],
        description=f"{beats.description}; also {len(taken)} patients of {folder.name}{without}",
    )
