"""Calibration of the confidence of ``function``, on hearts that training has not seen, shown well and badly."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from scipy.optimize import minimize
from torch import Tensor

from cmrsr.heart.masks import clean_labels
from cmrsr.heart.reader import READINGS
from cmrsr.heart.window import ORIENTATIONS, READING_MM, WINDOW, encoded, in_turn
from cmrsr.io.outputs import write_json_atomic
from cmrsr.physics.volumes import LV, RV, STRUCTURES, disc_areas, volumes_ml
from cmrsr.runtime.bundle import Confidence
from cmrsr.tasks.function.confidence import COVERED, EF_POINTS, INTERVAL, QUANTITIES, Readings, deviation, signs
from cmrsr.tasks.function.training.batches import BeatConfig, draw_beats
from cmrsr.tasks.function.training.causal import Causal, with_neighbours
from cmrsr.tasks.function.training.data import Beat, Beats
from cmrsr.tasks.function.training.network import build_network
from cmrsr.tasks.function.training.recipe import FunctionRecipe
from cmrsr.tasks.function.training.system import context, encode
from cmrsr.training.start import SUMMARY, WEIGHTS

HEARTS = 160  # showings of held-out hearts
LEAST_CM3 = 5.0  # of either ventricle, slices a millimetre apart: less is a heart at the edge of the window
PLAIN = 0.3  # share of them that is shown as it is
LEAST_FLOOR = {"percent": 1.0, "ml": 0.01}  # points of EF; share of the EDV
Case = tuple[dict[str, dict[str, float]], dict[str, float]]  # signs and errors, by quantity


def calibrate(
    recipe: FunctionRecipe, beats: Beats, folder: Path, device: str = "cpu", *, n_hearts: int = HEARTS
) -> dict[str, Confidence]:
    """Fit the laws of ``confidence`` for a run's weights on its held-out beats, and keep them in ``training.json``.

    Real beats where there are any, else virtual ones. Where no held-out heart is large enough, nothing is fitted.
    """
    model = build_network(recipe.model).to(device).eval()
    model.load_state_dict(load_file(folder / WEIGHTS, device=device))
    rng = np.random.default_rng((recipe.seed, 997))
    held = beats.also_validation or beats.validation
    bf16 = torch.autocast(device.split(":")[0], torch.bfloat16, enabled=recipe.optimiser.bf16)
    with torch.inference_mode(), bf16:
        cases = list(_cases(model, held, n_hearts, rng, device))
    found = {name: fitted(name, cases) for name in QUANTITIES} if cases else {}
    summary = json.loads((folder / SUMMARY).read_text())
    summary["confidence"] = {name: law.model_dump() for name, law in found.items()}
    write_json_atomic(folder / SUMMARY, summary)
    return found


def _cases(model: Causal, held: Sequence[Beat], n: int, rng: np.random.Generator, device: str) -> Iterator[Case]:
    for i in range(n):
        beat = held[i % len(held)]
        shown = BeatConfig(
            crop=WINDOW, n_phases=2, n_slices=beat.images.shape[1], fraction=(0.5, 0.5), full=1.0,
            augment=rng.random() > PLAIN,
        )  # fmt: skip
        batch = draw_beats([beat], shown, 1, rng)
        truth = _volumes(batch.labels[0].numpy().astype(np.uint8))
        if min(truth[:, STRUCTURES.index(LV)].max(), truth[:, STRUCTURES.index(RV)].max()) < LEAST_CM3:
            continue  # shown aside: the heart is not in the window
        read = _read(model, batch.hr, batch.position, device)
        yield signs(read), _errors(read, truth)


def _read(model: Causal, images: Tensor, position: Tensor, device: str) -> Readings:
    """A beat (1, 2, z, WINDOW, WINDOW) in all orientations, the phases in the order of their volume."""
    n_z = images.shape[2]
    graph = encode(
        model, torch.from_numpy(np.ascontiguousarray(encoded(images.numpy()))).to(device), position.to(device)
    )
    masks, probabilities, areas = [], [], []
    for k in range(ORIENTATIONS):
        turned = torch.from_numpy(in_turn(images.numpy(), k)).to(device)
        reading = model.decoder(with_neighbours(turned, model.config.neighbours), context(graph, n_z))
        each = in_turn(reading.logits.float().softmax(1).cpu().numpy(), k, back=True).reshape(
            2, n_z, -1, WINDOW, WINDOW
        )
        probabilities.append(each)
        areas.append(reading.areas.float().cpu().numpy().reshape(2, n_z, -1))
        masks.append(_volumes(_masks(each)))
    masks[0] = _volumes(_masks(np.mean(probabilities[:READINGS], 0)))  # the reading that counts
    return Readings(masks=np.stack(masks), regressed=np.mean(areas[:READINGS], 0).sum(1) * READING_MM**2 / 1000)


def _masks(probabilities: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.stack([clean_labels(p.argmax(1).astype(np.uint8), READING_MM**2) for p in probabilities])


def _volumes(labels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(2, 3) of labels (2, z, y, x), slices a millimetre apart: only ratios count."""
    return np.stack([volumes_ml(disc_areas(frame, READING_MM**2), 1.0) for frame in labels])


def _errors(read: Readings, truth: NDArray[np.float64]) -> dict[str, float]:
    """Of the reading that counts; of volumes as a share of the EDV."""
    out: dict[str, float] = {}
    for side, s in (("lv", STRUCTURES.index(LV)), ("rv", STRUCTURES.index(RV))):
        ours, true = read.masks[0, :, s], truth[:, s]
        out[f"{side}_edv_ml"], out[f"{side}_esv_ml"] = (ours - true) / max(ours[0], 1e-6)
        out[f"{side}_ef_percent"] = EF_POINTS * float(true[1] / max(true[0], 1e-6) - ours[1] / max(ours[0], 1e-6))
    return out


def fitted(name: str, cases: Sequence[Case]) -> Confidence:
    """The law of a quantity under which the errors are likeliest, widened until it covers ``COVERED`` of them."""
    found = [s[name] for s, _ in cases]
    keys = sorted(found[0])
    x2 = np.square([[one[key] for key in keys] for one in found])
    error = np.abs([e[name] for _, e in cases])
    least = LEAST_FLOOR[name.rsplit("_", 1)[1]]

    def cost(log: NDArray[np.float64]) -> float:
        """Of Laplace's distribution, which single failures do not rule."""
        sd = np.sqrt(np.exp(2 * log[0]) + x2 @ np.exp(2 * log[1:]))
        return float((np.log(sd) + error / sd).mean())

    bounds = [(np.log(least), np.log(1e3)), *[(np.log(1e-3), np.log(10.0))] * len(keys)]
    log = minimize(cost, np.array([np.log(2 * least), *[np.log(0.3)] * len(keys)]), bounds=bounds, method="L-BFGS-B").x
    law = Confidence(floor=float(np.exp(log[0])), weights=dict(zip(keys, np.exp(log[1:]).tolist(), strict=True)))
    wider = float(np.quantile(error / [deviation(one, law) for one in found], COVERED)) / INTERVAL
    return Confidence(floor=wider * law.floor, weights={key: round(wider * w, 4) for key, w in law.weights.items()})
