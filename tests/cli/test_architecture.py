"""Rooms: imports run one way, and nothing that a hospital runs needs torch."""

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from functools import cached_property
from pathlib import Path

import pytest

from cmrsr.phantom.one_patient import VirtualScans
from cmrsr.tasks import rooms
from cmrsr.training.recipe import Run

PACKAGE = Path(__file__).parents[2] / "cmrsr"
BASE = {"errors", "user_warnings", "version"}  # modules that every room may import
# What each room may import of the others, besides those and itself.
ARROWS = {
    "physics": set(),
    "diffusion": set(),
    "networks": set(),
    "metrics": {"physics"},
    "io": {"physics"},
    "phantom": {"io", "physics"},
    "runtime": {"diffusion", "io"},
    "training": {"diffusion", "runtime", "io"},
    "exporting": {"training", "diffusion", "runtime", "io"},
    "batch": {"runtime", "io"},
    "heart": {"runtime", "physics", "io"},
    "report": {"batch", "metrics", "runtime", "physics", "io"},
    "realism": {"report", "heart", "phantom", "physics", "io"},
    "tasks": {
        "report",
        "heart",
        "batch",
        "exporting",
        "training",
        "networks",
        "metrics",
        "phantom",
        "runtime",
        "diffusion",
        "physics",
        "io",
    },
    "diagnostics": {"tasks", "batch", "metrics", "phantom", "runtime", "diffusion", "physics", "io"},
    "cli": {
        "tasks",
        "report",
        "realism",
        "diagnostics",
        "metrics",
        "batch",
        "exporting",
        "training",
        "runtime",
        "phantom",
        "io",
    },
}
TORCH = {"torch", "safetensors", "onnx", "onnxscript", "tensorboard"}
TASKS = ("sr", "interp4d", "function", "mie")
WITH_TORCH = ("networks", "training", "exporting")  # rooms, and folders in a task's room


def imported(path: Path, *, at_start_only: bool = False) -> set[str]:
    """Modules that a file imports; ``at_start_only`` leaves out those inside functions."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    if at_start_only:
        inside = {n for f in nodes if isinstance(f, ast.FunctionDef) for n in ast.walk(f)}
        nodes = [node for node in nodes if node not in inside]
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names if node.module.split(".")[0] == "cmrsr"}
    return names


def test_every_room_is_on_the_map() -> None:
    assert {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists()} == set(ARROWS)


def test_every_folder_with_code_is_installed() -> None:
    """The list in pyproject.toml is by hand, for the engines lie elsewhere in a checkout."""
    listed = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {".".join(p.parent.relative_to(PACKAGE.parent).parts) for p in PACKAGE.rglob("*.py")}
    assert set(listed) == found | {"cmrsr.engines"}
    assert all((PACKAGE.parent / name.replace(".", "/") / "__init__.py").is_file() for name in found)


@pytest.mark.parametrize("room", ARROWS)
def test_imports_run_one_way(room: str) -> None:
    allowed = {room, *BASE, *ARROWS[room]}
    wrong = {
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in (PACKAGE / room).rglob("*.py")
        for name in imported(path)
        if name.startswith("cmrsr.") and name.split(".")[1] not in allowed
    }
    assert not wrong


def test_no_task_knows_another() -> None:
    """Nor the registry, which knows them all."""
    assert {p.name for p in (PACKAGE / "tasks").iterdir() if (p / "__init__.py").exists()} == set(TASKS)
    for task in TASKS:
        for path in (PACKAGE / "tasks" / task).rglob("*.py"):
            rooms = {tuple(name.split(".")[1:3]) for name in imported(path) if name.startswith("cmrsr.tasks.")}
            assert rooms <= {("tasks", task)}, path


# Words by which a shared file would know a task: its command, its shipped engines, its network.
NAMES = re.compile(r"\b(interp4d|mie|perfgen|tssc|cpkdm|causal-\w+)\b|[\"'`](sr|function)[\"'`]|cmrsr (sr|function)\b")
KNOWN = {  # files that may
    "__init__.py": "the public calls, one a task",
    "tasks/rooms.py": "the list of the tasks",
}


def test_shared_files_name_no_task() -> None:
    """Neither in code nor in words: a fifth task is a room, and a line where all are listed."""
    found = {
        f"{name}: {word.group()}"
        for path in PACKAGE.rglob("*.py")
        if not (name := path.relative_to(PACKAGE).as_posix()).startswith(("cli/", *(f"tasks/{t}/" for t in TASKS)))
        and name not in KNOWN
        for word in NAMES.finditer(path.read_text())
    }
    assert not found
    assert all(NAMES.search((PACKAGE / name).read_text()) for name in KNOWN)  # none is on the list in vain


def test_every_room_of_a_task_has_what_all_are_asked_for() -> None:
    assert set(rooms.TASKS) == set(TASKS)
    for task in TASKS:
        assert rooms.kind_of(task).task == task
        scans, run = rooms.selftest_of(task)
        assert all(isinstance(getattr(VirtualScans, scan), cached_property) for scan in scans)
        assert list(inspect.signature(run).parameters) == ["engine", "patient", "choice"]
        assert list(inspect.signature(rooms.judge_of(task)).parameters) == ["candidates", "bundle", "look"]
        entry = rooms.file_of(task, "training.entry")
        assert all(issubclass(recipe, Run) for recipe in entry.RECIPES)
        wanted = {"load_data": ["recipe", "data", "cache", "on_item"], "build_system": ["recipe", "data"],
                  "parts": ["first", "reader"]}  # fmt: skip
        for name, parameters in wanted.items():
            assert list(inspect.signature(getattr(entry, name)).parameters) == parameters


def test_the_map_has_no_circles() -> None:
    left = dict(ARROWS)
    while left:
        free = [room for room, needs in left.items() if not needs & set(left)]
        assert free, f"a circle among {sorted(left)}"
        for room in free:
            del left[room]


def test_no_two_files_need_each_other() -> None:
    files = {".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts): p for p in PACKAGE.rglob("*.py")}
    left = {name: {m for m in imported(path) if m in files and m != name} for name, path in files.items()}
    while left:
        free = [name for name, needs in left.items() if not needs & set(left)]
        assert free, f"a circle among {sorted(left)}"
        for name in free:
            del left[name]


def test_files_for_inference_do_not_name_torch() -> None:
    for path in PACKAGE.rglob("*.py"):
        if not set(path.relative_to(PACKAGE).parts) & set(WITH_TORCH):
            assert not {name.split(".")[0] for name in imported(path)} & TORCH, path


def test_the_command_line_starts_light() -> None:
    """Heavy packages are imported inside the functions that use them."""
    heavy = "numpy", "scipy", "matplotlib", "nibabel", "pydicom", "pydantic", "openvino", "torch"
    script = (
        f"import sys, cmrsr.cli.app, cmrsr.tasks.rooms\nassert not {set(heavy)!r} & set(sys.modules), set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=PACKAGE.parent, check=True)


SCRIPT = """
import importlib, pkgutil, sys
BLOCKED = {blocked!r}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"no module named {{name}}", name=name)
sys.meta_path.insert(0, Refuse())
import cmrsr
{body}
print("fine")
"""


def in_a_new_process(body: str, blocked: set[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    script = SCRIPT.format(blocked=sorted(blocked), body=body)
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        cwd=PACKAGE.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_everything_but_training_imports_without_torch() -> None:
    done = in_a_new_process(
        f"""
for module in pkgutil.walk_packages(cmrsr.__path__, "cmrsr."):
    if not set(module.name.split(".")) & set({WITH_TORCH!r}) and module.name != "cmrsr.__main__":
        importlib.import_module(module.name)
cmrsr.super_resolve, cmrsr.Series, cmrsr.SrOptions, cmrsr.DeviceChoice
""",
        TORCH | {"tensorrt"},
    )
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


def test_sr_runs_without_torch_and_onnx(engine: Path, tmp_path: Path) -> None:
    from tests.conftest import save_nifti
    from tests.engines import acquired_frames

    save_nifti(tmp_path / "p1.nii.gz", acquired_frames(3))
    done = in_a_new_process(
        "from cmrsr.cli import run\nassert run(sys.argv[1:]) == 0",
        TORCH | {"onnxruntime"},
        "sr", str(tmp_path / "p1.nii.gz"), "--engine", str(engine), "-q",
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")
    assert (tmp_path / "p1_cmrsr" / "report.html").is_file()


def test_training_without_its_extra_says_what_to_install(tmp_path: Path) -> None:
    body = """
import importlib.util
there = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in BLOCKED else there(name, *rest)
from cmrsr.cli import run
assert run(["train", "perfgen-s"]) == 2
"""
    done = in_a_new_process(body, TORCH)
    assert done.stdout == "fine\n", done.stderr
    assert "pip install 'cmrsr[train]'" in done.stderr
