"""Virtual training data, rendered once by all processors and kept on disk as one array."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

OnItem = Callable[[int, int], None] | None  # told (done, total) as data are rendered or read
FULL_SCALE = 65535  # images are stored as uint16 of their own maximum


class VirtualData(Protocol):
    """A data set of virtual patients, a frozen dataclass: item i depends on the set's fields and i alone."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    NAME: ClassVar[str]
    RENDERER: ClassVar[int]  # raised when the phantom changes what it draws, so that old caches are not used

    @property
    def n_items(self) -> int: ...

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Shape of one item's array; the first axis is counted over all items."""

    def render(self, index: int) -> NDArray[Any]: ...


def digest(data: VirtualData) -> str:
    """Names a data set's content."""
    record = json.dumps([data.RENDERER, asdict(data)], sort_keys=True)
    return hashlib.sha256(record.encode()).hexdigest()[:16]


def default_cache() -> Path:
    """``cmrsr`` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cmrsr"


def load(data: VirtualData, cache: Path, on_item: Callable[[int], None] | None = None) -> NDArray[Any]:
    """All items, memory-mapped from ``cache``, (n_items * item_shape[0], ...); rendered first where they are missing.

    ``on_item`` is told how many items are rendered. Under torchrun the first process of each machine renders and the
    others wait for it.
    """
    path = cache / f"{data.NAME}-{digest(data)}.npy"
    while int(os.environ.get("LOCAL_RANK", 0)) > 0 and not path.exists():
        time.sleep(1)
    if not path.exists():
        _render(data, path, on_item)
    images: NDArray[Any] = np.load(path, mmap_mode="r")
    return images


def _render(data: VirtualData, path: Path, on_item: Callable[[int], None] | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")  # another run may be rendering the same
    first, *rest = data.item_shape
    shape = (data.n_items * first, *rest)
    out: np.memmap[Any, Any] | None = None
    try:
        with get_context("spawn").Pool() as pool:
            for i, item in enumerate(pool.imap(data.render, range(data.n_items), chunksize=1)):
                if out is None:
                    out = np.lib.format.open_memmap(partial, mode="w+", dtype=item.dtype, shape=shape)
                out[i * first : (i + 1) * first] = item
                if on_item:
                    on_item(i + 1)
        if out is not None:
            out.flush()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
