from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from safetensors.torch import load_file
from torch.testing import assert_close

from cmrsr.errors import UsageError
from cmrsr.heart.window import with_neighbours as inference_neighbours
from cmrsr.tasks.function.training.batches import MARGIN, BeatConfig, draw_beats, ejection_fraction
from cmrsr.tasks.function.training.causal import Causal, with_neighbours
from cmrsr.tasks.function.training.data import Beat, Beats
from cmrsr.tasks.function.training.recipe import FunctionRecipe
from cmrsr.tasks.function.training.system import FunctionSystem, cross_entropy, soft_dice
from cmrsr.tasks.registry import load_recipe, train
from cmrsr.training.image_loss import ssim

TINY = (
    "model.features=6", "model.messages=5", "model.widths=[8, 16]", "model.blocks=[1, 1, 1]", "model.embedding=16",
    "model.reader=[8, 8, 8, 8]", "data.crop=32", "optimiser.batch_size=2", "optimiser.bf16=false",
    "optimiser.warmup=1", "validate_every=1000", "start=", "warm_up=0.0",
)  # fmt: skip
GREYS = np.array([0.1, 0.5, 0.3, 0.9])  # of background, RV, myocardium, LV


def beat(seed: int = 0, n_t: int = 4, n_z: int = 3, size: int = 72) -> Beat:
    """A ring about a disc that beats, a blob beside it; every tissue has one grey value."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((size, size)) - size / 2
    labels = np.zeros((n_t, n_z, size, size), np.uint8)
    for t in range(n_t):
        inner = 9 + 3 * np.cos(2 * np.pi * t / n_t) + rng.uniform(-1, 1)
        for z in range(n_z):
            labels[t, z][np.hypot(y, x - 14) < inner] = 1
            labels[t, z][np.hypot(y, x) < inner + 5] = 2
            labels[t, z][np.hypot(y, x) < inner] = 3
    return Beat(images=(GREYS[labels] * 1000).astype(np.float32), labels=labels)


BEATS = Beats(training=[beat(i) for i in range(4)], validation=[beat(9)], description="rings")
CONFIG = BeatConfig(crop=32, n_phases=2, n_slices=2, fraction=(0.5, 0.5))


def recipe(*overrides: str) -> FunctionRecipe:
    found = load_recipe("causal-s", [*TINY, *overrides])
    assert isinstance(found, FunctionRecipe)
    return found.model_copy(update={"start": None} if not any(o.startswith("start=p") for o in overrides) else {})


def changed(tmp_path: Path, stages: str, *overrides: str) -> set[str]:
    """The parts of the model that a run of two steps changes."""
    one = recipe(f"stages={stages}", "optimiser.steps=2", *overrides)
    train(one, BEATS, tmp_path)
    after = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["model"]
    torch.manual_seed(one.seed)
    before = FunctionSystem(one, BEATS).build("cpu").state_dict()
    return {name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}


@pytest.mark.parametrize(
    ("stages", "parts"),
    [
        ("[1.0, 0.0, 0.0]", {"encoder", "denoiser"}),
        ("[0.0, 1.0, 0.0]", {"decoder"}),
        ("[0.0, 0.0, 1.0]", {"encoder", "denoiser", "decoder"}),
    ],
)
def test_a_stage_changes_only_what_it_should(tmp_path: Path, stages: str, parts: set[str]) -> None:
    assert changed(tmp_path, stages) == parts


def test_the_second_stage_leaves_the_first_as_it_ended(tmp_path: Path) -> None:
    short = recipe("stages=[1.0, 0.0, 0.0]", "optimiser.steps=2", "optimiser.decay=none")
    long = recipe("stages=[0.5, 0.5, 0.0]", "optimiser.steps=4", "optimiser.decay=none")
    assert [FunctionSystem(long, BEATS).stage(step) for step in range(4)] == ["restore", "restore", "read", "read"]
    for name, found in (("short", short), ("long", long)):
        train(found, BEATS, tmp_path / name)
    first, second = (
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["model"] for name in ("short", "long")
    )
    for key, value in first.items():
        assert torch.equal(value, second[key]) == (not key.startswith("decoder.")), key


def test_ablations_are_switches(tmp_path: Path) -> None:
    assert changed(tmp_path / "sr", "[0.2, 0.6, 0.2]", 'tasks="sr"') == {"encoder", "denoiser"}
    assert changed(tmp_path / "f", "[0.2, 0.6, 0.2]", 'tasks="function"') >= {"decoder"}
    parts = changed(tmp_path / "c", "[0.0, 0.0, 1.0]", "model.causal=false", "loss.causal=0.0")
    assert parts == {"denoiser", "decoder"}


def test_every_loss_of_the_joint_stage_has_a_gradient() -> None:
    system = FunctionSystem(recipe(), BEATS)
    model = system.build("cpu")
    assert isinstance(model, Causal)
    with torch.no_grad():
        model.encoder.score.weight.mul_(100)  # graphs far from uniform, as trained ones
    config = BeatConfig(**{**_fields(CONFIG), "full": 0.0, "n_phases": 4})
    batch = draw_beats(BEATS.training, config, 2, np.random.default_rng(0))
    for name in ("noise", "image", "segmentation", "function", "causal"):
        model.zero_grad()
        terms = system.terms(model, batch, "joint", torch.Generator().manual_seed(0), "cpu")
        getattr(terms, name).backward()
        touched = [p.grad.abs().max() > 0 for p in model.parameters() if p.grad is not None]
        assert any(touched), name


def test_reading_is_trained_on_what_was_restored() -> None:
    """The gradient of the segmentation reaches the denoiser in the joint stage, and only there."""
    system = FunctionSystem(recipe(), BEATS)
    model = system.build("cpu")
    assert isinstance(model, Causal)
    batch = draw_beats(BEATS.training, BeatConfig(**{**_fields(CONFIG), "full": 0.0}), 2, np.random.default_rng(0))
    for stage, reached in (("joint", True), ("read", False)):
        model.zero_grad()
        terms = system.terms(model, batch, stage, torch.Generator().manual_seed(0), "cpu")  # type: ignore[arg-type]
        terms.segmentation.backward()
        assert (model.denoiser.unet.head.weight.grad is not None) == reached


def test_it_learns_to_segment(tmp_path: Path) -> None:
    found = recipe("stages=[0.0, 1.0, 0.0]", "optimiser.steps=80", "optimiser.learning_rate=1e-2")
    system = FunctionSystem(found, BEATS)
    torch.manual_seed(0)
    model = system.build("cpu")
    assert isinstance(model, Causal)
    before = system.validate(model, "cpu")[1]
    train(found, BEATS, tmp_path)
    model.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True)["model"])
    after = system.validate(model, "cpu")[1]
    assert after > before + 0.1, (before, after)


def test_the_denoiser_begins_from_a_trained_one() -> None:
    found = load_recipe("causal-s")
    assert isinstance(found, FunctionRecipe)
    system = FunctionSystem(found.model_copy(update={"start": None}), BEATS)
    model = system.build("cpu")
    assert isinstance(model, Causal)
    before, reader = model.denoiser.unet.head.weight.clone(), model.decoder.stem.weight.clone()
    assert not system.begin(model, "perfgen-s")  # which is not fine-tuning: the reader is new
    assert not torch.equal(before, model.denoiser.unet.head.weight)
    assert torch.equal(reader, model.decoder.stem.weight)
    tiny = FunctionSystem(recipe(), BEATS)
    with pytest.raises(UsageError, match="are not of this model; set model to what"):
        tiny.begin(tiny.build("cpu"), "perfgen-s")


def test_all_of_it_begins_from_a_run_of_its_own(tmp_path: Path) -> None:
    train(recipe("optimiser.steps=1"), BEATS, tmp_path / "first")
    system = FunctionSystem(recipe(f"start={tmp_path / 'first'}"), BEATS)
    model = system.build("cpu")
    assert system.begin(model, str(tmp_path / "first"))
    weights = load_file(tmp_path / "first" / "weights.safetensors")
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_stages_add_up_and_crops_fit() -> None:
    with pytest.raises(UsageError, match="three shares of the steps that add up to 1"):
        recipe("stages=[0.5, 0.2, 0.2]")
    with pytest.raises(UsageError, match=r"data\.crop 40: expected a multiple of 16"):
        FunctionSystem(recipe("data.crop=40"), BEATS)


def test_slices_are_neighbours() -> None:
    """Slice z of the stack is 1 + z times as bright as the first: the drawn ones follow each other."""
    labels = np.zeros((4, 7, 72, 72), np.uint8)
    labels[..., 30:40, 30:40] = 1
    images = np.ones(labels.shape, np.float32) * (1 + np.arange(7))[:, None, None]
    config = BeatConfig(**{**_fields(CONFIG), "augment": False, "full": 0.0})
    drawn = set()
    for seed in range(20):
        batch = draw_beats([Beat(images=images, labels=labels)], config, 1, np.random.default_rng(seed))
        first, second = batch.hr.amax((0, 1, 3, 4)).tolist()
        z = first / (second - first)
        assert abs(z - round(z)) < 1e-3
        drawn.add(round(z))
    assert len(drawn) > 3


def test_the_rv_is_unknown_where_a_beat_says_so() -> None:
    unsure = np.zeros((4, 3), bool)
    unsure[:, 2] = True
    config = BeatConfig(**{**_fields(CONFIG), "n_slices": 3, "augment": False})
    batch = draw_beats([replace(beat(), unsure_rv=unsure)], config, 1, np.random.default_rng(0))
    assert batch.known.shape == (1, 2, 3, 3)
    assert batch.known[0, :, :, 0].tolist() == [[True, True, False]] * 2
    assert bool(batch.known[..., 1:].all())


def test_a_plain_crop_is_the_image_itself() -> None:
    one = beat()
    config = BeatConfig(**{**_fields(CONFIG), "crop": 24, "augment": False, "full": 0.0})
    batch = draw_beats([one], config, 1, np.random.default_rng(3))
    scale = float(batch.hr.max() / 0.9)
    assert_allclose(batch.hr.numpy() / scale, GREYS[batch.labels.numpy()], atol=2e-3)


def test_low_resolution_lacks_the_outer_k_space() -> None:
    config = BeatConfig(**{**_fields(CONFIG), "crop": 40 - 2 * MARGIN + 32, "full": 0.0, "augment": False})
    batch = draw_beats([beat(size=96)], config, 1, np.random.default_rng(0))
    detail = [float((x[..., 1:, :] - x[..., :-1, :]).abs().max()) for x in (batch.lr, batch.hr)]
    assert detail[0] < 0.8 * detail[1]


def test_ejection_fraction_of_a_beat() -> None:
    labels = np.zeros((2, 1, 10, 10), np.uint8)
    labels[0, 0, :, :8], labels[1, 0, :, :2] = 3, 3
    assert ejection_fraction(Beat(images=labels, labels=labels)) == 0.75


def test_what_was_not_labelled_is_not_held_against_the_network() -> None:
    """With the LV alone known, RV and myocardium may be called what they are without a loss."""
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    labels[0, :2, :2] = 3
    logits = torch.full((1, 4, 4, 4), -20.0)
    logits[0, 3, :2, :2] = 20
    logits[0, 2, :2, 2:] = 20  # said to be myocardium, where nothing is known
    logits[0, 0, 2:] = 20
    only_lv, all_known = torch.tensor([[False, False, True]]), torch.ones(1, 3, dtype=torch.bool)
    assert cross_entropy(logits, labels, only_lv) < 1e-3
    assert cross_entropy(logits, labels, all_known) > 1
    assert soft_dice(logits, labels, only_lv) > soft_dice(logits, labels, all_known)


def test_neighbours_stand_beside_the_slice_that_is_read() -> None:
    stack = torch.arange(4.0).view(1, 1, 4, 1, 1)
    assert with_neighbours(stack, 1)[..., 0, 0].tolist() == [[0, 0, 1], [1, 0, 2], [2, 1, 3], [3, 2, 3]]
    both = with_neighbours(stack, 2)[..., 0, 0]
    assert both.tolist() == [[0, 0, 1, 0, 2], [1, 0, 2, 0, 3], [2, 1, 3, 0, 3], [3, 2, 3, 1, 3]]
    windows = np.arange(4, dtype=np.float32)[:, None, None]  # the inference side orders them alike
    assert_allclose(inference_neighbours(windows, 2)[..., 0, 0], both.numpy())


def test_neighbours_begin_without_a_say(tmp_path: Path) -> None:
    """From weights that read single slices, a decoder that is shown neighbours begins with the same masks."""
    alone = "model.neighbours=0"
    train(recipe("optimiser.steps=1", alone), BEATS, tmp_path / "single")
    system = FunctionSystem(recipe(f"start={tmp_path / 'single'}", "model.neighbours=1"), BEATS)
    model = system.build("cpu")
    assert isinstance(model, Causal)
    system.begin(model, str(tmp_path / "single"))
    single = FunctionSystem(recipe(f"start={tmp_path / 'single'}", alone), BEATS)
    before = single.build("cpu")
    assert isinstance(before, Causal)
    single.begin(before, str(tmp_path / "single"))
    stack = torch.rand(1, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    told = torch.zeros(3, model.config.context)
    with torch.no_grad():
        wide = model.decoder(with_neighbours(stack, 1), told)
        assert_close(wide, before.decoder(with_neighbours(stack, 0), told))
        model.decoder.stem.weight[:, 4:] = 0.1  # and can get one
        assert not torch.equal(model.decoder(with_neighbours(stack, 1), told).logits, wide.logits)


def test_ssim_of_equal_images_is_one_and_has_a_gradient() -> None:
    a = torch.rand(2, 1, 24, 24)
    assert_close(ssim(a, a), torch.tensor(1.0))
    b = torch.rand(2, 1, 24, 24, requires_grad=True)
    ssim(a, b).backward()
    assert b.grad is not None
    assert b.grad.abs().max() > 0


def _fields(config: BeatConfig) -> dict[str, object]:
    return {name: getattr(config, name) for name in config.__slots__}


def test_the_model_of_the_paper_trains(tmp_path: Path) -> None:
    found = load_recipe("causal-paper", [
        "model.features=8", "model.messages=8", "model.base=32", "model.multipliers=[1, 2]",
        "model.reader=[8, 8, 8, 8]", "data.crop=32", "data.n_phases=2", "data.n_slices=1", "optimiser.batch_size=2",
        "optimiser.steps=3", "optimiser.bf16=false", "validate_every=10", "stages=[0.34, 0.33, 0.33]",
    ])  # fmt: skip
    assert isinstance(found, FunctionRecipe)
    train(found, BEATS, tmp_path)
    assert (tmp_path / "weights.safetensors").is_file()


def test_a_warm_up_is_the_encoders_alone(tmp_path: Path) -> None:
    assert changed(tmp_path, "[0.2, 0.6, 0.2]", "warm_up=0.99") == {"encoder"}
    system = FunctionSystem(recipe("warm_up=0.5", "stages=[0.35, 0.35, 0.3]", "optimiser.steps=10"), BEATS)
    assert [system.stage(step) for step in range(10)] == (["graph"] * 5 + ["restore"] * 2 + ["read"] * 2 + ["joint"])


def test_a_start_without_its_scale_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").touch()
    with pytest.raises(UsageError, match=r"no residual_std in .*training\.json"):
        FunctionSystem(recipe().model_copy(update={"start": str(tmp_path)}), BEATS)
