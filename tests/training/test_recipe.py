from pathlib import Path

import pytest

from cmrsr.errors import UsageError
from cmrsr.tasks.registry import load_recipe, parse_recipe
from cmrsr.training.recipe import RECIPES

SYSTEMS = {
    "perfgen-s": "sr", "perfgen-paper": "sr",
    "tssc-s": "interp4d", "tssc-paper": "interp4d", "tssc-s-volume": "interp4d-volume",
    "causal-s": "function", "causal-s-reading": "function", "causal-paper": "function",
    "cpkdm-s": "mie", "cpkdm-paper": "mie",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(p.stem for p in RECIPES.glob("*.toml")))
def test_shipped_recipes_are_valid(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.system == SYSTEMS[name]
    assert recipe.model.name == name.removesuffix("-reading")
    assert load_recipe(str(RECIPES / f"{name}.toml")) == recipe


def test_paper_recipe_is_the_published_one() -> None:
    recipe = load_recipe("perfgen-paper")
    d, o = recipe.diffusion, recipe.optimiser
    assert (d.schedule, d.prediction, d.n_train, d.loss, d.residual) == ("linear", "eps", 2000, "l1", False)
    assert (o.name, o.steps, o.batch_size, o.learning_rate, o.decay) == ("adamw", 50000, 128, 3e-5, "none")
    assert recipe.data.crop == 96
    assert recipe.data.fraction == (0.3, 0.5)


def test_paper_recipe_of_mie_is_the_published_one() -> None:
    """5-fold cross-validation by patient, Adam from 1e-4, batches of one; 2000 linear steps are ours."""
    recipe = load_recipe("cpkdm-paper")
    d, o = recipe.diffusion, recipe.optimiser
    assert (d.schedule, d.prediction, d.n_train, d.loss, d.residual) == ("linear", "eps", 2000, "l2", False)
    assert (o.name, o.batch_size, o.learning_rate, recipe.data.folds) == ("adamw", 1, 1e-4, 5)
    model = recipe.model
    assert (model.cine, model.t1, model.strain, model.atlas) == (True,) * 4  # nothing is left out


@pytest.mark.parametrize("switch", ["cine", "t1", "strain", "atlas"])
def test_ablations_of_mie_are_one_switch_each(switch: str) -> None:
    for name in ("cpkdm-s", "cpkdm-paper"):
        found = load_recipe(name, [f"model.{switch}=false"])
        whole = load_recipe(name)
        changed = whole.model.model_copy(update={switch: False})
        assert found == whole.model_copy(update={"model": changed})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("diffusion.residual=true", r"mie diffuses the latent itself: diffusion\.residual = false"),
        ("diffusion.schedule=linear", r"model.fade needs the cosine schedule"),
        ("model.name=causal-s", r"model: .*'causal-s'.*'cpkdm-s'"),
        ("model.n_phases=25", r"model\.n_phases: .*12 \(got 25\)"),
        ("latent_share=0.0", r"latent_share: .*greater than 0"),
        ("loss.causal=1", r"unknown key loss\.causal"),
        ("data.gap=[2, 3]", r"unknown key data\.gap"),
        ("data.fold=3", r"data: fold 3: expected 0 to 0 of 1 folds"),
    ],
)
def test_wrong_recipes_of_mie(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        load_recipe("cpkdm-s", [override])
    assert "\n" not in str(error.value)


def test_overrides_are_toml_values() -> None:
    recipe = load_recipe(
        "perfgen-s",
        ["optimiser.steps=7", "model.widths=[8, 16]", "data.source=/some/folder", "optimiser.bf16=false", "seed = 3"],
    )
    assert recipe.optimiser.steps == 7
    assert recipe.model.model_dump()["widths"] == (8, 16)
    assert recipe.data.source == "/some/folder"
    assert recipe.optimiser.bf16 is False
    assert recipe.seed == 3
    assert recipe.diffusion == load_recipe("perfgen-s").diffusion


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimiser.step=7", "unknown key optimiser.step"),
        ("colour=1", "unknown key colour"),
        ("model.base=64", "unknown key model.base"),
        ("model.name=unet", "model.*'unet'"),
        ("system=cine", "'cine' found using 'system' .*'sr', 'interp4d', 'interp4d-volume'"),
        ("system=interp4d", "model: .*'perfgen-s'.*'tssc-s'"),  # the model of another system
        ("data.gap=[2, 3]", "unknown key data.gap"),
        ("optimiser.steps=0", "optimiser.steps: .*greater than or equal to 1 \\(got 0\\)"),
        ("optimiser.learning_rate=fast", "optimiser.learning_rate: .*number.* \\(got 'fast'\\)"),
        ("optimiser.ema_every=0", "optimiser.ema_every"),
        ("diffusion.share_at_noise=1.5", "diffusion.share_at_noise"),
        ("diffusion.prediction=eps", "eps-prediction is undefined at the zero SNR"),
        ("diffusion.schedule=linear", "perfgen-s needs the cosine schedule"),
        ("data.fraction=[0.5, 0.3]", "data: fraction 0.5 to 0.3"),
        ("data.fraction=[0.5, 1.5]", "data: fraction 0.5 to 1.5"),
        ("data.fold=1", "data: fold 1: expected 0 to 0 of 1 folds"),
        ("seed", "expected key=value"),
        ("system.name=1", "system is a value, not a table"),
        ("seed.x.y=1", "seed is a value, not a table"),
    ],
)
def test_wrong_overrides_are_named_in_one_line(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        load_recipe("perfgen-s", ["seed=1", override])
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 250


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        ("tssc-s", "data.gap=[5, 3]", r"data: gap 5 to 3: expected two numbers of phases, 2 <= low <= high"),
        ("tssc-s", "data.gap=[1, 3]", r"data: gap 1 to 3"),
        ("tssc-s", "data.fraction=[0.3, 0.5]", r"unknown key data\.fraction"),
        ("tssc-s", "data.n_frames=0", r"data\.n_frames: .*greater than or equal to 1 \(got 0\)"),
        ("tssc-s", "diffusion.schedule=linear", r"tssc-s needs the cosine schedule and the residual"),
        ("tssc-s", "diffusion.residual=false", r"tssc-s needs the cosine schedule and the residual"),
        ("tssc-s", "model.name=perfgen-s", r"model: .*'perfgen-s'.*'tssc-s'"),
        ("tssc-s", "model.heads=3", r"model: width 128: expected a multiple of heads = 3"),
        ("tssc-s", "model.heads=0", r"model: width 128: expected a multiple of heads = 0"),
        ("tssc-s", "stage_one=/runs/other", r"unknown key stage_one"),
        ("tssc-s-volume", "system=interp4d", r"model: .*'tssc-s-volume'.*'tssc-s'"),
        ("tssc-s-volume", "diffusion.schedule=cosine", r"unknown key diffusion"),
        ("tssc-s-volume", "stage_one=3", r"stage_one: .*path"),
        ("tssc-s-volume", "model.mixer=rnn", r"model\.mixer: .*'mamba' or 'conv' \(got 'rnn'\)"),
        ("tssc-s-volume", "model.width=48", r"model\.width: .*multiple of 32 \(got 48\)"),
        ("tssc-s-volume", "model.stride=3", r"model\.stride: .*2, 4 or 8"),
        ("tssc-s-volume", "loss.mse=-1", r"loss\.mse: .*greater than or equal to 0"),
        ("tssc-s-volume", "loss.l1=1", r"unknown key loss\.l1"),
    ],
)
def test_wrong_recipes_of_interp4d(name: str, override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        load_recipe(name, [override])
    assert "\n" not in str(error.value)


def test_stage_two_needs_a_stage_one(tmp_path: Path) -> None:
    text = (RECIPES / "tssc-s-volume.toml").read_text().replace('stage_one = "runs/tssc-s"\n', "")
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(UsageError, match="stage_one: Field required"):
        load_recipe(str(tmp_path / "own.toml"))
    recipe = load_recipe(str(tmp_path / "own.toml"), ["stage_one=/runs/one"])
    assert recipe.system == "interp4d-volume"
    assert recipe.stage_one == Path("/runs/one")
    assert parse_recipe(recipe.model_dump(mode="json")) == recipe  # as training.json keeps it


def test_channels_of_the_paper_network_go_into_groups() -> None:
    with pytest.raises(UsageError, match="multiple of 32"):
        load_recipe("perfgen-paper", ["model.base=20"])


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no recipe 'perfgen-xl': .* perfgen-paper, perfgen-s"):
        load_recipe("perfgen-xl")
    with pytest.raises(UsageError, match="no recipe"):
        load_recipe(str(tmp_path / "absent.toml"))
    for content in (b"system = ", b"\xff\xfe\x00"):
        (tmp_path / "bad.toml").write_bytes(content)
        with pytest.raises(UsageError, match="is not valid TOML"):
            load_recipe(str(tmp_path / "bad.toml"))
    (tmp_path / "own.toml").write_text('system = "sr"\n[model]\nname = "perfgen-s"\n')
    assert load_recipe(str(tmp_path / "own.toml")).optimiser.name == "adamw"


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("perfgen-s", "perfgen-s"), ("tssc-s", "tssc-s"), ("tssc-s-volume", "tssc-s"), ("causal-s", "causal-s"),
        ("cpkdm-s", "cpkdm-s"),
    ],
)  # fmt: skip
def test_fine_tuning_has_settings_of_its_own(name: str, engine: str) -> None:
    whole, tuned = load_recipe(name), load_recipe(name, start=engine)
    assert tuned.start == engine
    assert tuned.optimiser.learning_rate < 0.5 * whole.optimiser.learning_rate
    assert tuned.optimiser.steps < 0.5 * whole.optimiser.steps
    assert (tuned.patience is None, whole.patience is None) == (False, True)
    assert tuned.model == whole.model
    assert tuned.data == whole.data
    assert load_recipe(name, ["optimiser.steps=7"], start=engine).optimiser.steps == 7  # the user has the last word


def test_a_mistake_in_the_table_is_found_before_it_is_used(tmp_path: Path) -> None:
    text = (RECIPES / "perfgen-s.toml").read_text()
    for wrong, message in (
        ("[fine_tuning.optimiser]\nstep = 3", r"unknown key optimiser\.step$"),
        ("[fine_tuning]\nstart_at = 3", "unknown key start_at"),
    ):
        (tmp_path / "own.toml").write_text(text[: text.index("[fine_tuning]")] + wrong)
        with pytest.raises(UsageError, match=message):
            load_recipe(str(tmp_path / "own.toml"))
    (tmp_path / "own.toml").write_text("fine_tuning = 3\n" + text[: text.index("[fine_tuning]")])
    with pytest.raises(UsageError, match="fine_tuning 3: expected a table"):
        load_recipe(str(tmp_path / "own.toml"))
