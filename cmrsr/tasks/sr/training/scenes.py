"""What super-resolution is trained on: virtual scenes and sharp images to be scanned anew, or a folder's own images."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import CmrsrError, UnusableError, UsageError
from cmrsr.io.discover import discover
from cmrsr.io.patient import patient_of
from cmrsr.io.survey import SCALE_QUANTILE
from cmrsr.physics.fourier import centre_crop, fftnc, ifftnc
from cmrsr.tasks.sr.training.data import Images, Pool
from cmrsr.tasks.sr.training.recipe import PairData
from cmrsr.tasks.sr.training.virtual import LeavesSet, VirtualSet
from cmrsr.training.cache import OnItem, load
from cmrsr.training.folds import split_patients

ByPatient = dict[str, list[NDArray[Any]]]


def load_images(data: PairData, source: str, cache: Path, on_item: OnItem = None) -> Images:
    """``phantom``, or a folder of full-resolution series."""
    return virtual_scenes(data, cache, on_item) if source == "phantom" else folder_images(data, Path(source), on_item)


def virtual_scenes(data: PairData, cache: Path, on_item: OnItem = None) -> Images:
    """Chests, leaves and what ``data.also`` holds, the first of each kind or its fold 0 held out.

    UsageError: every chest or scene would be held out.
    """
    chests, leaves = VirtualSet(n_chests=data.n_chests), LeavesSet(n_scenes=data.n_leaves)
    n = data.n_validation
    for name, count in (("n_chests", data.n_chests), ("n_leaves", data.n_leaves if data.leaves_share else n + 1)):
        if n >= count:
            raise UsageError(
                f"data.n_validation {n}: expected fewer than data.{name} = {count}, which it is taken from"
            )
    total = data.n_chests + (data.n_leaves if data.leaves_share else 0)
    drawn = load(chests, cache, None if on_item is None else lambda done: on_item(done, total))
    per_chest = chests.item_shape[0]
    pools = [_split(drawn, n * per_chest, data.chests_share)]
    text = f"{data.n_chests} virtual chests, {per_chest} scenes of each"
    if data.leaves_share:
        painted = load(leaves, cache, None if on_item is None else lambda done: on_item(data.n_chests + done, total))
        pools.append(_split(painted, n, data.leaves_share))
        text += f", and {data.n_leaves} scenes of dead leaves"
    text += f", {chests.matrix}x{chests.matrix}; the first {n} of each are the validation set"
    if data.also:
        sharp, held_out, described = _also(data, data.also)
        pools.append((sharp, held_out))
        text += f"; {described}"
    return Images(training=[p for p, _ in pools], validation=[v for _, v in pools], description=text)


def folder_images(data: PairData, folder: Path, on_item: OnItem = None) -> Images:
    """Frames of all usable series; a patient is the first part of a series' path, and falls into one of the folds."""
    by_patient = _frames(folder, data.crop, on_item)
    training, validation = split_patients(sorted(by_patient), data.folds, data.fold)
    if not training or not validation:
        raise UnusableError(
            f"{folder}: usable series of {len(by_patient)} patients found, expected at least 2 with images of at least "
            f"{data.crop}x{data.crop} pixels (a patient is a sub-folder, or the name up to the first _)"
        )
    return Images(
        training=[Pool(images=[image for p in training for image in by_patient[p]])],
        validation=[Pool(images=[image for p in validation for image in by_patient[p]])],
        description=f"{len(by_patient)} patients of {folder.name}, {len(validation)} of them for validation",
    )


def _split(scenes: NDArray[Any], n_held_out: int, share: float) -> tuple[Pool, Pool]:
    """(training, validation)."""
    held_out, kept = list(scenes[:n_held_out]), list(scenes[n_held_out:])
    return Pool(images=kept, share=share, sharp=True), Pool(images=held_out, share=share, sharp=True)


def _also(data: PairData, folder: Path) -> tuple[Pool, Pool, str]:
    """(training, validation, description) of real images that are sharp enough to be scanned anew."""
    smallest = round(1.5 * data.crop / data.also_band)  # what is acquired of them is at least a crop
    by_patient = {
        patient: [_sharp(image, data.also_band) for image in images]
        for patient, images in _frames(folder, smallest, None).items()
    }
    training, held_out = split_patients(sorted(by_patient), max(2, data.also_folds), 0)
    if not training or not held_out:
        raise UnusableError(
            f"data.also {folder}: usable series of {len(by_patient)} patients found, expected at least 2 with images "
            f"of at least {smallest}x{smallest} pixels"
        )
    sharp, left_out = (
        Pool(images=[i for p in patients for i in by_patient[p]], share=data.also_share, sharp=True, recoloured=True)
        for patients in (training, held_out)
    )
    described = f"{len(by_patient)} patients of {folder.name} as further scenes, {', '.join(held_out)} for validation"
    return sharp, left_out, described


def _frames(folder: Path, smallest: int, on_item: OnItem) -> ByPatient:
    """Usable images of at least ``smallest`` pixels along each side."""
    candidates, _, _ = discover([folder])
    by_patient: ByPatient = {}
    for i, candidate in enumerate(candidates):
        with suppress(CmrsrError):  # `cmrsr sr` says why; training takes what is usable
            frames = candidate.open().array()
            images = [plane for frame in frames for plane in frame if np.isfinite(plane).all() and plane.max() > 0]
            by_patient.setdefault(patient_of(candidate.name), []).extend(p for p in images if min(p.shape) >= smallest)
        if on_item:
            on_item(i + 1, len(candidates))
    return {k: v for k, v in by_patient.items() if v}


def _sharp(image: NDArray[Any], share: float) -> NDArray[np.float16]:
    """The central square of an image's k-space, ``share`` of its shorter side, as a scene of brightness about 1."""
    n = 2 * round(share * min(image.shape) / 2)
    k = centre_crop(centre_crop(fftnc(np.asarray(image, np.float32), (0, 1)), n, 0), n, 1)
    scene = ifftnc(k, (0, 1)).real
    return np.asarray(scene / max(float(np.quantile(scene, SCALE_QUANTILE)), 1e-12), np.float16)
