"""Where what can be made again is kept for the next process: TensorRT plans."""

import os
from pathlib import Path


def cache_folder(name: str) -> Path | None:
    """``name`` below $CMRSR_CACHE, else below cmrsr in the user's cache folder; None where there is none.

    It may be read-only, as in a container that was delivered with plans. An empty $CMRSR_CACHE switches caching off.
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
    return folder if os.access(folder, os.R_OK | os.X_OK) else None
