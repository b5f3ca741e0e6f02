"""Where infarcts come from: virtual patients, split into folds."""

from pathlib import Path

from cmrsr.errors import UsageError
from cmrsr.tasks.mie.training.data import Infarcts
from cmrsr.tasks.mie.training.infarcts import virtual_infarcts
from cmrsr.tasks.mie.training.recipe import MieData
from cmrsr.tasks.mie.training.virtual import InfarctSet
from cmrsr.training.cache import OnItem


def load_infarcts(data: MieData, source: str, cache: Path, on_item: OnItem = None) -> Infarcts:
    """The first patients are held out; of several folds, those whose turn it is."""
    if source != "phantom":
        raise UsageError(
            f"--data {source}: mie learns from virtual patients, whose scar is known; of real ones, cine, T1 and "
            "late enhancement of the same slices would have to be registered first"
        )
    virtual = InfarctSet(n_patients=data.n_patients)
    total = virtual.n_patients
    if data.folds == 1 and data.n_validation >= total:
        raise UsageError(f"data.n_validation {data.n_validation}: expected fewer than the {total} virtual patients")
    patients = virtual_infarcts(virtual, cache, None if on_item is None else lambda done: on_item(done, total))
    held_out = [i % data.folds == data.fold if data.folds > 1 else i < data.n_validation for i in range(total)]
    if not any(held_out):
        raise UsageError(f"data.fold {data.fold}: no virtual patient of {total} falls into it")
    which = f"every {data.folds}th from {data.fold}" if data.folds > 1 else f"the first {data.n_validation}"
    return Infarcts(
        training=[s for slices, out in zip(patients, held_out, strict=True) if not out for s in slices],
        validation=[s for slices, out in zip(patients, held_out, strict=True) if out for s in slices],
        description=(
            f"{total} virtual patients, {virtual.n_slices} slices of each, cine, T1 images and late enhancement, "
            f"{virtual.window}x{virtual.window}; {which} are the validation set"
        ),
    )
