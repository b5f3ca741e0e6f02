import pytest
import torch
from torch.testing import assert_close

from cmrsr.tasks.function.training.causal import BLOCK, SCORE_GAIN, Causal, CausalConfig, causal_consistency
from cmrsr.tasks.registry import build_model

TINY = CausalConfig(
    features=6, messages=5, widths=(8, 16), blocks=(1, 1, 1), embedding=16, reader=(8, 8, 8, 8), causal=True
)  # fmt: skip


@pytest.fixture(scope="module")
def model() -> Causal:
    torch.manual_seed(0)
    return Causal(TINY).eval()


def positions(t: int) -> torch.Tensor:
    return (torch.arange(t) / t)[None]


def test_the_graph_is_that_of_equation_1(model: Causal) -> None:
    x = torch.randn(1, 4, TINY.features)
    graph = model.encoder.graph(x, positions(4))
    w, b, a = model.encoder.message.weight, model.encoder.message.bias, model.encoder.score.weight[0]
    whole = torch.zeros(TINY.messages)
    for i in range(4):
        messages = [torch.relu(w @ torch.cat([x[0, i], x[0, j]]) + b) for j in range(4)]
        scores = SCORE_GAIN * torch.stack([a @ m for m in messages])
        alpha = scores.softmax(0)
        assert_close(graph.alpha[0, i], alpha)
        whole = whole + sum(alpha[j] * messages[j] for j in range(4))
    assert_close(graph.whole[0], whole / 4)


@pytest.mark.parametrize("t", [1, 2, 7, 25])
def test_the_rows_of_alpha_sum_to_one(model: Causal, t: int) -> None:
    graph = model.encoder.graph(torch.randn(3, t, TINY.features), positions(t).expand(3, -1))
    assert_close(graph.alpha.sum(-1), torch.ones(3, t))
    assert graph.alpha.min() >= 0
    assert graph.context.shape == (3, t, TINY.context)


def test_the_graph_of_a_still_heart_is_uniform_and_that_of_a_beating_one_is_not(model: Causal) -> None:
    still = model.encoder.frame(torch.rand(1, 1, 32, 32)).expand(6, -1)[None]
    assert_close(model.encoder.graph(still, positions(6)).alpha, torch.full((1, 6, 6), 1 / 6))
    beating = model.encoder.frame(torch.linspace(0, 4, 6)[:, None, None, None] * torch.rand(6, 1, 32, 32))[None]
    assert (model.encoder.graph(10 * beating, positions(6)).alpha - 1 / 6).abs().max() > 1e-3


def test_the_consistency_is_zero_for_equal_graphs_and_has_a_gradient(model: Causal) -> None:
    assert_close(causal_consistency(torch.full((2, 5, 5), 0.2)), torch.tensor(0.0))
    a, b = torch.tensor([0.7, 0.3]), torch.tensor([0.2, 0.8])
    wanted = ((a * (a / b).log()).sum() + (b * (b / a).log()).sum()) / 2
    assert_close(causal_consistency(torch.stack([a, b])[None]), wanted)
    model.zero_grad()
    x = torch.randn(1, 4, TINY.features)
    causal_consistency(model.encoder.graph(x, positions(4)).alpha).backward()
    assert model.encoder.score.weight.grad is not None
    assert model.encoder.score.weight.grad.abs().max() > 0
    assert model.encoder.message.weight.grad is not None


def test_without_the_encoder_the_context_is_the_position_in_the_beat() -> None:
    plain = Causal(CausalConfig(**{**{k: getattr(TINY, k) for k in TINY.__slots__}, "causal": False}))
    first, second = (plain.encoder.graph(torch.randn(1, 3, TINY.features), positions(3)) for _ in range(2))
    assert_close(first.context, second.context)
    assert first.context.abs().max() > 0
    assert first.whole.abs().max() == 0


def test_a_frame_is_denoised_on_its_own_until_the_context_is_learnt(model: Causal) -> None:
    x, lr, t = torch.randn(2, 1, 16, 16), torch.rand(2, 1, 16, 16), torch.tensor([1.0, 0.3])
    told = torch.randn(2, TINY.context)
    plain = model.denoiser.unet(x, lr, t)
    assert_close(model.denoiser(x, lr, told, t), plain)
    torch.nn.init.normal_(model.denoiser.context.weight)
    assert (model.denoiser(x, lr, told, t) - plain).abs().max() > 1e-3
    torch.nn.init.zeros_(model.denoiser.context.weight)


def test_the_decoder_reads_any_window(model: Causal) -> None:
    for y, x in ((BLOCK, 2 * BLOCK), (48, 48)):
        reading = model.decoder(torch.rand(2, 1, y, x), torch.randn(2, TINY.context))
        assert reading.logits.shape == (2, 4, y, x)
        assert reading.areas.shape == (2, 3)
        assert 0 <= reading.areas.min() <= reading.areas.max() <= y * x


def test_a_smaller_ejection_fraction_can_only_look_worse_if_the_weight_says_so(model: Causal) -> None:
    whole = torch.rand(1, TINY.messages)
    low, high = (model.decoder.abnormality(whole, torch.tensor([ef])) for ef in (0.2, 0.7))
    sign = model.decoder.abnormal.weight[0, -1].sign()
    assert (low - high).sign() == sign


def test_the_model_of_the_paper_predicts_noise_with_the_unet_of_sr3() -> None:
    paper = build_model({
        "name": "causal-paper", "features": 8, "messages": 8, "base": 32, "multipliers": [1, 2],
        "reader": [8, 8, 8, 8], "causal": True,
    })  # fmt: skip
    assert isinstance(paper, Causal)
    out = paper.denoiser(
        torch.randn(2, 1, 16, 16), torch.rand(2, 1, 16, 16), torch.randn(2, paper.config.context), torch.rand(2)
    )
    assert out.shape == (2, 1, 16, 16)


def test_areas_are_counted_in_the_middle_of_a_window() -> None:
    """What lies beyond the crop of training adds nothing, whatever the decoder makes of it."""
    model = Causal(TINY)
    told = torch.zeros(1, TINY.context)
    with torch.no_grad():
        model.decoder.density.weight.zero_()
        for size, counted in ((96, 96), (128, 96), (64, 64)):
            areas = model.decoder(torch.rand(1, 1, size, size), told).areas
            assert_close(areas / torch.sigmoid(model.decoder.density.bias), torch.full((1, 3), float(counted**2)))


def test_a_reading_does_not_depend_on_where_a_series_begins() -> None:
    """Equal images of a still heart are read alike: the decoder is not told their position in the beat."""
    model = Causal(TINY).eval()
    nodes = torch.randn(1, 1, TINY.features).expand(-1, 4, -1)
    graph = model.encoder.graph(nodes, positions(4))
    assert (graph.context[0, 0] - graph.context[0, 1]).abs().max() > 0.1
    image = torch.rand(1, 1, 32, 32).expand(4, -1, -1, -1)
    logits = model.decoder(image, graph.context[0]).logits
    assert_close(logits, logits[:1].expand(4, -1, -1, -1))
