"""Where matplotlib keeps its list of fonts while a command runs: in our cache, never in folders of its own."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from cmrsr.runtime.gpu.cache_folder import cache_path

VARIABLE = "MPLCONFIGDIR"


@contextmanager
def font_cache() -> Iterator[None]:
    """Name the folder to matplotlib before it is imported; it is made only if a figure is drawn.

    A folder that the user named stays. Where there is no cache, or it cannot be written, it is a temporary one.
    """
    if VARIABLE in os.environ or "matplotlib" in sys.modules:
        yield
        return
    folder = cache_path("matplotlib")
    with ExitStack() as after:
        if folder is None or not _writable(folder):
            folder = Path(after.enter_context(TemporaryDirectory(prefix="cmrsr-", ignore_cleanup_errors=True)))
        os.environ[VARIABLE] = str(folder)
        after.callback(os.environ.pop, VARIABLE, None)
        yield


def _writable(folder: Path) -> bool:
    """Whether it can be written, or made."""
    there = next((each for each in (folder, *folder.parents) if each.exists()), None)
    return there is not None and there.is_dir() and os.access(there, os.W_OK | os.X_OK)
