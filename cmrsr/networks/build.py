"""Networks by the name that a recipe gives them."""

from collections.abc import Mapping
from typing import Any


def build(config: Mapping[str, Any], known: Mapping[str, tuple[Any, Any]]) -> Any:
    """The network of a recipe's ``[model]`` table: ``name`` and the fields of that network's configuration.

    known: network and configuration by name. ValueError: it is none of them.
    """
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k != "name"}
    if config["name"] not in known:
        raise ValueError(f"unknown model {config['name']!r}, expected {', '.join(known)}")
    network, options_of = known[config["name"]]
    return network(options_of(**options))
