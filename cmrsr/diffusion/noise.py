"""Starting noise that depends on what is sampled, not on how the work is cut up."""

import hashlib

import numpy as np
from numpy.typing import NDArray


def keyed_noise(
    seed: int, digest: str, frame: int, plane: int, sample: int, shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Standard normal (y, x), keyed by what is sampled and nothing else: equal for any batch, shard or order."""
    key = hashlib.sha256(f"{seed}/{digest}/{frame}/{plane}/{sample}".encode()).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16], "little")))
    return generator.standard_normal(shape, dtype=np.float32)
