import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cmrsr.cli.train import outcome
from cmrsr.errors import CmrsrError, UsageError
from cmrsr.tasks.registry import Recipe, build_model, load_recipe, parse_recipe, train
from cmrsr.tasks.sr.training.data import Images, Pool
from cmrsr.training.loop import Progress, build_optimisers, learning_rate

TINY = (
    "model.widths=[8, 16]", "model.blocks=[1, 1, 1]", "model.embedding=16", "data.crop=16", "optimiser.steps=6",
    "optimiser.batch_size=2", "optimiser.bf16=false", "optimiser.warmup=2", "optimiser.ema_every=1", "validate_every=2",
)  # fmt: skip


def _recipe(*overrides: str) -> Recipe:
    return load_recipe("perfgen-s", [*TINY, *overrides])


def _images(size: int = 24) -> Images:
    rng = np.random.default_rng(0)
    frames = [rng.gamma(2.0, 300.0, (size, size)).astype(np.uint16) for _ in range(6)]
    return Images(training=[Pool(images=frames[:4])], validation=[Pool(images=frames[4:])], description="noise")


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)
    return {f"{kind} {k}": v for kind in ("model", "average") for k, v in saved[kind].items()}


def _equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture
def terminations() -> Iterator[list[int]]:
    """SIGTERMs that reach the caller of ``train``."""
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    yield received
    signal.signal(signal.SIGTERM, before)


def _terminate_at(step: int) -> Callable[[Progress], None]:
    def on_step(progress: Progress) -> None:
        if progress.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return on_step


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps in one go."""
    return train(_recipe(), _images(), tmp_path_factory.mktemp("whole"))


def test_what_a_run_leaves(whole: Path) -> None:
    assert {p.name for p in whole.iterdir()} == {"weights.safetensors", "training.json", "checkpoint.pt", "log.jsonl"}
    summary = json.loads((whole / "training.json").read_text())
    assert parse_recipe(summary["recipe"]) == _recipe()
    assert summary["data"] == "noise"
    lines = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    gains = {line["step"]: line["gain_db"] for line in lines if line["gain_db"] is not None}
    assert list(gains) == [2, 4, 6]
    best = max(gains, key=lambda step: gains[step])
    assert (summary["step"], summary["validation_gain_db"]) == (best, pytest.approx(gains[best]))
    assert summary["residual_std"] > 0
    model = build_model(_recipe().model.model_dump())
    model.load_state_dict(load_file(whole / "weights.safetensors"))


def test_resume_is_exact(whole: Path, tmp_path: Path, terminations: list[int]) -> None:
    steps: list[int] = []
    stop = _terminate_at(3)

    def on_step(progress: Progress) -> None:
        steps.append(progress.step)
        stop(progress)

    train(_recipe(), _images(), tmp_path, on_step=on_step)
    assert steps == [1, 2, 3]
    assert terminations == [signal.SIGTERM]  # it takes its usual course once the checkpoint is written
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["state"]["step"] == 3
    train(_recipe(), _images(), tmp_path, resume=True, on_step=lambda p: steps.append(p.step))
    assert steps == [1, 2, 3, 4, 5, 6]
    assert _equal(_weights(tmp_path), _weights(whole))
    for name in ("weights.safetensors", "training.json"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()
    logged = [json.loads(line)["gain_db"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert logged == [json.loads(line)["gain_db"] for line in (whole / "log.jsonl").read_text().splitlines()]


def test_a_finished_run_has_nothing_to_resume(whole: Path, tmp_path: Path) -> None:
    train(_recipe("optimiser.steps=2"), _images(), tmp_path)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    train(_recipe("optimiser.steps=2"), _images(), tmp_path, resume=True, on_step=lambda _: pytest.fail("a step"))
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_a_new_run_starts_a_new_log(tmp_path: Path) -> None:
    for _ in range(2):
        train(_recipe("optimiser.steps=2"), _images(), tmp_path)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1
    train(
        _recipe("optimiser.steps=2"), _images(), tmp_path / "other", resume=True
    )  # without a checkpoint: from the start
    assert _equal(_weights(tmp_path / "other"), _weights(tmp_path))


def test_seeds_make_the_difference(whole: Path, tmp_path: Path) -> None:
    train(_recipe("seed=2"), _images(), tmp_path)
    assert not _equal(_weights(tmp_path), _weights(whole))


def test_signals_are_given_back(tmp_path: Path, terminations: list[int]) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    train(_recipe("optimiser.steps=1"), _images(), tmp_path)
    assert signal.getsignal(signal.SIGTERM) is handler
    assert terminations == []


def test_outside_the_main_thread(tmp_path: Path) -> None:
    done: list[Path] = []
    run = threading.Thread(target=lambda: done.append(train(_recipe("optimiser.steps=1"), _images(), tmp_path)))
    run.start()
    run.join()
    assert done == [tmp_path]


def test_it_learns(tmp_path: Path) -> None:
    """One image, degraded in one way: what truncation takes away can be known, so the gain over zero-filling rises."""
    y, x = np.indices((24, 24))
    frame = 500 + 400 * ((np.hypot(y - 12, x - 12) < 6) | (np.abs(y - 4) < 2))
    images = Images(training=[Pool(images=[frame])], validation=[Pool(images=[frame])], description="one image")
    gains: list[float] = []

    def on_step(progress: Progress) -> None:
        if progress.gain_db is not None:
            gains.append(progress.gain_db)

    recipe = _recipe(
        "optimiser.steps=60", "optimiser.batch_size=8", "optimiser.learning_rate=1e-2", "validate_every=20",
        "diffusion.share_at_noise=1.0", "data.crop=24", "data.fraction=[0.35, 0.35]", "data.phase_share=0.0",
    )  # fmt: skip
    train(recipe, images, tmp_path, on_step=on_step)
    assert gains == sorted(gains)
    assert gains[-1] > 2


def test_the_best_weights_are_kept_not_the_last(tmp_path: Path) -> None:
    worse = ("optimiser.learning_rate=0.2", "optimiser.decay=none", "validate_every=1")
    gains: list[float] = []
    train(_recipe(*worse), _images(), tmp_path / "all", on_step=lambda p: gains.append(p.gain_db or 0.0))
    best = int(np.argmax(gains)) + 1
    assert best < len(gains) == 6
    assert json.loads((tmp_path / "all" / "training.json").read_text())["step"] == best
    train(_recipe(*worse, f"optimiser.steps={best}"), _images(), tmp_path / "best")
    assert (tmp_path / "all" / "weights.safetensors").read_bytes() == (
        tmp_path / "best" / "weights.safetensors"
    ).read_bytes()


def test_the_papers_system_trains_and_resumes(tmp_path: Path, terminations: list[int]) -> None:
    recipe = load_recipe(
        "perfgen-paper",
        ["model.base=32", "model.multipliers=[1, 2]", "model.n_blocks=1", "data.crop=16", "optimiser.steps=2",
         "optimiser.batch_size=2", "optimiser.bf16=false"],
    )  # fmt: skip
    train(recipe, _images(), tmp_path)
    assert json.loads((tmp_path / "training.json").read_text())["residual_std"] is None
    train(recipe, _images(), tmp_path / "again", on_step=_terminate_at(1))
    train(recipe, _images(), tmp_path / "again", resume=True)  # dropout goes on as well
    assert len(terminations) == 1
    assert _equal(_weights(tmp_path), _weights(tmp_path / "again"))


def test_learning_rate_warms_up_and_falls() -> None:
    recipe = _recipe("optimiser.steps=100", "optimiser.warmup=10", "optimiser.learning_rate=1.0")
    rates = [learning_rate(recipe, step) for step in range(100)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert rates[10] == pytest.approx(1)
    assert rates[55] == pytest.approx(0.5)
    assert rates[-1] < 1e-3
    constant = _recipe("optimiser.steps=100", "optimiser.warmup=10", "optimiser.decay=none")
    assert learning_rate(constant, 99) == constant.optimiser.learning_rate


def test_the_schedule_and_the_clipping_reach_the_optimisers(tmp_path: Path) -> None:
    recipe = _recipe("optimiser.clip=0.0")  # no gradient is left, so nothing moves
    train(recipe, _images(), tmp_path)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    for optimiser in saved["optimisers"]:
        assert optimiser["param_groups"][0]["lr"] == learning_rate(recipe, 5)
    torch.manual_seed(recipe.seed)
    untrained = build_model(recipe.model.model_dump()).state_dict()
    assert _equal(saved["model"], untrained)
    assert _equal(saved["average"], untrained)


def test_muon_takes_the_matrices_and_adamw_the_rest() -> None:
    model = build_model(_recipe().model.model_dump())
    adam, muon = build_optimisers(_recipe("optimiser.name=muon"), model)
    assert isinstance(adam, torch.optim.AdamW)
    taken = [[p for g in o.param_groups for p in g["params"]] for o in (adam, muon)]
    assert sum(map(len, taken)) == len(list(model.parameters()))
    assert {p.ndim for p in taken[1]} == {2}
    (only,) = build_optimisers(_recipe("optimiser.name=adamw"), model)
    assert len([p for g in only.param_groups for p in g["params"]]) == len(list(model.parameters()))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.crop=18"], "data.crop 18: expected a multiple of the model's stride 4"),
        (["data.crop=28"], "data.crop 28: .* at most the 24 pixels"),
    ],
)
def test_crops_that_do_not_fit(overrides: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        train(_recipe(*overrides), _images(), tmp_path)


def test_muon_without_matrices(tmp_path: Path) -> None:
    recipe = load_recipe(
        "perfgen-paper", ["model.base=32", "model.multipliers=[1]", "optimiser.name=muon", "data.crop=16"]
    )
    with pytest.raises(UsageError, match=r"optimiser\.name muon: perfgen-paper keeps no weights as matrices"):
        train(recipe, _images(), tmp_path)


def test_a_checkpoint_of_another_run(tmp_path: Path) -> None:
    train(_recipe("optimiser.steps=1"), _images(), tmp_path)
    for overrides in (["model.widths=[8, 24]"], ["optimiser.name=adamw"]):
        with pytest.raises(UsageError, match=r"checkpoint\.pt does not belong to this recipe"):
            train(_recipe(*overrides), _images(), tmp_path, resume=True)
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(UsageError, match=r"checkpoint.pt .* is damaged"):
        train(_recipe(), _images(), tmp_path, resume=True)


def test_a_loss_that_explodes_ends_the_run_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    recipe = _recipe("optimiser.learning_rate=1e30", "optimiser.warmup=0", "checkpoint_every=1", "validate_every=50")
    with pytest.raises(CmrsrError, match=r"the loss is (nan|inf) at step \d+: lower optimiser.learning_rate"):
        train(recipe, _images(), tmp_path)
    assert (tmp_path / "checkpoint.pt").exists()


def test_fine_tuning_begins_where_the_start_ended(whole: Path, tmp_path: Path) -> None:
    told: list[Progress] = []
    recipe = _recipe(f"start={whole}", "optimiser.learning_rate=1e-12", "seed=5")
    train(recipe, _images(), tmp_path, on_step=told.append)
    began, tuned = (load_file(folder / "weights.safetensors") for folder in (whole, tmp_path))
    for name, value in began.items():
        torch.testing.assert_close(tuned[name], value, rtol=0, atol=1e-6)
    summary, first = (json.loads((folder / "training.json").read_text()) for folder in (tmp_path, whole))
    assert summary["residual_std"] == first["residual_std"]  # not that of the new images
    assert summary["start"]["training"] == first
    assert summary["recipe"]["start"] == whole.name  # where it lay is nobody's business
    for progress in told:
        if progress.gain_db is not None:
            assert progress.gain_db == pytest.approx(summary["start"]["validation_gain_db"], abs=1e-3)


def test_a_start_that_is_better_is_kept(whole: Path, tmp_path: Path) -> None:
    steps: list[int] = []
    recipe = _recipe(
        f"start={whole}", "optimiser.learning_rate=0.3", "optimiser.steps=40", "validate_every=1", "patience=3"
    )
    train(recipe, _images(), tmp_path, on_step=lambda progress: steps.append(progress.step))
    assert steps == [1, 2, 3]  # three validations without a gain are enough
    summary = json.loads((tmp_path / "training.json").read_text())
    assert summary["step"] == 0
    assert summary["validation_gain_db"] == summary["start"]["validation_gain_db"]
    began, kept = (load_file(folder / "weights.safetensors") for folder in (whole, tmp_path))
    assert all(torch.equal(began[name], kept[name]) for name in began)
    assert outcome(tmp_path) == [
        "no step was better on the held-out data than the start "
        f"({summary['validation_gain_db']:+.3f} dB): its weights are kept"
    ]
    assert outcome(whole) == []
    train(recipe, _images(), tmp_path, resume=True, on_step=lambda _: pytest.fail("a step"))  # nothing to go on with


def test_fine_tuning_that_helps_says_so(whole: Path, tmp_path: Path) -> None:
    train(_recipe(f"start={whole}", "optimiser.steps=30", "data.crop=24"), _images(), tmp_path)
    summary = json.loads((tmp_path / "training.json").read_text())
    gain, before = summary["validation_gain_db"], summary["start"]["validation_gain_db"]
    assert gain > before
    assert outcome(tmp_path) == [
        f"best on the held-out data: step {summary['step']}, {gain:+.3f} dB; the start had {before:+.3f} dB"
    ]


def test_fine_tuning_resumes_exactly(whole: Path, tmp_path: Path, terminations: list[int]) -> None:
    recipe = _recipe(f"start={whole}")
    train(recipe, _images(), tmp_path / "whole")
    train(recipe, _images(), tmp_path / "parts", on_step=_terminate_at(3))
    train(recipe, _images(), tmp_path / "parts", resume=True)
    assert len(terminations) == 1
    assert _equal(_weights(tmp_path / "parts"), _weights(tmp_path / "whole"))
    for name in ("weights.safetensors", "training.json"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_run_does_not_write_over_its_start(tmp_path: Path) -> None:
    train(_recipe("optimiser.steps=1"), _images(), tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(UsageError, match="the run would write over it; name another folder with -o"):
        train(_recipe(f"start={tmp_path}"), _images(), tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_start_of_another_model(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"are not of this model; set model to what training\.json"):
        train(_recipe(f"start={whole}", "model.widths=[8, 24]"), _images(), tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"none")
    with pytest.raises(UsageError, match=r"start .*: no residual_std in .*training\.json"):
        train(_recipe(f"start={tmp_path}"), _images(), tmp_path / "run")


WORKER = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_loop import _images, _recipe
from cmrsr.tasks.registry import train

class Frames(list):
    reads = 0
    def __getitem__(self, i):
        Frames.reads += 1
        if os.environ["RANK"] == "1" and Frames.reads == {stop_at}:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().__getitem__(i)

signal.signal(signal.SIGTERM, lambda *_: print("told", os.environ["RANK"], flush=True))
images = _images()
object.__setattr__(images.training[0], "images", Frames(images.training[0].images))
train(_recipe("optimiser.steps=1000", "validate_every=1000"), images, Path({out!r}))
print("left", os.environ["RANK"], flush=True)
"""


def test_two_processes_stop_together(tmp_path: Path) -> None:
    """One of two processes gets SIGTERM: both leave after the same step, with a checkpoint."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    stop_at = 256 + 3 * 2  # 256 pairs measure the residual, then two images a step: in the third step
    script = tmp_path / "worker.py"
    script.write_text(WORKER.format(tests=str(Path(__file__).parent), out=str(tmp_path / "run"), stop_at=stop_at))
    environment = os.environ | {
        "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    workers = [
        subprocess.Popen(
            [sys.executable, str(script)],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [worker.communicate(timeout=300) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    assert [w.returncode for w in workers] == [0, 0], outputs
    assert outputs[1][0].split() == ["told", "1", "left", "1"]
    assert outputs[0][0].split() == ["left", "0"]
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["state"]["step"] == 3
