"""Virtual patients to train on, all of one size, the first of them held out."""

from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from cmrsr.errors import UsageError
from cmrsr.training.cache import OnItem, VirtualData, load


class VirtualPatients(VirtualData, Protocol):
    """A set of virtual patients, each of so many slices and phases of ``crop`` x ``crop`` pixels."""

    @property
    def n_patients(self) -> int: ...
    @property
    def n_slices(self) -> int: ...
    @property
    def n_phases(self) -> int: ...
    @property
    def crop(self) -> int: ...


def rendered(virtual: VirtualPatients, n_validation: int, cache: Path, on_item: OnItem) -> NDArray[Any]:
    """The arrays of all virtual patients, of which the first ``n_validation`` are held out.

    UsageError: that would be all of them.
    """
    total = virtual.n_patients
    if n_validation >= total:
        raise UsageError(f"data.n_validation {n_validation}: expected fewer than the {total} virtual patients")
    return load(virtual, cache, None if on_item is None else lambda done: on_item(done, total))


def described(virtual: VirtualPatients, n_validation: int) -> str:
    """What the set is, in words."""
    return (
        f"{virtual.n_patients} virtual patients, {virtual.n_slices} slices and {virtual.n_phases} phases of each, "
        f"{virtual.crop}x{virtual.crop}; the first {n_validation} are the validation set"
    )
