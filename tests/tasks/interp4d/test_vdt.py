import logging
import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmrsr.runtime.open_vino import best_precision
from cmrsr.tasks.interp4d.training.vdt import (
    Decoder,
    Vdt,
    VdtBlock,
    VdtConfig,
    VdtPaper,
    VdtPaperConfig,
    Whole,
    Windows,
    attention,
    modulate,
    place_embedding,
    sinusoids,
    tau_terms,
)

TINY = VdtConfig(depth=2, width=24, heads=2, window=4, detail=(8, 16), embedding=16)
PAPER_SIZE = 859_683_472  # 28 blocks of 23 w^2 + 22 w, and what lies before and after them
F32 = 1e-4  # relative: parity of float32 engines
BF16 = 3e-2  # relative: eight bits of mantissa
INPUTS = ("x_t", "known", "base", "bend", "tau", "t")


def _model(config: VdtConfig = TINY) -> Vdt:
    """A network as after some training: the modulations, zero at first, are not."""
    torch.manual_seed(0)
    model = Vdt(config).eval()
    for block in model.blocks:
        nn.init.normal_(block.modulation.weight, std=0.1)
        nn.init.normal_(block.modulation.bias, std=0.5)
    return model


def _inputs(n: int = 3, y: int = 32, x: int = 40, batch: int = 2, t: float = 0.4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    known = torch.rand(batch, 2, y, x, generator=generator)
    tau = torch.linspace(0, 1, n + 2)[1:-1].repeat(batch, 1)
    base = known[:, :1] + tau[..., None, None] * (known[:, 1:] - known[:, :1])
    bend = 0.05 * torch.randn(batch, n, y, x, generator=generator)
    x_t = torch.randn(batch, n, y, x, generator=generator)
    return {
        "x_t": x_t, "known": known, "base": base + bend / 2, "bend": bend, "tau": tau, "t": torch.full((batch,), t),
    }  # fmt: skip


def _close(a: Tensor, b: Tensor, atol: float = 2e-5) -> bool:
    return torch.allclose(a, b, atol=atol)


@pytest.fixture(scope="module")
def model() -> Vdt:
    return _model()


@pytest.mark.parametrize(("n", "y", "x"), [(1, 8, 8), (3, 24, 16), (7, 40, 48)])
def test_any_number_of_frames_and_any_multiple_of_the_stride(model: Vdt, n: int, y: int, x: int) -> None:
    assert TINY.stride == 8
    assert model(**_inputs(n, y, x)).shape == (2, n, y, x)


def test_other_sizes_are_not_for_it(model: Vdt) -> None:
    for y, x in ((20, 16), (16, 12), (9, 8)):
        with pytest.raises(RuntimeError):
            model(**_inputs(1, y, x))


def test_heads_must_fit() -> None:
    with pytest.raises(ValueError, match="expected a multiple of heads = 5"):
        VdtConfig(width=24, heads=5)


def test_unknown_frames_have_no_order_of_their_own(model: Vdt) -> None:
    inputs = _inputs(4)
    order = torch.tensor([2, 0, 3, 1])
    permuted = {k: v[:, order] if k in ("x_t", "base", "bend", "tau") else v for k, v in inputs.items()}
    assert _close(model(**permuted), model(**inputs)[:, order])


def test_output_follows_every_input(model: Vdt) -> None:
    inputs = _inputs()
    out = model(**inputs)
    for name, value in inputs.items():
        assert (model(**inputs | {name: value * 0.8}) - out).abs().max() > 1e-3, name


def test_tau_is_continuous_and_each_frame_has_its_own(model: Vdt) -> None:
    inputs = _inputs()
    out = model(**inputs)
    last = 0.0
    for change in (1e-3, 1e-2, 0.1):
        tau = inputs["tau"].clone()
        tau[:, 1] += change
        effect = (model(**inputs | {"tau": tau}) - out).abs().amax((0, 2, 3))
        assert effect[1] > effect[0]  # the others notice through the attention across frames
        assert last < effect[1] < 300 * change
        last = float(effect[1].detach())


def test_frames_are_denoised_jointly(model: Vdt) -> None:
    inputs = _inputs()
    x_t = inputs["x_t"].clone()
    x_t[:, 0] += 1
    effect = (model(**inputs | {"x_t": x_t}) - model(**inputs)).abs().amax((0, 2, 3))
    assert (effect > 1e-5).all()


def test_what_each_frame_is_given_besides_its_noise() -> None:
    """Six images a frame: residual, image, its detail, the rise, what leads off the linear blend, the bend."""
    model, inputs, seen = _model(), _inputs(t=0.5), {}
    model.stem.register_forward_hook(lambda _, given, __: seen.update(frames=F.pixel_shuffle(given[0], 2)))
    model(**inputs)
    residual, image, _, rise, off, bend = seen["frames"].unflatten(0, (2, 5)).unbind(2)
    known, tau = inputs["known"], inputs["tau"][..., None, None]
    assert _close(residual[:, 2:], inputs["x_t"] * math.cos(math.pi / 4))
    assert torch.equal(image, torch.cat([known, inputs["base"]], 1))
    assert _close(rise, 8 * (known[:, 1:] - known[:, :1]).expand(-1, 5, -1, -1))
    assert _close(off[:, 2:], 8 * (inputs["base"] - (1 - tau) * known[:, :1] - tau * known[:, 1:]), 1e-5)
    assert torch.equal(bend[:, 2:], 8 * inputs["bend"])
    for part in (residual, off, bend):  # a known frame is its own blend
        assert not part[:, :2].any()
    flat = _inputs() | {"known": torch.full((2, 2, 32, 40), 0.3), "base": torch.full((2, 3, 32, 40), 0.3)}
    model(**flat)
    assert _close(seen["frames"].unflatten(0, (2, 5))[:, :, 2], torch.zeros(1))  # nothing is detail, to the border


def test_the_bend_is_of_its_own_frame(model: Vdt) -> None:
    """The others notice through the attention across frames alone."""
    inputs = _inputs()
    bend = inputs["bend"].clone()
    bend[:, 1] += 0.05
    effect = (model(**inputs | {"bend": bend}) - model(**inputs)).abs().amax((0, 2, 3))
    assert effect[1] > 1e-3
    assert effect[1] > 2 * effect[0]
    assert effect[1] > 2 * effect[2]
    none = {"bend": torch.zeros_like(bend)}  # as where there are no neighbours
    assert model(**inputs | none).isfinite().all()


def test_a_known_frame_is_used_at_its_own_end(model: Vdt) -> None:
    """Exchanging the known frames and tau -> 1 - tau is another input: the video has a direction."""
    inputs = _inputs()
    swapped = inputs | {"known": inputs["known"].flip(1)}
    assert (model(**swapped) - model(**inputs)).abs().max() > 1e-3


def test_noise_is_not_seen_at_t_1(model: Vdt) -> None:
    inputs = _inputs(t=1.0)
    negative = inputs | {"x_t": -3 * inputs["x_t"]}
    assert _close(model(**inputs), model(**negative))
    earlier = {"t": inputs["t"] - 0.05}
    assert not _close(model(**inputs | earlier), model(**negative | earlier), 1e-3)


def test_known_frames_are_clean_and_at_the_ends() -> None:
    """They have noise level 0 and tau 0 and 1, whatever the noise of the others."""
    model, inputs, seen = _model(), _inputs(), {}
    model.level.register_forward_hook(lambda _, given, __: seen.update(level=given[0].reshape(2, 5)))
    model.time.register_forward_hook(lambda _, given, __: seen.update(tau=given[0].reshape(2, 5, -1)))
    model(**inputs)
    assert torch.equal(seen["level"], torch.tensor([0, 0, 0.4, 0.4, 0.4]).expand(2, -1))
    assert torch.equal(seen["tau"][0], tau_terms(torch.tensor([0, 1, *inputs["tau"][0].tolist()])))


def test_tau_is_in_the_tokens_too() -> None:
    """Attention has to tell frames apart, so the modulation is not the only place that knows tau."""
    model, inputs = _model(), _inputs()
    nn.init.zeros_(model.time.weight)
    moved = inputs | {"tau": inputs["tau"] * 0.8}
    assert (model(**moved) - model(**inputs)).abs().max() > 1e-3


def test_series_of_a_batch_do_not_meet(model: Vdt) -> None:
    inputs = _inputs() | {"t": torch.tensor([0.3, 0.9])}
    whole = model(**inputs)
    for i in (0, 1):
        assert _close(model(**{k: v[i : i + 1] for k, v in inputs.items()}), whole[i : i + 1])


def test_pixels_at_every_phase_of_the_patch_are_seen(model: Vdt) -> None:
    inputs = {k: v.requires_grad_() if v.ndim == 4 else v for k, v in _inputs(2, 32, 32, 1).items()}
    model(**inputs).square().sum().backward()
    for name in ("x_t", "known", "base", "bend"):
        grad = inputs[name].grad
        assert grad is not None
        seen = grad.abs()[0].unflatten(1, (4, 8)).unflatten(3, (4, 8)).sum((0, 1, 3))
        assert seen.min() > 0.01 * seen.max(), name


def test_adaln_zero_start() -> None:
    """At first the modulated branches are shut, and the gates are what learns; then everything does."""
    torch.manual_seed(0)
    model = Vdt(TINY)
    block, tokens = model.blocks[0], torch.randn(1, 3, 4, 4, 24)
    nn.init.zeros_(block.temporal_out.matrix)
    assert torch.equal(block(tokens, torch.randn(1, 3, 16)), tokens)

    torch.manual_seed(0)
    model = Vdt(TINY)
    inputs = _inputs()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(2):
        optimiser.zero_grad()
        (model(**inputs) - inputs["x_t"]).square().mean().backward()
        silent = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
        shut = ("qkv.matrix", "qkv.bias", "area.bias", "out.matrix", "out.bias", "first", "second")
        assert all(n.startswith("blocks.") and any(s in n for s in shut) for n in silent), silent
        assert not any("modulation" in n or n.startswith(("level", "time")) for n in silent)
        assert bool(silent) == (step == 0)
        optimiser.step()


def test_gradient_reaches_every_parameter() -> None:
    model = _model()
    model(**_inputs()).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_small_network_is_small_and_muon_takes_most_of_it() -> None:
    with torch.device("meta"):
        named = dict(Vdt(VdtConfig()).named_parameters())
    total = sum(p.numel() for p in named.values())
    matrices = [p for name, p in named.items() if name.endswith(".matrix")]
    assert total < 8e6
    assert all(p.ndim == 2 for p in matrices)
    assert sum(p.numel() for p in matrices) > 0.7 * total


def test_paper_network_has_its_size_and_trains() -> None:
    with torch.device("meta"):
        full = VdtPaper(VdtPaperConfig())
    assert sum(p.numel() for p in full.parameters()) == PAPER_SIZE
    assert (len(full.blocks), full.config.stride) == (28, 2)

    torch.manual_seed(0)
    model = VdtPaper(VdtPaperConfig(depth=2))
    known, x_t = torch.randn(1, 2, 4, 4, 6), torch.randn(1, 3, 4, 4, 6)
    tau, t = torch.tensor([[0.2, 0.5, 0.9]]), torch.tensor([0.7])
    out = model(x_t, known, tau, t)
    assert out.shape == x_t.shape
    assert not out.any()  # the head starts at zero
    (out - x_t).square().mean().backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    out = model(x_t, known, tau, t)
    assert out.isfinite().all()
    order = torch.tensor([2, 0, 1])
    assert _close(model(x_t[:, order], known, tau[:, order], t), out[:, order])
    for changed in ((x_t + 1, known, tau, t), (x_t, known + 1, tau, t), (x_t, known, tau * 0.9, t)):
        assert (model(*changed) - out).abs().max() > 1e-4


def test_paper_patches_are_put_back_in_place() -> None:
    """The head's output for a token fills that token's patch: rows, columns and channels are told apart."""
    model = VdtPaper(VdtPaperConfig(depth=0, width=16, heads=1))
    with torch.no_grad():
        model.head.bias.copy_(torch.arange(16.0))  # (row, column, channel) of the patch
    found = model(torch.zeros(1, 1, 4, 6, 8), torch.zeros(1, 2, 4, 6, 8), torch.full((1, 1), 0.5), torch.ones(1))
    channel, row, column = torch.meshgrid(*(torch.arange(n) for n in (4, 6, 8)), indexing="ij")
    assert torch.equal(found[0, 0], 8.0 * (row % 2) + 4 * (column % 2) + channel)

    with torch.no_grad():
        model.head.weight.normal_(generator=torch.Generator().manual_seed(0))
    frame = torch.zeros(1, 1, 4, 6, 8)
    changed = frame.clone()
    changed[0, 0, 2, 3, 5] = 1.0
    still, tau, t = torch.zeros(1, 2, 4, 6, 8), torch.full((1, 1), 0.5), torch.ones(1)
    touched = (model(changed, still, tau, t) != model(frame, still, tau, t))[0, 0].any(0)
    assert touched.nonzero().tolist() == [[2, 4], [2, 5], [3, 4], [3, 5]]


def test_attention_is_torch_attention() -> None:
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(12, 3, batch_first=True).eval()
    x = torch.randn(5, 7, 12)
    wanted, _ = theirs(x, x, x, need_weights=False)
    qkv = nn.functional.linear(x, theirs.in_proj_weight, theirs.in_proj_bias)
    assert _close(theirs.out_proj(attention(qkv, 3)), wanted)
    assert _close(theirs.out_proj(attention(qkv, 3, torch.zeros(1))), wanted)
    two = attention(torch.stack([qkv, qkv]), 3)  # any number of leading axes
    assert _close(two[1], attention(qkv, 3))


def test_whole_attention_takes_the_places_of_a_frame() -> None:
    qkv = torch.randn(2, 3, 4, 5, 36, generator=torch.Generator().manual_seed(0))
    found = Whole()(qkv, 2)
    assert found.shape == (2, 3, 4, 5, 12)
    assert _close(found[1, 2].flatten(0, 1), attention(qkv[1, 2].flatten(0, 1), 2))


def _windows(offset: int, heads: int = 2) -> Windows:
    windows = Windows(heads, 4, offset)
    nn.init.normal_(windows.bias, generator=torch.Generator().manual_seed(5))
    return windows


@pytest.mark.parametrize(("offset", "y", "x"), [(0, 4, 8), (0, 5, 3), (2, 4, 8), (2, 7, 5), (2, 1, 2)])
def test_windows_are_attention_within_squares(offset: int, y: int, x: int) -> None:
    """Against one attention over the frame, with a mask of who shares a square and the bias by relative place."""
    windows = _windows(offset)
    qkv = torch.randn(1, 2, y, x, 24, generator=torch.Generator().manual_seed(y))
    place = torch.stack(torch.meshgrid(torch.arange(y), torch.arange(x), indexing="ij"), -1).flatten(0, 1)
    square = (place + offset) // 4
    together = (square[:, None] == square).all(-1)
    step = (place[:, None] - place).clamp(-3, 3) + 3
    bias = windows.bias.unflatten(1, (7, 7))[:, step[..., 0], step[..., 1]]
    bias = torch.where(together, bias, torch.tensor(-math.inf))
    wanted = attention(qkv.flatten(2, 3), 2, bias).reshape(1, 2, y, x, 8)
    assert _close(windows(qkv, 2), wanted)


def test_windows_know_relative_places_alone() -> None:
    """What a crop sees is what the whole matrix sees there: training on crops carries over."""
    qkv = torch.randn(1, 1, 12, 12, 24, generator=torch.Generator().manual_seed(2))
    windows = _windows(0)
    assert _close(windows(qkv, 2)[:, :, 4:8, 8:12], windows(qkv[:, :, 4:8, 8:12], 2))


def test_window_bias_starts_nearest_first() -> None:
    bias = Windows(3, 4, 0).bias.unflatten(1, (7, 7)).detach()
    assert torch.equal(bias[:, 3, 3], torch.zeros(3))
    assert torch.equal(bias, bias.flip(1, 2))
    assert torch.allclose(bias[:, 3, 4], torch.tensor([-0.5, -0.25, -0.125]))
    assert torch.allclose(bias[0, 3, 3:], -0.5 * torch.arange(4))


def test_blocks_of_the_small_network_shift_by_turns() -> None:
    assert [block.area.offset for block in Vdt(VdtConfig(depth=4, width=24, heads=2)).blocks] == [0, 4, 0, 4]


def test_block_attends_across_frames_at_each_place() -> None:
    """With its modulated branches shut, a place learns of the other frames at the same place and of nothing else."""
    torch.manual_seed(0)
    block = VdtBlock(24, 2, 16, Whole())
    tokens, condition = torch.randn(1, 3, 4, 5, 24), torch.randn(1, 3, 16)
    changed = tokens.clone()
    changed[0, 1, 2, 3] += torch.randn(24)
    effect = (block(changed, condition) - block(tokens, condition)).abs().amax((0, 4))
    wanted = torch.zeros(3, 4, 5, dtype=torch.bool)
    wanted[:, 2, 3] = True
    assert torch.equal(effect > 1e-6, wanted)


def test_decoder_doubles_the_matrix_and_uses_both_known_frames() -> None:
    torch.manual_seed(0)
    decoder = Decoder(6, 4, 16, n_blocks=1)
    h, skips, e = torch.randn(4, 6, 3, 5), torch.randn(2, 4, 4, 6, 10), torch.randn(4, 16)
    out = decoder(h, skips, e)
    assert out.shape == (4, 4, 6, 10)
    for frame in (0, 1):
        changed = skips.clone()
        changed[0, frame] += 1
        effect = (decoder(h, changed, e) - out).abs().amax((1, 2, 3))
        assert (effect[:2] > 1e-4).all()  # both frames between of the first series
        assert (effect[2:] == 0).all()


def test_modulation_is_of_the_normed_tokens() -> None:
    tokens = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(3)) * 5 + 2
    normed = modulate(tokens, torch.zeros(1), torch.zeros(1))
    assert _close(normed.mean(-1), torch.zeros(2, 3))
    assert torch.allclose(normed.std(-1, unbiased=False), torch.ones(2, 3), atol=1e-4)
    assert _close(modulate(tokens, torch.tensor(3.0), torch.tensor(1.0)), 2 * normed + 3)


def test_sinusoids() -> None:
    position = torch.tensor([[0.0, 1.5], [3.0, 7.0]])
    found = sinusoids(position, 8)
    assert found.shape == (2, 2, 8)
    assert torch.allclose(found[..., 0], position.sin(), atol=1e-6)
    assert torch.allclose(found[..., 4], position.cos(), atol=1e-6)
    assert torch.allclose(found[..., 7], (position * 1e-3).cos(), atol=1e-6)
    grid = place_embedding(3, 4, 16, found)
    assert grid.shape == (3, 4, 16)
    assert len({tuple(v.tolist()) for v in grid.flatten(0, 1).round(decimals=4)}) == 12  # every place is its own
    assert torch.equal(grid[1, :, :8], grid[1, :1, :8].expand(4, -1))  # half of it is the row
    assert torch.equal(grid[:, 2, 8:], grid[:1, 2, 8:].expand(3, -1))  # and half the column


def test_tau_terms_tell_the_ends_apart() -> None:
    found = tau_terms(torch.tensor([0.0, 0.5, 1.0]))
    assert found.shape == (3, 10)
    assert found[:, 0].tolist() == pytest.approx([0, math.sqrt(0.5), 1], abs=1e-6)
    assert found[:, 5].tolist() == pytest.approx([1, math.sqrt(0.5), 0], abs=1e-6)


@pytest.fixture(scope="module")
def short() -> Vdt:
    """One block, whose windows are shifted: an export takes seconds."""
    model = _model(replace(TINY, depth=1))
    model.blocks[0].area.offset = 2
    return model


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory, short: Vdt) -> Path:
    """One graph for any number of series and frames."""
    path = tmp_path_factory.mktemp("onnx") / "vdt.onnx"
    batch, n = (torch.export.Dim(name, min=1, max=64) for name in ("batch", "frames"))
    shapes: dict[str, Any] = {name: {0: batch, 1: n} for name in ("x_t", "base", "bend", "tau")}
    shapes |= {name: {0: batch} for name in ("known", "t")}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it tells of every package that is not installed
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
        warnings.filterwarnings("ignore", "# The axis name", UserWarning)
        program = torch.onnx.export(
            short, kwargs=_inputs(), dynamo=True, opset_version=20, input_names=list(INPUTS),
            dynamic_shapes=shapes, verbose=False,
        )  # fmt: skip
    assert program is not None
    program.save(path)
    return path


def test_graph_is_of_plain_operations(graph: Path) -> None:
    found = onnx.load(graph)
    onnx.checker.check_model(found, full_check=True)
    assert not found.functions
    assert not {node.op_type for node in found.graph.node} & {"Loop", "Scan", "If", "ScatterND", "Einsum", "Trilu"}


@pytest.mark.parametrize(("batch", "n"), [(2, 3), (1, 1), (1, 6)])
def test_engines_agree_with_torch(graph: Path, short: Vdt, batch: int, n: int) -> None:
    inputs = _inputs(n, batch=batch)
    with torch.inference_mode():
        wanted = short(**inputs).numpy()
    feed = {k: v.numpy() for k, v in inputs.items()}
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    assert np.abs(session.run(None, feed)[0] - wanted).max() < F32 * np.abs(wanted).max()

    core = openvino.Core()
    read = core.read_model(graph)
    read.reshape({k: list(v.shape) for k, v in feed.items()})
    for precision, tolerance in (("f32", F32), ("bf16", BF16)):
        if precision == "bf16" and best_precision(core) != "bf16":
            continue
        compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": precision})
        assert np.abs(compiled(feed)[0] - wanted).max() < tolerance * np.abs(wanted).max(), precision
