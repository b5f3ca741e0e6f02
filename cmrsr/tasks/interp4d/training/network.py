"""The networks of ``interp4d`` by their names in recipes."""

from cmrsr.networks.build import build
from cmrsr.tasks.interp4d.training.mamba_volume import MambaVolume, MambaVolumeConfig
from cmrsr.tasks.interp4d.training.recipe import ClipModel, LatentClipModel, VolumeModel
from cmrsr.tasks.interp4d.training.vdt import Vdt, VdtConfig, VdtPaper, VdtPaperConfig

NETWORKS = {
    "tssc-s": (Vdt, VdtConfig),
    "tssc-paper": (VdtPaper, VdtPaperConfig),
    "tssc-s-volume": (MambaVolume, MambaVolumeConfig),
}


def build_network(model: ClipModel | LatentClipModel | VolumeModel) -> Vdt | VdtPaper | MambaVolume:
    """With new weights."""
    network: Vdt | VdtPaper | MambaVolume = build(model.model_dump(), NETWORKS)
    return network
