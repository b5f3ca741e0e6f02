"""Networks by the name that a recipe gives them."""

from typing import Any

from cmrsr.models.causal import Causal, CausalConfig
from cmrsr.models.cpkdm import Cpkdm, CpkdmConfig
from cmrsr.models.mamba_volume import MambaVolume, MambaVolumeConfig
from cmrsr.models.perfgen import PerfGen, PerfGenConfig
from cmrsr.models.sr3 import SR3, SR3Config
from cmrsr.models.vdt import Vdt, VdtConfig, VdtPaper, VdtPaperConfig

Model = PerfGen | SR3 | Vdt | VdtPaper | MambaVolume | Causal | Cpkdm
_MODELS: dict[str, tuple[Any, Any]] = {
    "perfgen-s": (PerfGen, PerfGenConfig),
    "perfgen-paper": (SR3, SR3Config),
    "tssc-s": (Vdt, VdtConfig),
    "tssc-paper": (VdtPaper, VdtPaperConfig),
    "tssc-s-volume": (MambaVolume, MambaVolumeConfig),
    "causal-s": (Causal, CausalConfig),
    "causal-paper": (Causal, CausalConfig),
    "cpkdm-s": (Cpkdm, CpkdmConfig),
    "cpkdm-paper": (Cpkdm, CpkdmConfig),
}


def build_model(config: dict[str, Any]) -> Model:
    """The network of a recipe's ``[model]`` table: ``name`` and the fields of that network's configuration."""
    options: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k != "name"}
    if config["name"] not in _MODELS:
        raise ValueError(f"unknown model {config['name']!r}, expected {', '.join(_MODELS)}")
    network, options_of = _MODELS[config["name"]]
    model: Model = network(options_of(**options))
    return model
