"""The stored sample of a bundle: what torch writes is what is read without torch, and nothing damaged passes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cmrsr.errors import EngineError
from cmrsr.exporting import sample as writer
from cmrsr.exporting.spec import N_COEFFICIENTS, GraphSpec
from cmrsr.runtime.bundle import load
from cmrsr.runtime.sample import SAMPLE, Kept, key, read_sample
from tests.engines import write_engine
from tests.sampled_engine import sample_of, with_digest, write_sampled_engine

IMAGE = ("batch", 1, "rows", "columns")


class Sharpened(nn.Module):
    """The ports of the step graph of ``sr``."""

    def forward(self, x_t: Tensor, lr: Tensor, coefficients: Tensor, low_pass: Tensor) -> tuple[Tensor, Tensor]:
        x0 = coefficients[1] * x_t + coefficients[2] * torch.tanh(lr)
        return x0 + torch.matmul(low_pass, x_t), x0


def example(sizes: Any, seed: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    image = (sizes["batch"], 1, sizes["rows"], sizes["columns"])
    return (
        torch.randn(image, generator=generator), torch.rand(image, generator=generator), torch.rand(5),
        0.5 * torch.eye(sizes["rows"]),
    )  # fmt: skip


def spec(module: nn.Module | None = None) -> GraphSpec:
    return GraphSpec(
        file="step.onnx", module=module or Sharpened(), stride=4,
        inputs={"x_t": IMAGE, "lr": IMAGE, "coefficients": (N_COEFFICIENTS,), "low_pass": ("rows", "rows")},
        outputs={"x_next": IMAGE, "x0": IMAGE}, example=example, parity=(), flops={},
    )  # fmt: skip


@pytest.fixture
def written(tmp_path: Path) -> Path:
    folder = write_engine(tmp_path / "tiny")
    writer.write_sample({"step": spec()}, folder / SAMPLE)
    return with_digest(folder)


def test_what_is_written_is_read(written: Path) -> None:
    """The inputs give the stored outputs, in torch without an error."""
    (sample,) = read_sample(load(str(written))).values()
    assert list(sample.inputs) == ["x_t", "lr", "coefficients", "low_pass"]
    assert all(value.dtype == np.float32 for value in sample.inputs.values())
    outputs = Sharpened()(*map(torch.from_numpy, sample.inputs.values()))
    assert sample.error(tuple(one.numpy() for one in outputs)) == 0
    shapes = sample.dynamic_shapes(load(str(written)).manifest.step)
    assert shapes == {"x_t": (2, 1, 96, 96), "lr": (2, 1, 96, 96), "low_pass": (96, 96)}


def test_the_same_graphs_give_the_same_bytes(written: Path, tmp_path: Path) -> None:
    writer.write_sample({"step": spec()}, tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (written / SAMPLE).read_bytes()


def test_what_is_large_is_thinned(written: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Inputs that pack, one image instead of two, some of the outputs, which lie anywhere in them."""
    for name, value in (("MOST_VALUES", 700), ("MOST_KEPT", 50)):
        monkeypatch.setattr(writer, name, value)
    writer.write_sample({"step": spec()}, written / SAMPLE)
    (sample,) = read_sample(load(str(with_digest(written)))).values()
    assert sample.inputs["x_t"].shape == (1, 1, 96, 96)
    scaled = sample.inputs["x_t"] * writer.LEVELS
    np.testing.assert_array_equal(scaled, scaled.round())
    kept = sample.expected["x0"]
    assert len(set(kept.at.tolist())) == len(kept.values) == 50
    assert kept.at.min() < 96 * 24 < 96 * 72 < kept.at.max()
    outputs = Sharpened()(*map(torch.from_numpy, sample.inputs.values()))
    assert sample.error(tuple(one.numpy() for one in outputs)) == 0


def test_images_are_smooth_and_noise_is_noise(written: Path) -> None:
    (sample,) = read_sample(load(str(written))).values()
    lr, x_t = sample.inputs["lr"], sample.inputs["x_t"]
    assert (lr.min(), lr.max()) == (0, 1)
    assert np.abs(np.diff(lr)).max() < 0.5 < np.abs(np.diff(x_t)).max()


def test_inputs_are_those_that_rounding_disturbs_least(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is calm for a single one of the seeds that are tried."""
    monkeypatch.setattr(writer, "LARGE", 10**9)  # what is packed bf16 holds exactly

    class Wild(Sharpened):
        def forward(self, x_t: Tensor, lr: Tensor, coefficients: Tensor, low_pass: Tensor) -> tuple[Tensor, Tensor]:
            mixed = torch.matmul(low_pass, x_t)  # in bf16 under autocast
            gain = 1.0 if torch.equal(x_t, calm) else 1000.0
            return gain * (mixed - mixed.detach().float().to(torch.bfloat16)) + x_t, x_t

    wild = spec(Wild())
    calm = writer._inputs(wild, 5)[0]
    writer.write_sample({"step": wild}, tmp_path / "one.npz")
    np.testing.assert_array_equal(np.load(tmp_path / "one.npz")[key("step", "input", "x_t")], calm.numpy())


def test_errors_are_relative_to_the_largest_value() -> None:
    kept = Kept((2, 3), np.array([0, 4], np.int32), np.array([1, -4], np.float32))
    found = np.array([[1, 9, 9], [9, -3, 9]], np.float32)
    assert kept.error(found) == 0.25
    assert kept.error(found[:1]) == kept.error(found.reshape(3, 2)) == np.inf
    found[0, 1] = np.nan  # not kept, but no engine's output
    assert kept.error(found) == np.inf


def test_a_bundle_without_a_sample_says_so(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"engine tiny was exported without a sample.npz.*newer one"):
        read_sample(load(str(write_engine(tmp_path / "tiny"))))


def bad(name: str, value: NDArray[Any] | None) -> Any:
    return pytest.param({f"step/{name}": value}, id=name + ("" if value is None else f"-{value.size}"))


@pytest.mark.parametrize(
    "change",
    [
        bad("input/lr", None),
        bad("at/x0", None),
        bad("input/lr", np.zeros((2, 2, 16, 12), np.float32)),
        bad("input/lr", np.zeros(5, np.float32)),
        bad("shape/x0", np.array([2, 1, 16])),
        bad("shape/x0", np.array(7)),
        bad("at/x0", np.arange(128) * 1000),
        bad("at/x0", -np.arange(128)),
        bad("values/x0", np.zeros(3, np.float32)),
        bad("values/x0", np.array(["?"] * 128)),
    ],
)
def test_a_sample_that_does_not_fit_its_graph_is_refused(change: dict[str, NDArray[Any]], tmp_path: Path) -> None:
    folder = write_sampled_engine(tmp_path / "tiny", **change)
    with pytest.raises(EngineError, match=r"sample.npz does not fit graph step: .*; export engine tiny anew"):
        read_sample(load(str(folder)))


def test_a_sample_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    folder = write_sampled_engine(tmp_path / "tiny")
    whole = (folder / SAMPLE).read_bytes()
    objects = sample_of(folder) | {key("step", "input", "lr"): np.array([{}], object)}
    for content in (b"", b"no archive", whole[:-40], whole[: len(whole) // 2], np.zeros(3), objects):
        if isinstance(content, dict):
            np.savez(folder / SAMPLE, **content)  # type: ignore[arg-type]
        elif isinstance(content, bytes):
            (folder / SAMPLE).write_bytes(content)
        else:
            with (folder / SAMPLE).open("wb") as file:
                np.save(file, content)
        with_digest(folder)
        with pytest.raises(EngineError, match=r"sample.npz cannot be read: .*install engine tiny anew"):
            read_sample(load(str(folder)))
