"""Where what can be made again is kept for the next process: compiled models, TensorRT plans."""

import os
from pathlib import Path


def cache_folder(name: str) -> Path | None:
    """``name`` below $CMRSR_CACHE, else below cmrsr in the user's cache folder; None where nothing can be written.

    An empty $CMRSR_CACHE switches caching off.
    """
    root = os.environ.get("CMRSR_CACHE")
    if root == "":
        return None
    try:
        base = Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cmrsr"
        folder = base / name
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: no home
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None
