"""The network of ``function`` by its names in recipes."""

from cmrsr.networks.build import build
from cmrsr.tasks.function.training.causal import Causal, CausalConfig
from cmrsr.tasks.function.training.recipe import CausalModel, CausalPaperModel

NETWORKS = {"causal-s": (Causal, CausalConfig), "causal-paper": (Causal, CausalConfig)}


def build_network(model: CausalModel | CausalPaperModel) -> Causal:
    """With new weights."""
    network: Causal = build(model.model_dump(), NETWORKS)
    return network
