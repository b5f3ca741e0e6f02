from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cmrsr.errors import UnusableError
from cmrsr.io.discover import Candidate, discover
from cmrsr.tasks.mie.evaluation.studies import NoReferenceError, late_of, late_series, real_case
from tests.tasks.mie.mie_runs import AFFINE


def saved(path: Path, n_t: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.random.default_rng(0).integers(1, 99, (12, 12, 3, n_t)).astype(np.int16)
    nib.save(nib.Nifti1Image(data[..., 0] if n_t == 1 else data, AFFINE), path)


@pytest.fixture
def found(tmp_path: Path) -> dict[str, Candidate]:
    """Two patients with late enhancement, one without."""
    for patient in ("p1", "p2", "p3"):
        saved(tmp_path / patient / "cine.nii.gz", 12)
        saved(tmp_path / patient / "t1.nii.gz", 8)
        if patient != "p3":
            saved(tmp_path / patient / "lge_sax.nii.gz", 1)
    scar = np.zeros((12, 12, 3), np.uint8)
    scar[4:6] = 1
    nib.save(nib.Nifti1Image(scar, AFFINE), tmp_path / "p1" / "lge_sax_scar.nii.gz")
    return {one.name: one for one in discover([tmp_path])[0]}


def test_enhancement_is_that_of_the_same_study(found: dict[str, Candidate]) -> None:
    late = late_series(list(found.values()))
    assert [one.name for one in late] == ["p1/lge_sax", "p2/lge_sax"]
    assert late_of(found["p2/t1"], late).name == "p2/lge_sax"
    with pytest.raises(NoReferenceError):
        late_of(found["p3/t1"], late)


def test_a_case_has_its_mask(found: dict[str, Candidate]) -> None:
    late = late_series(list(found.values()))
    case = real_case(found["p1/t1"], found["p1/cine"], late, None)
    assert (case.name, case.cine.n_frames, case.t1.n_frames) == ("p1/t1", 12, 8)
    assert case.late.scar is not None
    assert case.late.scar.sum() == 2 * 12 * 3
    assert real_case(found["p2/t1"], found["p2/cine"], late, None).late.scar is None


def test_several_are_too_many(found: dict[str, Candidate]) -> None:
    late = late_series(list(found.values()))
    twice = [*late, replace(late[0], candidate=replace(late[0].candidate, name="p1/lge_again"))]
    with pytest.raises(UnusableError, match=r"several series of late enhancement \(p1/lge_sax, p1/lge_again\)"):
        late_of(found["p1/t1"], twice)
