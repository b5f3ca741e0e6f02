"""Where training images come from: virtual patients, or a folder of full-resolution series split by patient."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import CmrsrError, UnusableError, UsageError
from cmrsr.io.discover import discover
from cmrsr.io.patient import patient_of
from cmrsr.training.cache import load
from cmrsr.training.data import Beat, Beats, Data, Infarcts, Stack, Stacks
from cmrsr.training.folds import split_patients
from cmrsr.training.infarcts import virtual_infarcts
from cmrsr.training.labelled import read_labelled
from cmrsr.training.recipe import ClipRecipe, FunctionRecipe, MieRecipe, Recipe, SrRecipe, VolumeRecipe
from cmrsr.training.scenes import folder_images, virtual_scenes
from cmrsr.training.virtual_cine import CineSet
from cmrsr.training.virtual_function import FunctionSet
from cmrsr.training.virtual_mie import InfarctSet


def default_cache() -> Path:
    """``cmrsr`` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cmrsr"


def load_data(recipe: Recipe, data: str | None, cache: Path, on_item: Callable[[int, int], None] | None = None) -> Data:
    """The data of a recipe, or of ``data`` instead; ``on_item`` is told (done, total) as they are rendered or read.

    UnusableError: the folder holds too few patients. UsageError: every virtual patient is held out.
    """
    source = data or recipe.data.source
    if isinstance(recipe, SrRecipe):
        if source == "phantom":
            return virtual_scenes(recipe.data, cache, on_item)
        return folder_images(recipe.data, Path(source), on_item)
    if isinstance(recipe, FunctionRecipe):
        if source != "phantom":
            return _beat_folder(recipe, Path(source), on_item)
        beats = _virtual_beats(recipe, cache, on_item)
        return _with_others(beats, recipe.data.also, recipe.data.also_folds) if recipe.data.also else beats
    if isinstance(recipe, MieRecipe):
        if source != "phantom":
            raise UsageError(
                f"--data {source}: mie learns from virtual patients, whose scar is known; of real ones, cine, T1 and "
                "late enhancement of the same slices would have to be registered first"
            )
        return _virtual_infarcts(recipe, cache, on_item)
    if source == "phantom":
        return _virtual_cine(recipe, cache, on_item)
    return _cine_folder(recipe, Path(source), on_item)


def _virtual_cine(recipe: ClipRecipe | VolumeRecipe, cache: Path, on_item: Callable[[int, int], None] | None) -> Stacks:
    virtual, n = CineSet(n_patients=recipe.data.n_patients), recipe.data.n_validation
    stacks = [Stack(shown=noisy, clean=clean) for noisy, clean in _rendered(virtual, n, cache, on_item)]
    return Stacks(training=stacks[n:], validation=stacks[:n], description=_described(virtual, n))


def _virtual_beats(recipe: FunctionRecipe, cache: Path, on_item: Callable[[int, int], None] | None) -> Beats:
    virtual, n = FunctionSet(n_patients=recipe.data.n_patients), recipe.data.n_validation
    beats = [Beat(images=images, labels=labels) for images, labels in _rendered(virtual, n, cache, on_item)]
    return Beats(training=beats[n:], validation=beats[:n], description=_described(virtual, n))


def _virtual_infarcts(recipe: MieRecipe, cache: Path, on_item: Callable[[int, int], None] | None) -> Infarcts:
    """The first patients are held out; of several folds, those whose turn it is."""
    virtual, data = InfarctSet(n_patients=recipe.data.n_patients), recipe.data
    total = virtual.n_patients
    if data.folds == 1 and data.n_validation >= total:
        raise UsageError(f"data.n_validation {data.n_validation}: expected fewer than the {total} virtual patients")
    patients = virtual_infarcts(virtual, cache, None if on_item is None else lambda done: on_item(done, total))
    held_out = [i % data.folds == data.fold if data.folds > 1 else i < data.n_validation for i in range(total)]
    if not any(held_out):
        raise UsageError(f"data.fold {data.fold}: no virtual patient of {total} falls into it")
    which = f"every {data.folds}th from {data.fold}" if data.folds > 1 else f"the first {data.n_validation}"
    return Infarcts(
        training=[s for slices, out in zip(patients, held_out, strict=True) if not out for s in slices],
        validation=[s for slices, out in zip(patients, held_out, strict=True) if out for s in slices],
        description=(
            f"{total} virtual patients, {virtual.n_slices} slices of each, cine, T1 images and late enhancement, "
            f"{virtual.window}x{virtual.window}; {which} are the validation set"
        ),
    )


def _rendered(
    virtual: CineSet | FunctionSet, n_validation: int, cache: Path, on_item: Callable[[int, int], None] | None
) -> NDArray[np.uint16]:
    """The arrays of all virtual patients, of which the first ``n_validation`` are held out."""
    total = virtual.n_patients
    if n_validation >= total:
        raise UsageError(f"data.n_validation {n_validation}: expected fewer than the {total} virtual patients")
    return load(virtual, cache, None if on_item is None else lambda done: on_item(done, total))


def _described(virtual: CineSet | FunctionSet, n_validation: int) -> str:
    return (
        f"{virtual.n_patients} virtual patients, {virtual.n_slices} slices and {virtual.n_phases} phases of each, "
        f"{virtual.crop}x{virtual.crop}; the first {n_validation} are the validation set"
    )


def _beat_folder(recipe: FunctionRecipe, folder: Path, on_item: Callable[[int, int], None] | None) -> Beats:
    """Labelled series, split by patient as in ``_folder``."""
    by_patient = read_labelled(folder, on_item=on_item)
    training, validation = split_patients(sorted(by_patient), recipe.data.folds, recipe.data.fold)
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


def _cine_folder(recipe: ClipRecipe | VolumeRecipe, folder: Path, on_item: Callable[[int, int], None] | None) -> Stacks:
    """All usable 4-D series of enough phases, slices and pixels for a clip, split by patient as in ``_folder``."""
    candidates, _, _ = discover([folder])
    by_patient: dict[str, list[Stack]] = {}
    n_slices = recipe.data.n_slices if isinstance(recipe, VolumeRecipe) else 1
    for i, candidate in enumerate(candidates):
        with suppress(CmrsrError):  # `cmrsr interp4d` says why; training takes what is usable
            series = candidate.open()
            n_t, n_z, *matrix = series.shape
            if n_t > recipe.data.gap[0] and n_z >= n_slices and min(matrix) >= recipe.data.crop:
                frames = series.array()
                if np.isfinite(frames).all() and frames.max() > 0:
                    by_patient.setdefault(patient_of(candidate.name), []).append(Stack(shown=frames))
        if on_item:
            on_item(i + 1, len(candidates))
    training, validation = split_patients(sorted(by_patient), recipe.data.folds, recipe.data.fold)
    if not training or not validation:
        raise UnusableError(
            f"{folder}: 4-D series of {len(by_patient)} patients found, expected at least 2 with more than "
            f"{recipe.data.gap[0]} phases, {n_slices} slices and {recipe.data.crop}x{recipe.data.crop} pixels (a "
            "patient is a sub-folder, or the name up to the first _)"
        )
    return Stacks(
        training=[stack for p in training for stack in by_patient[p]],
        validation=[stack for p in validation for stack in by_patient[p]],
        description=f"{len(by_patient)} patients of {folder.name}, {len(validation)} of them for validation",
    )
