"""Where what can be made again is kept for the next process: TensorRT plans, the list of fonts for figures."""

import os
from pathlib import Path


def cache_path(name: str) -> Path | None:
    """``name`` below $CMRSR_CACHE, else below cmrsr in the user's cache folder, which need not exist; None: no cache.

    An empty $CMRSR_CACHE switches caching off.
    """
    root = os.environ.get("CMRSR_CACHE")
    if root == "":
        return None
    try:
        base = Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cmrsr"
    except RuntimeError:  # no home
        return None
    return base / name


def cache_folder(name: str) -> Path | None:
    """The folder of ``cache_path``, made where it is missing; None where there is none.

    It may be read-only, as in a container that was delivered with plans.
    """
    folder = cache_path(name)
    if folder is None:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.R_OK | os.X_OK) else None
