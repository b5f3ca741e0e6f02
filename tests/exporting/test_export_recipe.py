from pathlib import Path

import pytest

from cmrsr.errors import UsageError
from cmrsr.exporting.recipe import load_export_recipe


def test_a_trained_folder_is_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "training.json").write_text("{}")
    recipe = load_export_recipe(tmp_path / "mine")
    assert (recipe.name, recipe.checkpoint) == ("mine", tmp_path / "mine")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty holds no training\.json"):
        load_export_recipe(tmp_path / "empty")


def test_a_file_finds_its_checkpoint_beside_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "export").mkdir()
    path = tmp_path / "export" / "own.toml"
    path.write_text('name = "own"\ncheckpoint = "../runs/own"\n[defaults]\nsteps = 5\nsamples = 8\nconsistency = 0.5\n')
    monkeypatch.chdir(tmp_path)
    recipe = load_export_recipe(Path("export/own.toml"))
    assert recipe.checkpoint == tmp_path / "runs" / "own"
    assert (recipe.defaults.steps, recipe.defaults.samples, recipe.defaults.consistency) == (5, 8, 0.5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'name = "x"\ncheckpoint = "."\ncolour = 1\n', "unknown key colour"),
        (b'checkpoint = "."\n', "name: Field required"),
        (b'name = "x"\ncheckpoint = "."\nopset = 9\n', "opset: .*greater than or equal to 18"),
        (b'name = "x"\ncheckpoint = "."\ntask = "mie"\n', "unknown key task"),
        (b'name = "x"\ncheckpoint = "."\nprecision = "fp8"\n', "precision: .*'f32', 'f16' or 'bf16'"),
        (b'name = "x"\ncheckpoint = "."\nvariants = ["int8"]\n', "variants.*'f16' or 'bf16'"),
        (b"name = \n", "Invalid value"),
        (b"\xff\xfe", "utf-8"),
    ],
)
def test_wrong_recipes_are_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=f"export recipe .*wrong.toml: .*{message}") as error:
        load_export_recipe(path)
    assert "\n" not in str(error.value)


def test_absent(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such recipe or folder"):
        load_export_recipe(tmp_path / "absent.toml")


def test_shipped_recipes_are_valid() -> None:
    recipes = sorted((Path(__file__).parents[2] / "export").glob("*.toml"))
    for path in recipes:
        assert load_export_recipe(path).name == path.stem
    assert recipes
