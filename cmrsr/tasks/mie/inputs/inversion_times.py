"""The inversion times of a T1 series: those of its files, or those that the user names."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cmrsr.errors import UnusableError, UsageError
from cmrsr.io.series import Series


def has_inversion_times(series: Series) -> bool:
    """Whether the files give them."""
    return series.kind == "t1" and series.times_ms is not None


def with_inversion_times(series: Series, ti_ms: Sequence[float]) -> Series:
    """The same images as a T1 series with these inversion times, ms, one for each image in their order.

    UsageError: not as many as there are images, or not finite and above 0.
    """
    given = ",".join(f"{t:g}" for t in ti_ms)
    if len(ti_ms) != series.n_frames:
        raise UsageError(
            f"--ti {given} names {len(ti_ms)} inversion times, {series.source.name} has {series.n_frames} images a "
            "slice: expected one for each"
        )
    times = np.array(ti_ms, np.float64)
    if not (np.isfinite(times).all() and times.min() > 0):
        raise UsageError(f"--ti {given}: expected times above 0 ms")
    return replace(series, kind="t1", times_ms=times)


def no_inversion_times(series: Series) -> UnusableError:
    """What to tell the user where neither files nor options give any."""
    how = "its DICOM headers hold none" if series.source.format == "dicom" else "no sidecar (JSON, BIDS) lists them"
    return UnusableError(
        f"{series.source.name}: the inversion times of its {series.n_frames} images are not known, {how}; name them in "
        "ms in the order of the images, for instance --ti 100,180,260,1000,1900,2800,3700,4600"
    )
