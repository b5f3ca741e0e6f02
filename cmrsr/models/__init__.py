"""Networks by the name that a recipe gives them."""

from typing import Any

from cmrsr.models.perfgen import PerfGen, PerfGenConfig
from cmrsr.models.sr3 import SR3, SR3Config


def build_model(config: dict[str, Any]) -> PerfGen | SR3:
    """The network of a recipe's ``[model]`` table: ``name`` and the fields of that network's configuration."""
    options: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k != "name"}
    if config["name"] == "perfgen-s":
        return PerfGen(PerfGenConfig(**options))
    if config["name"] == "perfgen-paper":
        return SR3(SR3Config(**options))
    raise ValueError(f"unknown model {config['name']!r}, expected perfgen-s or perfgen-paper")
