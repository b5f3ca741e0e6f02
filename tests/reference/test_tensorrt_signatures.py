"""Three links from this project's code to the real TensorRT, which no machine without a GPU can run.

The code keeps to tests/stubs/tensorrt.pyi (mypy), the stand-in of the other tests keeps to it too, and it says what the
real bindings say. These import without TensorRT's libraries once empty ones of the same names are there.
"""

import ast
import functools
import importlib.util
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import fake_tensorrt
from tests.fake_cuda import FakeCuda
from tests.fake_tensorrt import FakeTensorRt

ROOT = Path(__file__).parents[2]
STUBS = ROOT / "tests" / "stubs"
CODE = sorted(path for path in (ROOT / "cmrsr" / "runtime").rglob("*.py") if "import tensorrt" in path.read_text())
LIBRARIES = re.compile(rb"libnv\w+\.so\.\d+")
ENTRIES = (
    "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL",
    "getBuilderPluginRegistry", "getPluginRegistry", "initLibNvInferPlugins", "createNvOnnxParser_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL", "getNvOnnxParserVersion",
)  # fmt: skip
# What the words of pybind11 mean in a stub.
MEANING = (
    (r"tensorrt_(lean_)?bindings\.tensorrt(_lean)?\.|nvinfer1::|nvonnxparser::|v_1_0::|typing_extensions\.", ""),
    (r"typing\.SupportsInt", "int"),
    (r"\bIParserError\b", "ParserError"),
    (r"<[^>]*>", "..."),
)
DUMP = """
import importlib, json, sys
bindings = importlib.import_module(sys.argv[1])
found = {}
for path in json.loads(sys.argv[2]):
    kind = bindings
    for name in path.split("."):
        kind = getattr(kind, name)
    members = found[path] = {}
    for name in dir(kind):
        member = getattr(kind, name)
        if isinstance(member, property):
            members[name] = ["property", (member.fget.__doc__ or "").strip(), member.fset is not None]
        elif isinstance(member, kind):
            members[name] = ["value", int(member), "__le__" in vars(kind)]
        elif callable(member) and (name == "__init__" or not name.startswith("__")):
            members[name] = ["method", (member.__doc__ or "").strip()]
print(json.dumps([bindings.__version__, found]))
"""


@dataclass(frozen=True)
class Member:
    """Of a class: a method with (name, type, whether it may be left out) of its arguments; a property; a value."""

    kind: str
    arguments: tuple[tuple[str, str, bool], ...] = ()
    returns: str = ""


Classes = dict[str, dict[str, Member]]


def declared(module: str) -> Classes:
    """The stub's classes; one inside another by its path."""
    found: Classes = {}
    pending = [("", node) for node in ast.parse((STUBS / f"{module}.pyi").read_text()).body]
    while pending:
        outer, node = pending.pop(0)
        if isinstance(node, ast.ClassDef):
            found[outer + node.name] = members_of(node)
            pending += [(f"{outer}{node.name}.", inner) for inner in node.body]
    return found


def members_of(node: ast.ClassDef) -> dict[str, Member]:
    members: dict[str, Member] = {}
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef):
            marks = [ast.unparse(mark) for mark in inner.decorator_list]
            if "property" in marks:
                members[inner.name] = Member("property", returns=meant(inner.returns))
            elif marks:
                members[inner.name] = Member("settable property", returns=members[inner.name].returns)
            else:
                members[inner.name] = method(inner)
        elif isinstance(inner, ast.Assign):
            ordered = [ast.unparse(base) for base in node.bases] == ["IntEnum"]
            members[ast.unparse(inner.targets[0])] = Member("ordered value" if ordered else "value")
    return members


def method(node: ast.FunctionDef) -> Member:
    arguments = node.args.args[1:]
    left_out = len(arguments) - len(node.args.defaults)
    return Member(
        "method",
        tuple((one.arg, meant(one.annotation), i >= left_out) for i, one in enumerate(arguments)),
        meant(node.returns),
    )


def meant(annotation: ast.expr | None) -> str:
    """A type in words that stub and bindings share."""
    return ast.unparse(annotation).replace(" | None", "").replace("tuple[int, ...]", "tuple") if annotation else ""


def signatures(documentation: str) -> list[Member]:
    """Of a method as pybind11 documents it: one, or one for each overload."""
    overloads = re.findall(r"^\d+\. (.*)$", documentation, re.MULTILINE) or documentation.splitlines()[:1]
    found = []
    for text in overloads:
        for word, meaning in MEANING:
            text = re.sub(word, meaning, text)
        (node,) = ast.parse(f"def {text}: ...").body
        assert isinstance(node, ast.FunctionDef)
        found.append(method(node))
    return found


def real(module: str, classes: Classes, folder: Path) -> dict[str, dict[str, list[Any]]]:
    """The members of classes of the real bindings, imported by a process of its own."""
    environment = os.environ | {"LD_LIBRARY_PATH": str(folder), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", DUMP, module, json.dumps(list(classes))]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 0, answer.stderr
    found: dict[str, dict[str, list[Any]]] = json.loads(answer.stdout)[1]
    return found


@pytest.fixture(scope="module")
def empty_libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with libraries of the names that the bindings link to; nothing in them does anything."""
    wheel = importlib.util.find_spec("tensorrt_bindings")
    if wheel is None or wheel.origin is None:
        pytest.skip("the wheel tensorrt-cu13-bindings is not installed")
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("no gcc")
    folder = tmp_path_factory.mktemp("libraries")
    (folder / "empty.c").write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in ENTRIES))
    for name in {one.decode() for one in LIBRARIES.findall((Path(wheel.origin).parent / "tensorrt.so").read_bytes())}:
        command = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", name, "empty.c"]
        subprocess.run(command, cwd=folder, check=True, timeout=60)
    return folder


@pytest.mark.parametrize("module", ["tensorrt", "tensorrt_lean"])
def test_the_stub_says_what_the_real_bindings_say(module: str, empty_libraries: Path) -> None:
    classes = declared("tensorrt")
    if module == "tensorrt":
        wheel = "tensorrt_bindings"
    else:
        wheel = module
        if importlib.util.find_spec(wheel) is None:
            pytest.skip("the wheel tensorrt-lean-cu13 is not installed")
        stub = ast.walk(ast.parse((STUBS / f"{module}.pyi").read_text()))
        names = {node.name for node in stub if isinstance(node, ast.alias)}
        classes = {path: members for path, members in classes.items() if path.split(".")[0] in names}
    assert len(classes) > 5
    found = real(wheel, classes, empty_libraries)
    problems = []
    for path, members in classes.items():
        for name, member in members.items():
            if name.startswith("__") and name != "__init__":  # of C
                continue
            there = found[path].get(name)
            problem = "missing" if there is None else difference(member, there)
            if problem:
                problems.append(f"{path}.{name}: {problem}")
    assert problems == []


def difference(member: Member, there: list[Any]) -> str | None:
    kind, said, *rest = there
    if not member.kind.endswith(kind):
        return f"a {kind}"
    if kind == "property":
        if member.kind != ("settable property" if rest[0] else "property"):
            return f"settable: {rest[0]}"
        return None if signatures(f"get{said}")[0].returns == member.returns else said
    if kind == "value":
        return "not ordered" if member.kind == "ordered value" and not rest[0] else None
    return None if member in signatures(said) else said.splitlines()[0]


def test_differences_are_seen() -> None:
    trt = "tensorrt_bindings.tensorrt"
    said = f"set_flag(self: {trt}.IBuilderConfig, flag: {trt}.BuilderFlag) -> None"
    there = ["method", said]
    assert difference(Member("method", (("flag", "BuilderFlag", False),), "None"), there) is None
    for arguments, returns in (
        ((("flags", "BuilderFlag", False),), "None"),
        ((("flag", "int", False),), "None"),
        ((("flag", "BuilderFlag", True),), "None"),
        ((), "None"),
        ((("flag", "BuilderFlag", False),), "bool"),
    ):
        assert difference(Member("method", arguments, returns), there) == said
    assert difference(Member("property", returns="int"), ["property", "(arg0: a.B) -> int", True]) == "settable: True"


def test_the_stand_in_has_nothing_that_the_stub_has_not() -> None:
    classes, checked = declared("tensorrt"), 0
    for lean in (False, True):
        module = FakeTensorRt(FakeCuda(), lean=lean)
        assert {name for name in dir(module) if inspect.isclass(getattr(module, name))} - {"__class__"} <= set(classes)
    for path, allowed in classes.items():
        kind = functools.reduce(getattr, path.split("."), fake_tensorrt)
        for name, value in vars(kind).items():
            if (name.startswith("_") and name != "__init__") or inspect.isclass(value):
                continue
            if inspect.isfunction(value) and (name != "__init__" or name in allowed):
                given = [(a.name, a.default is not a.empty) for a in inspect.signature(value).parameters.values()][1:]
                assert given == [(a, left_out) for a, _, left_out in allowed[name].arguments], f"{path}.{name}"
                checked += 1
            elif name != "__init__":
                assert "property" in allowed[name].kind or isinstance(value, kind), f"{path}.{name}"
    assert checked > 30


WRONG = """
import tensorrt as trt

def wrong(config: trt.IBuilderConfig, context: trt.IExecutionContext, engine: trt.ICudaEngine) -> None:
    config.set_flag(trt.BuilderFlag.FP16)
    config.set_memory_limit(1)
    config.set_flag(1, 2)
    context.execute_async_v3()
    context.execute_async_v3(stream=0)
    engine.create_execution_context().infer_shapes()
"""


def test_the_code_keeps_to_the_stub(tmp_path: Path) -> None:
    """mypy finds nothing in the code that uses TensorRT, and all that is wrong in a file full of mistakes."""
    pytest.importorskip("mypy")
    assert {path.name for path in CODE} >= {"tensor_rt.py", "plan_build.py", "plan.py"}
    (tmp_path / "wrong.py").write_text(WRONG)
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--no-error-summary"]
    command += ["--cache-dir", str(tmp_path / "cache"), "--config-file", str(ROOT / "pyproject.toml")]
    answer = subprocess.run(
        [*command, *map(str, CODE), str(tmp_path / "wrong.py")], env=os.environ | {"MYPYPATH": str(STUBS)},
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    lines = [line for line in answer.stdout.splitlines() if ": error: " in line]
    assert [line for line in lines if "wrong.py" not in line] == []
    found = {int(re.findall(r"wrong\.py:(\d+):", line)[0]) for line in lines}
    assert found == set(range(5, 11)), answer.stdout + answer.stderr
