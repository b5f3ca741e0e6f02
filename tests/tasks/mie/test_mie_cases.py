from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cmrsr.errors import UnreadableError, UnusableError
from cmrsr.heart.window import READING_MM
from cmrsr.io.nifti.series import read_nifti
from cmrsr.io.series import Series
from cmrsr.physics.volumes import DENSITY_G_ML
from cmrsr.tasks.mie.evaluation.cases import Enhancement, on_window, slice_of, true_scar_g, with_labels
from cmrsr.tasks.mie.grid import SliceGrid
from tests.mie_slices import MIDDLE, ventricles
from tests.tasks.mie.mie_runs import AFFINE, GAP_MM, SCAR, enhancement, made_case


def grid(z: int = 1) -> SliceGrid:
    return SliceGrid(centre=(MIDDLE, MIDDLE), t1=AFFINE, z=z, cine=AFFINE, cine_z=0)


def test_a_reference_lies_on_the_window_as_its_header_says() -> None:
    case = made_case("p1", noise=0)
    found = on_window(case.late, 1, grid())
    assert found.scar is not None
    assert found.clean is not None
    assert_allclose(found.image, 300 * enhancement(SCAR), atol=1e-2)
    assert_allclose(found.clean, found.image, atol=1e-2)
    assert_array_equal(found.scar, SCAR)
    assert_array_equal(found.labels, ventricles())


def test_a_shift_brings_it_back() -> None:
    moved = (3, -2)
    case = made_case("p1", moved=moved, noise=0)
    found = on_window(case.late, 1, grid(), (float(moved[0]), float(moved[1])))
    assert_array_equal(found.scar, SCAR)
    assert_array_equal(found.labels, ventricles())


def test_the_nearest_slice_is_taken_if_it_is_near() -> None:
    late = made_case("p1").late
    assert [slice_of(late, grid(z)) for z in range(3)] == [0, 1, 2]

    def placed(change: np.ndarray) -> Enhancement:
        return replace(late, series=replace(late.series, affine=late.series.affine @ change))

    shifted = np.eye(4)
    shifted[2, 3] = -0.4  # slices
    assert slice_of(placed(shifted), grid(1)) == 1
    shifted[2, 3] = 5
    assert slice_of(placed(shifted), grid(1)) is None
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]]
    turned = replace(late, series=replace(late.series, affine=turn @ late.series.affine))
    assert slice_of(turned, grid(1)) is None


def test_the_mass_of_scar_is_its_area_times_the_gap() -> None:
    late = made_case("p1").late
    gram = READING_MM**2 * GAP_MM / 1000 * DENSITY_G_ML
    assert true_scar_g(late, [0, 2], GAP_MM) == pytest.approx(2 * SCAR.sum() * gram)
    assert true_scar_g(Enhancement(series=late.series), [0], GAP_MM) is None


def saved(folder: Path, name: str, data: np.ndarray) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.nii.gz"
    nib.save(nib.Nifti1Image(data.T, AFFINE), path)
    return path


@pytest.fixture
def late(tmp_path: Path) -> Series:
    return read_nifti(saved(tmp_path / "scans", "p1_lge", np.full((3, 8, 8), 5, np.int16)), time_axis="none")


def test_masks_are_known_by_their_codes(late: Series, tmp_path: Path) -> None:
    scar = np.zeros((3, 8, 8), np.uint8)
    scar[1, 2:4] = 1
    assert with_labels(late, None).scar is None
    saved(tmp_path / "masks", "p1_lge_scar", scar)
    found = with_labels(late, tmp_path / "masks")
    assert_array_equal(found.scar, scar == 1)
    assert found.labels is None
    whole = np.where(scar, 4, 2).astype(np.uint8)
    saved(tmp_path / "scans", "p1_lge_label", whole)
    found = with_labels(late, None)
    assert_array_equal(found.scar, scar == 1)
    assert_array_equal(found.labels, np.full_like(scar, 2))


def test_masks_that_fit_not_are_refused(late: Series, tmp_path: Path) -> None:
    saved(tmp_path / "other", "p1_lge", np.zeros((2, 8, 8), np.uint8))
    saved(tmp_path / "odd", "p1_lge", np.full((3, 8, 8), 9, np.uint8))
    with pytest.raises(UnusableError, match="another grid"):
        with_labels(late, tmp_path / "other")
    with pytest.raises(UnusableError, match="found 9"):
        with_labels(late, tmp_path / "odd")
    with pytest.raises(UnreadableError, match="no such folder"):
        with_labels(late, tmp_path / "nowhere")
    with pytest.raises(UnusableError, match="2 time points"):
        with_labels(late.with_frames(np.ones((2, 3, 8, 8))), None)
