"""How fast kernels were when TensorRT timed them for earlier plans: a build takes them over instead of timing anew."""

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cmrsr.errors import OutputError
from cmrsr.io.outputs import output_errors, replacing
from cmrsr.runtime.gpu.plan_cache import locked

if TYPE_CHECKING:
    import tensorrt as trt


def timing_path(folder: Path, gpu: str, capability: tuple[int, int], version: str) -> Path:
    """Timings are those of one kind of GPU and one version of TensorRT."""
    kind = hashlib.sha256(f"{gpu} {capability} {version}".encode()).hexdigest()[:32]
    return folder / f"{kind}.timing"


def use_timings(config: "trt.IBuilderConfig", path: Path | None) -> "trt.ITimingCache | None":
    """Give a build the stored timings, or an empty cache where there are none that load."""
    for data in (_read(path), b""):
        cache = config.create_timing_cache(data)
        if cache is not None and config.set_timing_cache(cache, False):
            return cache
    return None


def keep_timings(config: "trt.IBuilderConfig", cache: "trt.ITimingCache | None", path: Path | None) -> None:
    """Add what a build has timed to what is stored by now. It saves time only: what cannot be written is left out."""
    if cache is None or path is None:
        return
    with locked(path.with_suffix(".timing.lock")), suppress(OutputError):
        stored = config.create_timing_cache(_read(path))
        if stored is not None:
            cache.combine(stored, False)
        data = cache.serialize()
        if data is not None:
            with replacing(path) as partial, output_errors(path):
                partial.write_bytes(bytes(data))


def _read(path: Path | None) -> bytes:
    try:
        return path.read_bytes() if path else b""
    except OSError:
        return b""
