import logging
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from torch import Tensor, nn

from cmrsr.runtime.open_vino import best_precision
from cmrsr.tasks.interp4d.training.mamba_volume import (
    ORDERS,
    ConvMixer,
    MambaVolume,
    MambaVolumeConfig,
    TriDirectional,
    VolumeBlock,
    haar,
    scans,
    total_variation,
    unscan,
    wavelet_loss,
)

TINY = MambaVolumeConfig(detail=8, width=16, n_blocks=1, n_state=4, head=16, chunk=8)
CONV = replace(TINY, mixer="conv")
F32 = 1e-4  # relative: parity of float32 engines
BF16 = 3e-2  # relative: eight bits of mantissa
LOOPS = {"Loop", "Scan", "If", "CumSum", "ScatterND", "ScatterElements", "Einsum", "Trilu"}


def _model(config: MambaVolumeConfig = TINY) -> MambaVolume:
    """A network as after some training: the mixers' out-projections, zero at first, are not."""
    torch.manual_seed(0)
    model = MambaVolume(config).eval()
    for module in model.modules():
        if isinstance(module, TriDirectional | ConvMixer):
            layer = module.ssd.outward if isinstance(module, TriDirectional) else module.outward
            nn.init.normal_(layer.matrix, std=0.3)
    return model


def _volume(z: int = 3, y: int = 16, x: int = 24, batch: int = 2) -> Tensor:
    return torch.randn(batch, TINY.channels, z, y, x, generator=torch.Generator().manual_seed(1))


def _correction(model: MambaVolume, volume: Tensor) -> Tensor:
    out: Tensor = model(volume) - volume[:, :1]
    return out


@pytest.mark.parametrize("mixer", ["mamba", "conv"])
@pytest.mark.parametrize(("stride", "z", "y", "x"), [(4, 1, 4, 4), (4, 5, 12, 20), (8, 2, 8, 24), (2, 3, 2, 6)])
def test_any_multiple_of_the_stride_and_any_number_of_slices(mixer: str, stride: int, z: int, y: int, x: int) -> None:
    model = _model(replace(TINY, stride=stride, mixer=mixer))  # type: ignore[arg-type]
    assert model(_volume(z, y, x)).shape == (2, 1, z, y, x)


def test_other_sizes_are_not_for_it() -> None:
    for y, x in ((18, 16), (16, 7)):
        with pytest.raises(RuntimeError):
            _model()(_volume(2, y, x))


def test_bad_configurations() -> None:
    with pytest.raises(ValueError, match="stride 3: expected 2, 4 or 8"):
        MambaVolumeConfig(stride=3)
    with pytest.raises(ValueError, match="mixer 'gru': expected mamba or conv"):
        MambaVolumeConfig(mixer="gru")  # type: ignore[arg-type]


def test_it_starts_near_the_frame_it_corrects() -> None:
    torch.manual_seed(0)
    volume = _volume()
    correction = _correction(MambaVolume(TINY), volume)
    assert 0 < correction.std() < 0.1 * volume.std()


@pytest.mark.parametrize("order", ORDERS)
def test_a_scan_order_runs_along_its_axes(order: tuple[int, int, int]) -> None:
    """The token numbered by its place in an order is at that place of the order's scan."""
    z, y, x = sizes = (2, 3, 5)
    place = torch.stack(torch.meshgrid(*(torch.arange(n) for n in sizes), indexing="ij"), -1)
    slow, middle, fast = order
    number = (place[..., slow] * sizes[middle] + place[..., middle]) * sizes[fast] + place[..., fast]
    sequences = scans(number[None, ..., None])
    i = ORDERS.index(order)
    assert sequences.shape == (6, 1, z * y * x, 1)
    assert sequences[i].flatten().tolist() == list(range(30))
    assert sequences[i + 3].flatten().tolist() == list(range(30))[::-1]


def test_each_axis_is_the_fastest_of_one_order() -> None:
    assert sorted(order[2] for order in ORDERS) == [0, 1, 2]
    assert all(sorted(order) == [0, 1, 2] for order in ORDERS)


@pytest.mark.parametrize("shape", [(2, 2, 3, 4, 5), (1, 4, 4, 4, 4), (1, 1, 3, 2, 7)])
def test_every_scan_is_undone_in_its_own_place(shape: tuple[int, ...]) -> None:
    """An identity in the place of the mixer returns the input, for each direction alone too."""
    volume = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    sequences = scans(volume)
    assert torch.allclose(unscan(sequences, volume.shape), volume, atol=1e-6)
    for i in range(6):
        alone = torch.zeros_like(sequences)
        alone[i] = sequences[i]
        assert torch.allclose(6 * unscan(alone, volume.shape), volume, atol=1e-6)


def test_output_varies_with_position_slice_and_condition() -> None:
    """The public code permuted channels in the place of tokens: its branches were constant in space."""
    model, volume = _model(), _volume()
    correction = _correction(model, volume)
    for axis in (2, 3, 4):
        assert correction.std(axis).min() > 1e-4
    mixed = model.blocks[0].mixer(torch.randn(1, 3, 4, 6, 16))
    assert all(mixed.std(axis).min() > 1e-4 for axis in (1, 2, 3))
    for channel in range(1, TINY.channels):
        changed = volume.clone()
        changed[:, channel] += 1
        assert (_correction(model, changed) - correction).abs().max() > 1e-4


@pytest.mark.parametrize(("config", "whole"), [(TINY, True), (CONV, False)])
def test_influence_reaches_the_whole_volume_through_scans_alone(config: MambaVolumeConfig, whole: bool) -> None:
    """By the gradient of one corner, and of a place in the middle, with respect to every token's voxels."""
    model = _model(config)
    for slice_, row, column in ((0, 0, 0), (2, 20, 17)):
        volume = _volume(6, 32, 32, 1).requires_grad_()
        model(volume)[0, 0, slice_, row, column].backward()
        assert volume.grad is not None
        reach = volume.grad.abs()[0].unflatten(2, (8, 4)).unflatten(4, (8, 4)).amax((0, 3, 5)) > 0  # (z, 8, 8)
        assert reach[slice_, row // 4, column // 4]
        assert bool(reach.all()) == whole
        if not whole:
            assert not reach[slice_ + 2 :].any()  # one 3-D convolution reaches one slice


def test_volumes_of_a_batch_do_not_meet() -> None:
    model, volume = _model(), _volume()
    whole = model(volume)
    for i in (0, 1):
        assert torch.allclose(model(volume[i : i + 1]), whole[i : i + 1], atol=1e-5)


@pytest.mark.parametrize("config", [MambaVolumeConfig(), TINY, MambaVolumeConfig(width=96, n_blocks=4, n_state=32)])
def test_ablation_is_as_large(config: MambaVolumeConfig) -> None:
    sizes = []
    with torch.device("meta"):
        for mixer in ("mamba", "conv"):
            model = MambaVolume(replace(config, mixer=mixer))  # type: ignore[arg-type]
            sizes.append(sum(p.numel() for p in model.parameters()))
    assert sizes[1] == pytest.approx(sizes[0], rel=0.03)


@pytest.mark.parametrize("config", [TINY, CONV])
@pytest.mark.parametrize("loss", ["mse", "wavelet", "variation"])
def test_every_loss_term_trains_every_parameter(config: MambaVolumeConfig, loss: str) -> None:
    """The wavelet loss of the public code was detached. The mixers learn from the second step on, not before."""
    torch.manual_seed(0)
    model = MambaVolume(config)
    volume, target = _volume(), _volume()[:, :1].roll(1, -1)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(2):
        optimiser.zero_grad()
        out = model(volume)
        terms = {
            "mse": (out - target).square().mean(),
            "wavelet": wavelet_loss(out, target),
            "variation": total_variation(out),
        }
        terms[loss].backward()
        optimiser.step()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_muon_finds_its_matrices() -> None:
    named = dict(MambaVolume(MambaVolumeConfig()).named_parameters())
    matrices = [p for name, p in named.items() if name.endswith(".matrix")]
    assert all(p.ndim == 2 for p in matrices)
    assert sum(p.numel() for p in matrices) > 0.7 * sum(p.numel() for p in named.values())


def test_blocks_are_residual() -> None:
    torch.manual_seed(0)
    block, tokens = VolumeBlock(TINY), torch.randn(1, 2, 3, 4, 16)
    nn.init.zeros_(block.second.matrix)
    assert torch.equal(block(tokens), tokens)


def test_haar_keeps_energy_and_knows_its_bands() -> None:
    image = torch.randn(2, 8, 12, generator=torch.Generator().manual_seed(3))
    bands = haar(image)
    assert sum(float(b.square().sum()) for b in bands) == pytest.approx(float(image.square().sum()), rel=1e-5)
    stripes = torch.tensor([1.0, -1.0]).repeat(4)
    for band, pattern in enumerate([torch.ones(8, 8), stripes.expand(8, 8), stripes[:, None].expand(8, 8)]):
        found = haar(pattern)
        assert torch.equal(found[band].abs(), torch.full((4, 4), 2.0))
        assert all(not found[i].any() for i in range(4) if i != band)
    assert [tuple(b.shape) for b in haar(torch.zeros(5, 7))] == [(2, 3)] * 4


def test_wavelet_loss() -> None:
    a = torch.randn(1, 1, 3, 16, 16, generator=torch.Generator().manual_seed(4))
    assert wavelet_loss(a, a) == 0
    # a constant difference d is in the approximation alone: 4 d after two levels, one band of seven
    assert wavelet_loss(a + 0.5, a) == pytest.approx(4 * 0.5 / 7, rel=1e-4)
    assert wavelet_loss(a + 0.5, a, n_levels=1) == pytest.approx(2 * 0.5 / 4, rel=1e-4)
    assert wavelet_loss(a, -a) == pytest.approx(float(wavelet_loss(-a, a)))


def test_total_variation() -> None:
    ramp = torch.arange(4.0)[:, None, None] + 2 * torch.arange(5.0)[:, None] + 3 * torch.arange(6.0)
    assert total_variation(ramp) == pytest.approx(1 + 2 + 3)
    assert total_variation(ramp[:2]) == pytest.approx(1 + 2 + 3)
    assert total_variation(ramp[:1]) == pytest.approx(2 + 3)
    assert total_variation(torch.ones(1, 1, 4, 5, 6)) == 0
    assert total_variation(torch.ones(1, 1, 1, requires_grad=True)).requires_grad


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One graph for any number of volumes and slices."""
    path = tmp_path_factory.mktemp("onnx") / "volume.onnx"
    dim = torch.export.Dim
    shape = {0: dim("batch", min=1, max=64), 2: dim("slices", min=1, max=64)}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it tells of every package that is not installed
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
        program = torch.onnx.export(
            _model(), (_volume(3, 52, 40),), dynamo=True, opset_version=20, dynamic_shapes=(shape,), verbose=False
        )
    assert program is not None
    program.save(path)
    return path


def test_graph_is_of_plain_operations(graph: Path) -> None:
    model = onnx.load(graph)
    onnx.checker.check_model(model, full_check=True)
    assert not model.functions
    assert not {node.op_type for node in model.graph.node} & LOOPS


# 130 tokens a slice in chunks of 8: five slices are more chunks than one matrix takes
@pytest.mark.parametrize(("batch", "z"), [(2, 1), (1, 3), (1, 5)])
def test_engines_agree_with_torch(graph: Path, batch: int, z: int) -> None:
    volume = _volume(z, 52, 40, batch)
    with torch.inference_mode():
        wanted = _correction(_model(), volume).numpy()
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: volume.numpy()})[0] - volume[:, :1].numpy()
    assert np.abs(found - wanted).max() < F32 * np.abs(wanted).max()

    core = openvino.Core()
    model = core.read_model(graph)
    model.reshape(list(volume.shape))
    for precision, tolerance in (("f32", F32), ("bf16", BF16)):
        if precision == "bf16" and best_precision(core) != "bf16":
            continue
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision})
        found = compiled([volume.numpy()])[0] - volume[:, :1].numpy()
        assert np.abs(found - wanted).max() < tolerance * np.abs(wanted).max(), precision
