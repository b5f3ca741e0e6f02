"""cmrsr: super-resolution of cardiac MR by few-step diffusion. Research software, not a medical device."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cmrsr import no_telemetry as no_telemetry
from cmrsr.version import __version__

if TYPE_CHECKING:
    from cmrsr.io.series import Series
    from cmrsr.runtime.choice import DeviceChoice
    from cmrsr.tasks.function.plan import FunctionOptions
    from cmrsr.tasks.function.run import measure_function
    from cmrsr.tasks.interp4d.plan import InterpOptions
    from cmrsr.tasks.interp4d.run import interpolate
    from cmrsr.tasks.mie.plan import MieOptions
    from cmrsr.tasks.mie.run import enhance
    from cmrsr.tasks.sr.plan import SrOptions
    from cmrsr.tasks.sr.run import super_resolve

__all__ = [
    "DeviceChoice", "FunctionOptions", "InterpOptions", "MieOptions", "Series", "SrOptions", "__version__", "enhance",
    "interpolate", "measure_function", "super_resolve",
]  # fmt: skip

_HOME = {
    "DeviceChoice": "cmrsr.runtime.choice",
    "FunctionOptions": "cmrsr.tasks.function.plan",
    "InterpOptions": "cmrsr.tasks.interp4d.plan",
    "MieOptions": "cmrsr.tasks.mie.plan",
    "Series": "cmrsr.io.series",
    "SrOptions": "cmrsr.tasks.sr.plan",
    "enhance": "cmrsr.tasks.mie.run",
    "interpolate": "cmrsr.tasks.interp4d.run",
    "measure_function": "cmrsr.tasks.function.run",
    "super_resolve": "cmrsr.tasks.sr.run",
}


def __getattr__(name: str) -> Any:
    """Load the public names on first use, so that ``import cmrsr`` and ``cmrsr --help`` stay quick."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'cmrsr' has no attribute {name!r}")
