"""No command looks up a host, connects to one, or leaves a file outside its output and the documented cache.

Every command runs in a process of its own with an empty home. What Python does there is recorded by an audit hook:
look-ups and connections fail, files opened for writing are noted by name. Compiled code does not pass the hook: what it
leaves is found in the folders afterwards, and strace, where there is one, lists the connections that it tries.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.beating_heart import UNIT, Heart
from tests.cine import beating_frames, write_interp_engine
from tests.cli.test_architecture import imported
from tests.conftest import perfusion_frames, save_nifti
from tests.engines import acquired_frames, write_engine
from tests.heart_engine import TISSUE, write_heart_engine
from tests.heart_study import STUDY, Study
from tests.infarct_engine import write_infarct_engine
from tests.io.dicom.dicom_files import write_series

CHECKOUT = Path(__file__).parents[2]
CACHE = Path("home/.cache/cmrsr")
WATCH = """
import os, socket, sys

_record = os.open(os.environ["WATCH_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_LOOK_UPS = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"}
_CALLS = {"socket.connect", "socket.sendto", "socket.sendmsg"}

def _watch(event, arguments):
    if event in _LOOK_UPS or (event in _CALLS and arguments[0].family in (socket.AF_INET, socket.AF_INET6)):
        os.write(_record, f"{event} {arguments[-1] if event in _CALLS else arguments[0]}\\n".encode())
        raise OSError("there is no network")
    if event == "open" and isinstance(arguments[0], (str, bytes)) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        os.write(_record, f"write {os.path.abspath(os.fsdecode(arguments[0]))}\\n".encode())

sys.addaudithook(_watch)
"""
TRACED = ("strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg")
TINY_TRAINING = (
    "--set model.widths=[8,16] --set model.blocks=[1,1,1] --set model.embedding=16 --set data.crop=16 --set "
    "optimiser.steps=2 --set optimiser.batch_size=2 --set optimiser.bf16=false --set validate_every=2"
)
COMMANDS = {
    "help": "--help",
    "info": "info --json",
    "info selftest": "info --selftest --device cpu --backend openvino --engine perfgen-s",
    "sr": "sr IN/perfusion --engine IN/sr -o OUT/sr",
    "sr dicom": "sr IN/scanner --engine IN/sr --samples 2 -o OUT/sr_dicom",
    "sr onnxruntime": "sr IN/perfusion --engine IN/sr --backend onnxruntime --no-report -o OUT/sr_onnxruntime",
    "sr stream": "sr IN/frames --stream --idle 0.05 --engine IN/sr -o OUT/stream",
    "interp4d": "interp4d IN/cine --engine IN/interp4d -o OUT/interp4d",
    "function": "function IN/hearts --engine IN/function -o OUT/function",
    "mie": "mie IN/study --engine IN/mie --reader IN/function --steps 1 --samples 2 -o OUT/mie",
    "phantom": "phantom OUT/phantom --kind perfusion --frames 8 --slices 1 --matrix 64 --workers 2",
    "evaluate sr": "evaluate sr IN/full --engine IN/sr --settings 1x1 --axes y --crop 0 -o OUT/e_sr",
    "evaluate interp4d": "evaluate interp4d IN/cine --engine IN/interp4d -o OUT/e_interp4d",
    "evaluate function": "evaluate function IN/hearts --labels IN/labels --engine IN/function -o OUT/e_function",
    "evaluate mie": "evaluate mie IN/study --engine IN/mie --reader IN/function --steps 1 --samples 2 -o OUT/e_mie",
    "evaluate phantom": "evaluate phantom --subjects 2 -o OUT/e_phantom",
    "train, export": f"train perfgen-s --data IN/full -o OUT {TINY_TRAINING} && export OUT/perfgen-s -o OUT/exported",
    "verify": "export IN/sr --verify",
}


@dataclass(frozen=True)
class Place:
    """An empty home, a folder for temporary files and a working folder; inputs that nobody writes to."""

    root: Path
    inputs: Path

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ}
        return kept | {
            "HOME": str(self.root / "home"), "USERPROFILE": str(self.root / "home"), "TMPDIR": str(self.root / "tmp"),
            "PYTHONPATH": os.pathsep.join([str(self.root / "watch"), str(CHECKOUT)]), "PYTHONDONTWRITEBYTECODE": "1",
            "WATCH_RECORD": str(self.root / "record"), "OMP_NUM_THREADS": "1",
        }  # fmt: skip

    def run(self, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        words = command.replace("IN/", f"{self.inputs}/").replace("OUT", str(self.root / "out")).split()
        traced = [*TRACED, "-o", str(self.root / "traced")] if can_trace() else []
        return subprocess.run(
            [*traced, sys.executable, "-m", "cmrsr", *words],
            cwd=self.root / "work", env=self.environment | environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    @property
    def calls(self) -> list[str]:
        """Look-ups and connections."""
        trace = self.root / "traced"
        traced = trace.read_text().splitlines() if trace.exists() else []
        return [x for x in self._record if not x.startswith("write ")] + [x for x in traced if "sa_family=AF_INET" in x]

    @property
    def written(self) -> set[str]:
        """Files opened for writing that are not below the folders made for the test, nor devices."""
        paths = {line.removeprefix("write ") for line in self._record if line.startswith("write ")}
        return {path for path in paths if not path.startswith((f"{self.root}/", "/dev/"))}

    @property
    def _record(self) -> list[str]:
        return (self.root / "record").read_text().splitlines()

    @property
    def left(self) -> set[str]:
        """What lies below home, the folder for temporary files and the working folder, but for our own cache.

        torch makes an empty folder for its compiler, whether it is used or not.
        """
        found = {p.relative_to(self.root) for name in ("home", "tmp", "work") for p in (self.root / name).rglob("*")}
        own = {CACHE, *CACHE.parents}
        return {str(p) for p in found if p not in own and CACHE not in p.parents and "torchinductor" not in p.name}


@cache
def can_trace() -> bool:
    """Whether strace is here and may trace, which containers often forbid."""
    return bool(shutil.which("strace")) and not subprocess.run([*TRACED, "true"], capture_output=True).returncode


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small input and a tiny engine for every command."""
    folder = tmp_path_factory.mktemp("inputs")
    write_engine(folder / "sr")
    write_interp_engine(folder / "interp4d")
    write_heart_engine(folder / "function")
    write_infarct_engine(folder / "mie")
    save_nifti(folder / "perfusion" / "p1.nii.gz", acquired_frames(3))
    for k, frame in enumerate(acquired_frames(2)):
        save_nifti(folder / "frames" / f"p1_{k}.nii.gz", frame[None])
    write_series(folder / "scanner", np.round(acquired_frames(3)).astype(np.uint16))
    save_nifti(folder / "cine" / "p1.nii.gz", beating_frames(8))
    heart = Heart(n_t=2, n_z=3, gap_mm=30, matrix=(80, 80), pixel_mm=(2.2, 2.2))
    heart.save_nifti(folder / "hearts" / "p1_cine.nii.gz")
    labels = np.abs(heart.frames()[..., None] / UNIT - np.asarray(TISSUE)).argmin(-1)
    heart.save_nifti(folder / "labels" / "p1_cine.nii.gz", frames=labels.astype(np.float32))
    study = Study(t1=replace(STUDY.t1, slices=(2,)))
    _, t1 = study.save_nifti(folder / "study" / "p1")
    image = nib.load(t1)
    nib.save(nib.Nifti1Image(image.dataobj[..., 0], image.affine), folder / "study" / "p1" / "p1_lge.nii.gz")
    for k in range(3):
        save_nifti(folder / "full" / f"p{k}.nii.gz", np.roll(perfusion_frames(4, 1, 40, 40), k, axis=2))
    return folder


@pytest.fixture
def place(tmp_path: Path, inputs: Path) -> Place:
    for name in ("home", "tmp", "work", "watch"):
        (tmp_path / name).mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCH)
    # Found before an installed one, so that the test means the same where none is.
    (tmp_path / "watch" / "openvino_telemetry.py").write_text("import socket\nsocket.getaddrinfo('telemetry', 443)\n")
    return Place(tmp_path, inputs)


@pytest.mark.parametrize("name", COMMANDS)
def test_nobody_is_called_and_nothing_is_left(name: str, place: Place) -> None:
    for command in COMMANDS[name].split(" && "):
        done = place.run(command)
        assert done.returncode == 0, done.stderr
    assert place.calls == []
    assert place.written == set()
    assert place.left == set()


def test_the_watch_sees_calls_and_files(place: Place) -> None:
    """The oracle itself: a process that calls, and leaves files, is found out."""
    done = subprocess.run(
        [sys.executable, "-c", "import socket, pathlib\n"
         "pathlib.Path.home().joinpath('left').write_text('x')\n"
         "try: import openvino_telemetry\n"
         "except OSError: print('no network')"],
        cwd=place.root / "work", env=place.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "no network\n"
    assert place.calls == ["socket.getaddrinfo telemetry"]
    assert place.left == {"home/left"}


def test_fonts_go_to_a_temporary_folder_without_a_cache(place: Place) -> None:
    """Also where a command cannot write the cache: nothing stays, and matplotlib has nothing to say about it."""
    done = place.run(COMMANDS["sr"], CMRSR_CACHE="")
    assert done.returncode == 0, done.stderr
    assert "matplotlib" not in done.stderr.lower()
    assert not list((place.root / "home").iterdir())
    assert not list((place.root / "tmp").iterdir())


def test_the_users_own_folder_of_matplotlib_stays(place: Place) -> None:
    own = place.root / "out" / "matplotlib"
    assert place.run(COMMANDS["sr"], MPLCONFIGDIR=str(own)).returncode == 0
    assert [path.name.split("-")[0] for path in own.iterdir()] == ["fontlist"]
    assert place.left == set()


@pytest.mark.parametrize("script", sorted((CHECKOUT / "tests" / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_benchmarks_import_cmrsr_before_what_reports_its_use(script: Path) -> None:
    """They are run as they are, and isort puts packages of others first."""
    assert not {name.split(".")[0] for name in imported(script, at_start_only=True)} & {"openvino", "onnxruntime"}
