"""Inputs of the graphs as they are in use, for the ranges of an int8 export: virtual patients, through the graphs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cmrsr.diffusion.ddim import ddim_coefficients
from cmrsr.diffusion.residual import Residual
from cmrsr.exporting.checkpoint import Source
from cmrsr.exporting.spec import GraphSpec
from cmrsr.models.causal import Causal
from cmrsr.training.beat_batches import BeatConfig, draw_beats
from cmrsr.training.clips import draw_clips, draw_volumes
from cmrsr.training.data import Beats, Images, Infarcts, Stacks
from cmrsr.training.function_system import context, encode, frames
from cmrsr.training.infarct_batches import whole_infarcts
from cmrsr.training.interp4d_system import clip_config, conditions, predict
from cmrsr.training.pairs import PairConfig, draw_batch
from cmrsr.training.recipe import ClipRecipe, FunctionRecipe, MieRecipe, Recipe, SrRecipe, VolumeRecipe
from cmrsr.training.sources import load_data

Inputs = list[tuple[Tensor, ...]]
STEPS = (1, 5)  # DDIM runs whose inputs are taken
PATIENTS, HELD_OUT = 4, 3  # virtual ones; the first, which no training has seen, are used
SAMPLES = 6


@torch.inference_mode()
def calibration(source: Source, cache: Path) -> dict[str, Inputs]:
    """Inputs of every graph by name; cache: where the virtual patients are rendered to."""
    recipe = source.first.recipe
    assert not isinstance(recipe, VolumeRecipe)
    rng = np.random.default_rng(0)
    data = load_data(_few(recipe), "phantom", cache)
    if isinstance(recipe, SrRecipe):
        assert isinstance(data, Images)
        lr = torch.from_numpy(draw_batch(data.validation, PairConfig.of(recipe.data), SAMPLES, rng).lr)
        off = torch.zeros(lr.shape[-2], lr.shape[-2])
        return {"step": _loops(source, lr.shape, {"lr": lr, "low_pass": off})[0]}
    if isinstance(recipe, ClipRecipe):
        assert isinstance(data, Stacks)
        return _interp4d(source, recipe, data, rng)
    if isinstance(recipe, FunctionRecipe):
        assert isinstance(data, Beats)
        return _function(source, recipe, data, rng)
    assert isinstance(data, Infarcts)
    return _mie(source, data)


def _few(recipe: SrRecipe | ClipRecipe | FunctionRecipe | MieRecipe) -> Recipe:
    fields: dict[str, Any] = {"n_validation": HELD_OUT, "folds": 1, "fold": 0, "also": None}
    fields |= {"n_leaves": PATIENTS}
    fields["n_chests" if isinstance(recipe, SrRecipe) else "n_patients"] = PATIENTS
    known = {k: v for k, v in fields.items() if k in type(recipe.data).model_fields}
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=known)})


def _interp4d(source: Source, recipe: ClipRecipe, data: Stacks, rng: np.random.Generator) -> dict[str, Inputs]:
    config = clip_config(recipe.data)
    clips = draw_clips(data.validation, config, SAMPLES, rng)
    given = dict(zip(("known", "base", "bend", "tau"), conditions(clips, "cpu"), strict=True))
    found = {"step": _loops(source, clips.base.shape, given)[0]}
    assert source.second is not None
    assert isinstance(source.second.recipe, VolumeRecipe)
    assert source.residual_std is not None
    n_z = source.second.recipe.data.n_slices
    stacks = draw_volumes(data.validation, config, 1, n_z, rng)
    sharp = predict(source.first.model, stacks, Residual(source.residual_std, recipe.residual_weight), "cpu")
    known = torch.from_numpy(stacks.known)
    frame = sharp.shape[1] // 2
    shown = torch.stack([sharp[:, frame], known[:, 0], known[:, 1]])[None]
    return {**found, "volume": [(shown.contiguous(),)]}


def _function(source: Source, recipe: FunctionRecipe, data: Beats, rng: np.random.Generator) -> dict[str, Inputs]:
    model = source.first.model
    assert isinstance(model, Causal)
    settings = recipe.data
    plain = BeatConfig(
        crop=settings.crop, n_phases=settings.n_phases, n_slices=settings.n_slices, fraction=(0.5, 0.5), full=0.0,
        augment=False,
    )  # fmt: skip
    batch = draw_beats(data.validation, plain, 2, rng)
    lr = frames(batch.lr).contiguous()
    told = context(encode(model, batch.lr, batch.position), batch.lr.shape[2])
    steps, last = _loops(source, lr.shape, {"lr": lr, "context": told})
    restored = lr + source.residual_std * last if source.residual_std else (last + 1) / 2
    return {"step": steps, "encoder": [(lr,)], "decoder": [(restored, told), (lr, told)]}


def _mie(source: Source, data: Infarcts) -> dict[str, Inputs]:
    batch = whole_infarcts(data.validation[:SAMPLES])
    specs = source.specs
    moving, still = (batch.cine, batch.motion), (batch.inversions, batch.timing, batch.t1, batch.clusters)
    motion, morphology = specs["kinematics"].module(*moving), specs["morphology"].module(*still)[0]
    shape = torch.Size([len(batch.cine), *(int(n) for n in specs["step"].inputs["x_t"][1:])])
    steps, latent = _loops(source, shape, {"morphology": morphology, "motion": motion})
    return {"step": steps, "kinematics": [moving], "morphology": [still], "decoder": [(latent, morphology)]}


def _loops(source: Source, shape: Any, given: Mapping[str, Tensor]) -> tuple[Inputs, Tensor]:
    """Every input of the step graph in DDIM runs from one noise, and what the last run returns."""
    recipe = source.first.recipe
    assert not isinstance(recipe, VolumeRecipe)
    schedule, spec = recipe.diffusion.build(), source.specs["step"]
    noise = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0))
    seen: Inputs = []
    x_t = noise
    for n_steps in STEPS:
        x_t = noise
        for step in ddim_coefficients(schedule, n_steps):
            inputs = _ordered(spec, {"x_t": x_t, **given, "coefficients": torch.from_numpy(step.array())})
            seen.append(inputs)
            x_t = spec.module(*inputs)[0]
    return seen, x_t


def _ordered(spec: GraphSpec, values: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    return tuple(values[name] for name in spec.inputs)
