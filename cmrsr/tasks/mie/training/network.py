"""The network of ``mie`` by its names in recipes."""

from cmrsr.networks.build import build
from cmrsr.tasks.mie.training.cpkdm import Cpkdm, CpkdmConfig
from cmrsr.tasks.mie.training.recipe import CpkdmModel, CpkdmPaperModel

NETWORKS = {"cpkdm-s": (Cpkdm, CpkdmConfig), "cpkdm-paper": (Cpkdm, CpkdmConfig)}


def build_network(model: CpkdmModel | CpkdmPaperModel) -> Cpkdm:
    """With new weights."""
    network: Cpkdm = build(model.model_dump(), NETWORKS)
    return network
