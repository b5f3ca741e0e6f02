"""Both stages of ``interp4d`` in training: what they are shown, what they are scored by, that they learn and resume."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cmrsr.diffusion.residual import Residual
from cmrsr.errors import UsageError
from cmrsr.tasks.interp4d.training import clips
from cmrsr.tasks.interp4d.training import system as interp4d_system
from cmrsr.tasks.interp4d.training.data import Stack, Stacks
from cmrsr.tasks.interp4d.training.recipe import ClipRecipe, VolumeRecipe
from cmrsr.tasks.interp4d.training.system import ClipSystem, VolumeSystem, linear, load_stage_one, predict
from cmrsr.tasks.registry import build_system, load_recipe, train
from cmrsr.training.loop import Progress
from cmrsr.training.start import start_folder, start_summary
from tests.cine import beating_frames

TINY = (
    "data.crop=16", "data.gap=[2, 4]", "optimiser.batch_size=2", "optimiser.bf16=false", "optimiser.warmup=2",
    "optimiser.ema_every=1", "validate_every=2", "optimiser.steps=4",
)  # fmt: skip
CLIP = ("model.width=16", "model.depth=1", "model.heads=2", "model.window=2", "model.detail=[8, 8]",
        "model.embedding=16", "data.n_frames=2")  # fmt: skip
VOLUME = ("model.detail=8", "model.width=32", "model.n_blocks=1", "data.n_slices=3", "data.n_frames=2")


@pytest.fixture(autouse=True, scope="module")
def few() -> Iterator[None]:
    """Few clips to validate on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interp4d_system, "VALIDATION_CLIPS", 18)
        patch.setattr(interp4d_system, "VALIDATION_VOLUMES", 2)
        yield


def clip_recipe(*overrides: str) -> ClipRecipe:
    recipe = load_recipe("tssc-s", [*TINY, *CLIP, *overrides])
    assert isinstance(recipe, ClipRecipe)
    return recipe


def volume_recipe(stage_one: Path, *overrides: str) -> VolumeRecipe:
    recipe = load_recipe("tssc-s-volume", [*TINY, *VOLUME, f"stage_one={stage_one}", *overrides])
    assert isinstance(recipe, VolumeRecipe)
    return recipe


def stacks(n_z: int = 4, side: int = 24) -> Stacks:
    frames = beating_frames(10, n_z, side, side)
    noise = np.random.default_rng(0).normal(0, 15, (3, *frames.shape))
    beats = [Stack(shown=np.maximum(frames + n, 0).astype(np.uint16), clean=frames.astype(np.uint16)) for n in noise]
    return Stacks(training=beats[:2], validation=beats[2:], description="three beats")


def loss_of(system: Any, model: nn.Module, seed: int = 0) -> Tensor:
    loss: Tensor = system.loss(model, np.random.default_rng(seed), torch.Generator().manual_seed(seed), "cpu")
    return loss


def gain(before: np.ndarray, after: np.ndarray, target: np.ndarray) -> float:
    """Mean over images of the PSNR gain, written the long way."""
    found = []
    for a, b, wanted in zip(before, after, target, strict=True):
        found.append(10 * np.log10(np.mean((a - wanted) ** 2) / np.mean((b - wanted) ** 2)))
    return float(np.mean(found))


@pytest.fixture(scope="module")
def clip_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four steps of stage 1."""
    return train(clip_recipe(), stacks(), tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def volume_run(clip_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four steps of stage 2."""
    return train(volume_recipe(clip_run), stacks(), tmp_path_factory.mktemp("volume"))


# ---- stage 1 ---------------------------------------------------------------------------------------------------------


def test_the_residual_has_unit_variance_in_training() -> None:
    system = ClipSystem(clip_recipe(), stacks())
    drawn = clips.draw_clips(system.stacks.training, system.config, 100, np.random.default_rng(5))
    assert system.residual_std is not None
    assert float((drawn.target - drawn.base).std()) / system.residual_std == pytest.approx(1, abs=0.25)


def test_without_a_correction_the_gain_is_that_of_the_estimate() -> None:
    system = ClipSystem(clip_recipe(), stacks())
    weights = system.build("cpu").state_dict()
    for name in ("head.weight", "head.bias"):
        weights[name].zero_()
    shown = system.validation
    wanted = gain(linear(shown), shown.base, shown.target)
    assert system.gain_db(weights, "cpu") == pytest.approx(wanted, abs=1e-4)
    assert wanted > 0  # the estimate is better than the blend


class _Says(nn.Module):
    """Answers with ``v``, row after row, and keeps what it was given."""

    def __init__(self, v: Tensor) -> None:
        super().__init__()
        self.v, self.at, self.given = v, 0, []

    def forward(self, x_t: Tensor, known: Tensor, base: Tensor, bend: Tensor, tau: Tensor, t: Tensor) -> Tensor:
        self.given.append((x_t, known, base, bend, tau, t))
        self.at += len(x_t)
        return self.v[self.at - len(x_t) : self.at]


def test_one_step_from_no_signal_reads_the_residual() -> None:
    """At t = 1 the target v is the negative residual: who says so gives the true frames, in whatever batches."""
    shown = ClipSystem(clip_recipe(), stacks()).validation
    residual = Residual(std=0.2, weight=0.9)
    gain = residual.gain(shown.tau)[..., None, None]  # all but nothing beside the known frames
    model = _Says(torch.from_numpy((shown.base - shown.target) / gain))
    np.testing.assert_allclose(predict(model, shown, residual, "cpu").numpy(), shown.target, atol=1e-6)
    x_t, known, base, bend, tau, t = (torch.cat(parts) for parts in zip(*model.given, strict=True))
    assert not x_t.any()
    assert (t == 1).all()
    for found, wanted in zip((known, base, bend, tau), (shown.known, shown.base, shown.bend, shown.tau), strict=True):
        np.testing.assert_array_equal(found.numpy(), wanted)
    assert len(model.given) > 1


def test_the_blend_is_between_the_known_frames() -> None:
    shown = ClipSystem(clip_recipe(), stacks()).validation
    blend = linear(shown)
    assert blend.shape == shown.target.shape
    tau = float(shown.tau[3, 1])
    np.testing.assert_allclose(blend[3, 1], (1 - tau) * shown.known[3, 0] + tau * shown.known[3, 1], atol=1e-6)


def test_every_clip_counts_by_its_own_error() -> None:
    """Of a network that answers zero at t = 1 the loss is the weighted mean of the clips' squared residuals."""
    system = ClipSystem(clip_recipe("diffusion.share_at_noise=1.0", "optimiser.batch_size=12"), stacks())
    drawn = clips.draw_clips(system.stacks.training, system.config, 12, np.random.default_rng(3))
    squared = np.square((drawn.target - drawn.base) / system.residual_std).mean((1, 2, 3))
    weight = 1 / (squared + interp4d_system.WEIGHT_FLOOR)
    wanted = (weight / weight.mean() * squared).mean()
    assert float(loss_of(system, _Says(torch.zeros(drawn.target.shape)), 3)) == pytest.approx(wanted, rel=1e-4)
    assert wanted < 0.8 * squared.mean()  # the clips with the larger errors count less


def test_stage_one_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels on parabolas and no neighbours: what the estimate misses follows from tau alone."""
    monkeypatch.setattr(clips, "ALONE", 1.0)
    t = np.arange(9.0)[:, None, None, None]
    pattern = beating_frames(1, 2, 24, 24)[0] / 10
    beat = Stack(shown=(500 + pattern + 12 * (t - 4) ** 2).astype(np.float32), cyclic=False)
    gains: list[float] = []

    def on_step(progress: Progress) -> None:
        gains.extend([progress.gain_db] if progress.gain_db is not None else [])

    recipe = clip_recipe(
        "data.gap=[4, 4]", "optimiser.steps=16", "optimiser.learning_rate=1e-2", "optimiser.batch_size=4",
        "validate_every=8", "diffusion.share_at_noise=1.0",
    )  # fmt: skip
    train(recipe, Stacks(training=[beat], validation=[beat], description="one beat"), tmp_path, on_step=on_step)
    assert gains[1] > gains[0]
    assert gains[1] > 5


def two_steps(system: Any) -> nn.Module:
    """The network after one step, with the gradients of a second: gates that are shut at first have opened."""
    torch.manual_seed(0)
    model: nn.Module = system.build("cpu")
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(2):
        optimiser.zero_grad()
        loss_of(system, model, step).backward()
        if step == 0:
            optimiser.step()
    return model


def silent(model: nn.Module) -> list[str]:
    """Parameters without a gradient."""
    return [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def test_every_parameter_of_stage_one_learns() -> None:
    assert not silent(two_steps(ClipSystem(clip_recipe("diffusion.share_at_noise=0.0"), stacks())))


# ---- stage 2 ---------------------------------------------------------------------------------------------------------


def test_stage_two_is_shown_the_frame_and_both_known_ones_slice_by_slice(clip_run: Path) -> None:
    system = VolumeSystem(volume_recipe(clip_run), stacks())
    shown, target = system._volumes(system.validation, "cpu")
    n_volumes, n, n_z = 2, 2, 3
    assert shown.shape == (n_volumes * n, 3, n_z, 16, 16)
    assert target.shape == (n_volumes * n, 1, n_z, 16, 16)
    drawn = system.validation
    frames = predict(system.first, drawn, system.residual, "cpu").numpy()
    for volume in range(n_volumes):
        for i in range(n):
            for z in range(n_z):
                row = volume * n_z + z
                found = shown[volume * n + i, :, z].numpy()
                np.testing.assert_array_equal(found[0], frames[row, i])
                np.testing.assert_array_equal(found[1:], drawn.known[row])
                np.testing.assert_array_equal(target[volume * n + i, 0, z].numpy(), drawn.target[row, i])


def shut(model: nn.Module) -> nn.Module:
    """Without a correction."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("head"):
                parameter.zero_()
    return model


def test_without_a_correction_stage_two_gains_nothing(clip_run: Path) -> None:
    system = VolumeSystem(volume_recipe(clip_run), stacks())
    assert system.gain_db(shut(system.build("cpu")).state_dict(), "cpu") == 0
    assert system.residual_std is None


def test_terms_of_the_volume_loss(clip_run: Path) -> None:
    """Of a network that corrects nothing, by hand; then each term moves every parameter."""
    terms = ("mse", "wavelet", "total_variation")
    for term in terms:
        only = [f"loss.{name}={float(name == term)}" for name in terms]
        system = VolumeSystem(volume_recipe(clip_run, *only), stacks())
        assert not silent(two_steps(system)), term
        drawn = clips.draw_volumes(system.stacks.training, system.config, 2, 3, np.random.default_rng(0))
        shown, target = system._volumes(drawn, "cpu")
        error = shown[:, :1] - target
        scale = error.square().mean((1, 2, 3, 4), keepdim=True).sqrt() + 5e-3
        wanted = {
            "mse": (error / scale).square().mean(),
            "wavelet": interp4d_system.wavelet_loss(error / scale, torch.zeros_like(error)),
            "total_variation": torch.zeros(()),
        }[term]
        found = float(loss_of(system, shut(system.build("cpu"))).detach())
        assert found == pytest.approx(float(wanted), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("mixer", ["mamba", "conv"])
def test_stage_two_learns_and_leaves_stage_one_alone(clip_run: Path, mixer: str) -> None:
    recipe = volume_recipe(clip_run, f"model.mixer={mixer}")
    system = VolumeSystem(recipe, stacks())
    before = {k: v.clone() for k, v in system.first.state_dict().items()}
    torch.manual_seed(0)
    model = system.build("cpu")
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        optimiser.zero_grad()
        loss = loss_of(system, model, 1)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    assert not any(p.requires_grad or p.grad is not None for p in system.first.parameters())
    assert not system.first.training
    assert all(torch.equal(v, before[k]) for k, v in system.first.state_dict().items())
    assert not silent(model)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.n_slices=5"], r"data\.n_slices 5: expected at most the 4 of the smallest stack"),
        (["data.crop=20"], r"data\.crop 20: expected a multiple of the model's stride 8"),  # that of stage 1
        (["data.crop=32"], r"data\.crop 32: .* at most the 24 pixels"),
    ],
)
def test_volumes_that_do_not_fit(clip_run: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        VolumeSystem(volume_recipe(clip_run, *overrides), stacks())


@pytest.mark.parametrize("overrides", [["data.crop=20"], ["data.crop=32"]])
def test_clips_that_do_not_fit(overrides: list[str]) -> None:
    with pytest.raises(UsageError, match="expected a multiple of the model's stride 8, and at most the 24 pixels"):
        ClipSystem(clip_recipe(*overrides), stacks())


# ---- from stage 1 to stage 2 -----------------------------------------------------------------------------------------


def test_stage_one_is_read_as_it_was_trained(clip_run: Path) -> None:
    model, residual = load_stage_one(clip_run)
    summary = json.loads((clip_run / "training.json").read_text())
    assert residual == (summary["residual_std"], summary["recipe"]["residual_weight"])
    saved = load_file(clip_run / "weights.safetensors")
    assert saved.keys() == model.state_dict().keys()
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in saved.items())


@pytest.fixture
def copied(clip_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(clip_run, tmp_path / "copied")


def change_summary(folder: Path, **changes: Any) -> None:
    path = folder / "training.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(folder: Path, match: str) -> None:
    with pytest.raises(UsageError, match=match) as error:
        load_stage_one(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


def test_what_is_no_stage_one_is_refused(copied: Path, clip_run: Path, volume_run: Path, tmp_path: Path) -> None:
    trained_it = "expected an engine.s name, or a folder in which `cmrsr train tssc-s` trained stage 1"
    refused(tmp_path / "nowhere", rf"No such file.*; {trained_it}")
    refused(volume_run, rf"holds tssc-s-volume; {trained_it}")
    change_summary(copied, recipe={"system": "interp4d", "model": {"name": "tssc-s", "colour": 1}})
    refused(copied, rf"unknown key model\.colour; {trained_it}")
    change_summary(copied, recipe=load_recipe("perfgen-s").model_dump(mode="json"))
    refused(copied, rf"holds perfgen-s; {trained_it}")
    for text in ("", "[]", "{}", "no JSON"):
        (copied / "training.json").write_text(text)
        refused(copied, trained_it)


def test_weights_that_are_not_those_of_stage_one_are_refused(copied: Path, clip_run: Path) -> None:
    weights = copied / "weights.safetensors"
    saved = load_file(weights)
    save_file({k: v[:1].clone() if k == "head.weight" else v for k, v in saved.items()}, weights)
    refused(copied, r"weights\.safetensors does not fit the model of its training\.json")
    weights.write_bytes(b"damaged")
    refused(copied, "expected an engine.s name, or a folder in which")
    weights.unlink()
    refused(copied, "No such file")


# ---- the loop --------------------------------------------------------------------------------------------------------


@pytest.fixture
def terminations() -> Iterator[list[int]]:
    """SIGTERMs that reach the caller of ``train``."""
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    yield received
    signal.signal(signal.SIGTERM, before)


def stop_at_three(progress: Progress) -> None:
    if progress.step == 3:
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("stage", [1, 2])
def test_resume_is_exact(stage: int, clip_run: Path, volume_run: Path, tmp_path: Path, terminations: list[int]) -> None:
    recipe, whole = (clip_recipe(), clip_run) if stage == 1 else (volume_recipe(clip_run), volume_run)
    train(recipe, stacks(), tmp_path, on_step=stop_at_three)
    assert len(terminations) == 1
    steps: list[int] = []
    train(recipe, stacks(), tmp_path, resume=True, on_step=lambda p: steps.append(p.step))
    assert steps == [4]
    for name in ("weights.safetensors", "training.json"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()
    saved = [torch.load(folder / "checkpoint.pt", weights_only=True)["model"] for folder in (tmp_path, whole)]
    assert all(torch.equal(v, saved[1][k]) for k, v in saved[0].items())


def test_what_a_run_says(clip_run: Path, volume_run: Path, tmp_path: Path) -> None:
    first, second = (json.loads((run / "training.json").read_text()) for run in (clip_run, volume_run))
    assert first["data"] == second["data"] == "three beats"
    assert first["residual_std"] > 0
    assert second["residual_std"] is None
    said: list[str] = []
    one = "optimiser.steps=1"
    train(clip_recipe(one), stacks(), tmp_path / "1", on_step=lambda p: said.append(p.baseline))
    train(volume_recipe(clip_run, one), stacks(), tmp_path / "2", on_step=lambda p: said.append(p.baseline))
    assert said == ["the linear blend", "stage 1"]


def test_low_precision_trains_too(clip_run: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    bf16 = ("optimiser.bf16=true", "optimiser.steps=2")
    train(clip_recipe(*bf16), stacks(), tmp_path / "1", on_step=lambda p: losses.append(p.loss))
    train(volume_recipe(clip_run, *bf16), stacks(), tmp_path / "2", on_step=lambda p: losses.append(p.loss))
    assert np.isfinite(losses).all()
    assert (tmp_path / "2" / "weights.safetensors").exists()


def test_stacks_of_too_few_phases_are_refused() -> None:
    short = Stack(shown=np.random.default_rng(0).random((2, 3, 32, 32)).astype(np.float32))
    with pytest.raises(UsageError, match="fewer than the 2 of the shortest stack"):
        ClipSystem(clip_recipe(), Stacks(training=[short], validation=[short], description="two phases"))


@pytest.mark.parametrize("name", ["tssc-s", "tssc-s-volume"])
def test_both_stages_begin_from_the_same_engine(name: str) -> None:
    found = load_recipe(name, ["data.crop=16", "data.gap=[2, 4]", "data.n_slices=2"], start="tssc-s")
    system = build_system(found, stacks())
    model = system.build("cpu")
    assert system.begin(model, "tssc-s")
    file = "weights.safetensors" if name == "tssc-s" else "volume.safetensors"
    shipped = load_file(start_folder("tssc-s") / file)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, shipped[key].float())
    if name == "tssc-s":
        assert system.residual_std == start_summary("tssc-s")["residual_std"]
