"""The networks of ``sr`` by their names in recipes."""

from cmrsr.networks.build import build
from cmrsr.networks.perfgen import PerfGen, PerfGenConfig
from cmrsr.networks.sr3 import SR3, SR3Config
from cmrsr.tasks.sr.training.recipe import PaperModel, SmallModel

NETWORKS = {"perfgen-s": (PerfGen, PerfGenConfig), "perfgen-paper": (SR3, SR3Config)}


def build_network(model: SmallModel | PaperModel) -> PerfGen | SR3:
    """With new weights."""
    network: PerfGen | SR3 = build(model.model_dump(), NETWORKS)
    return network
