"""A trained folder without the training."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from cmrsr.tasks.registry import Recipe, build_model


def untrained(folder: Path, recipe: Recipe, residual_std: float | None = None) -> Path:
    """A network with random weights as ``cmrsr train`` would leave it; what starts at zero does something."""
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    model = build_model(recipe.model.model_dump())
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    save_file(model.state_dict(), folder / "weights.safetensors")
    summary = {"recipe": recipe.model_dump(mode="json"), "data": "none", "step": 0, "residual_std": residual_std}
    (folder / "training.json").write_text(json.dumps(summary))
    return folder
