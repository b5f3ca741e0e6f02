"""Matrices, voxel sizes and units of a NIfTI header that are none: what is read, noted and written instead."""

import struct
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from cmrsr.errors import UnusableError
from cmrsr.io.joined import joined
from cmrsr.io.nifti.series import read_nifti
from cmrsr.io.series import Series
from tests.io.nifti.nifti_files import SPACING, copy, numbers, patch, save, turned

PIXDIM, UNITS, QFORM_CODE, SFORM_CODE, QUATERNION, QOFFSET, SROW = 76, 123, 252, 254, 256, 268, 280
SIZES = np.diag([*SPACING, 1.0])
FINER = np.diag([0.5, 0.5, 1.0, 1.0])


def file_with(
    path: Path, codes: tuple[int, int], *, patches: dict[int, bytes], shape: tuple[int, ...] = (8, 8, 2, 3)
) -> Path:
    """Both matrices are the same turned one; codes: of qform and sform."""
    image = nib.Nifti1Image(numbers(shape), turned((0, 1, 2), (1, 1, 1)))
    image.set_qform(turned((0, 1, 2), (1, 1, 1)), codes[0])
    image.set_sform(turned((0, 1, 2), (1, 1, 1)), codes[1])
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((*SPACING, *[0.5] * (len(shape) - 3)))
    nib.save(image, path)
    for at, new in patches.items():
        patch(path, at, new)
    return path


def floats(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


def check_results(series: Series, tmp_path: Path) -> None:
    """Every way of writing gives a file that other readers load and that has the geometry of the series."""
    for name, shape, affine in (
        ("same", series.shape, series.affine),
        ("finer", (3, 2, 16, 16), series.affine @ FINER),
    ):
        out = copy(series, tmp_path / f"{name}.nii", shape=shape, affine=affine)
        np.testing.assert_allclose(read_nifti(out).affine, affine, atol=1e-4)
        loaded = nib.load(out)
        assert np.isfinite(loaded.header.get_qform()).all()
        assert np.isfinite(loaded.header.get_sform()).all()
        if loaded.header["sform_code"] or loaded.header["qform_code"]:
            np.testing.assert_allclose(loaded.affine, affine, atol=1e-4)


NAN3, BIG = floats(np.nan, 0, 0), floats(1, 1, 1)


@pytest.mark.parametrize("quaternion", [BIG, NAN3, floats(np.inf, 0, 0), floats(1.1, 0, 0), floats(3e38, 3e38, 0)])
def test_a_quaternion_that_is_none(tmp_path: Path, quaternion: bytes) -> None:
    for codes, expected in (
        ((1, 1), turned((0, 1, 2), (1, 1, 1))),
        ((1, 0), SIZES),
        ((0, 1), turned((0, 1, 2), (1, 1, 1))),
    ):
        series = read_nifti(file_with(tmp_path / "x.nii.gz", codes, patches={QUATERNION: quaternion}))
        np.testing.assert_allclose(series.affine, expected, atol=1e-5)
        assert any("quaternion" in note for note in series.source.notes) == (codes[0] > 0)
        assert any("no orientation" in note for note in series.source.notes) == (codes == (1, 0))
        check_results(series, tmp_path)


@pytest.mark.parametrize("excess", [1e-6, 3e-5, 4e-4])
def test_a_half_turn_that_was_rounded_is_one(tmp_path: Path, excess: float) -> None:
    series = read_nifti(file_with(tmp_path / "x.nii", (1, 0), patches={QUATERNION: floats(1 + excess, 0, 0)}))
    np.testing.assert_allclose(series.affine[:3, :3], np.diag(SPACING) * [1, -1, -1], atol=1e-2)
    assert series.source.notes == ()
    check_results(series, tmp_path)


@pytest.mark.parametrize("qfac", [0.0, 1.0, -1.0, 5.0, np.nan])
def test_the_sign_of_the_slices(tmp_path: Path, qfac: float) -> None:
    series = read_nifti(file_with(tmp_path / "x.nii", (1, 0), patches={PIXDIM: floats(qfac)}))
    expected = turned((0, 1, 2), (1, 1, -1 if qfac == -1 else 1))
    np.testing.assert_allclose(series.affine, expected, atol=1e-5)
    check_results(series, tmp_path)


@pytest.mark.parametrize(
    "row",
    [floats(np.nan, 0, 0, 0), floats(0, 0, 0, 5), floats(1, 1, 1, np.inf), floats(1e30, 0, 0, 0), floats(0, 0, 8, 1e9)],
)
def test_an_sform_that_is_none(tmp_path: Path, row: bytes) -> None:
    series = read_nifti(file_with(tmp_path / "x.nii", (1, 2), patches={SROW: row}))
    np.testing.assert_allclose(series.affine, turned((0, 1, 2), (1, 1, 1)), atol=1e-5)
    assert any("sform" in note for note in series.source.notes)
    check_results(series, tmp_path)
    unused = read_nifti(file_with(tmp_path / "y.nii", (1, 0), patches={SROW: row}))  # garbage that claims nothing
    assert unused.source.notes == ()
    check_results(unused, tmp_path)


def test_codes_that_the_format_does_not_know(tmp_path: Path) -> None:
    turn = turned((0, 1, 2), (1, 1, 1))
    for code, expected in ((99, turn), (-3, SIZES)):
        patches = {SFORM_CODE: struct.pack("<h", code), QFORM_CODE: struct.pack("<h", code)}
        series = read_nifti(file_with(tmp_path / "x.nii", (1, 1), patches=patches))
        np.testing.assert_allclose(series.affine, expected, atol=1e-5)
        check_results(series, tmp_path)


@pytest.mark.parametrize("sizes", [(0, 0, 0), (np.nan, 2, 8), (-1.5, -2, -8), (1.5, np.inf, 1e30)])
def test_voxel_sizes_that_are_none_under_a_good_matrix(tmp_path: Path, sizes: tuple[float, ...]) -> None:
    series = read_nifti(file_with(tmp_path / "x.nii", (0, 1), patches={PIXDIM + 4: floats(*sizes)}))
    np.testing.assert_allclose(series.affine, turned((0, 1, 2), (1, 1, 1)), atol=1e-5)
    np.testing.assert_allclose(nib.load(copy(series, tmp_path / "y.nii")).header.get_zooms()[:3], SPACING, rtol=1e-5)
    check_results(series, tmp_path)


def test_voxel_sizes_alone(tmp_path: Path) -> None:
    for sizes, expected in (((-1.5, -2, -8), SPACING), ((0, 0, 0), (1, 1, 1)), ((1.5, 2, 0), (1.5, 2, 1))):
        series = read_nifti(file_with(tmp_path / "x.nii", (0, 0), patches={PIXDIM + 4: floats(*sizes)}))
        np.testing.assert_allclose(np.diag(series.affine)[:3], expected)
        assert any("taken as 1 mm" in note for note in series.source.notes) == (0 in sizes)
        check_results(series, tmp_path)
    for bad in (np.nan, np.inf, 1e30):
        with pytest.raises(UnusableError, match=r"x\.nii: voxel sizes"):
            read_nifti(file_with(tmp_path / "x.nii", (0, 0), patches={PIXDIM + 4: floats(bad)}))


@pytest.mark.parametrize("code", [7, 56, 0xC2, 0xFF])
def test_units_that_are_none(tmp_path: Path, code: int) -> None:
    series = read_nifti(file_with(tmp_path / "x.nii", (0, 1), patches={UNITS: bytes([code])}))
    np.testing.assert_allclose(series.spacing_mm, SPACING[::-1], rtol=1e-5)
    assert any("units" in note for note in series.source.notes)
    check_results(series, tmp_path)


@pytest.mark.parametrize("step", [np.nan, np.inf, -0.5])
def test_a_step_that_is_no_number(tmp_path: Path, step: float) -> None:
    series = read_nifti(file_with(tmp_path / "x.nii", (0, 1), patches={PIXDIM + 16: floats(step)}))
    assert series.times_ms is None
    check_results(series, tmp_path)


def test_another_order_of_axes_and_joined_files_of_bad_headers(tmp_path: Path) -> None:
    patches = {QUATERNION: BIG, SROW: floats(np.nan), PIXDIM: floats(0), PIXDIM + 16: floats(0)}
    path = file_with(tmp_path / "x.nii", (1, 1), patches=patches, shape=(8, 8, 3, 2))
    series = read_nifti(path, time_axis=2)
    assert series.shape == (3, 2, 8, 8)
    check_results(series, tmp_path)
    parts = [
        read_nifti(file_with(tmp_path / f"{n}.nii", (1, 1), patches=patches, shape=(8, 8, 2)), time_axis="none")
        for n in "abc"
    ]
    check_results(joined(parts, "abc", "joined", kind="unknown", times_ms=None), tmp_path)


@pytest.mark.parametrize(("slope", "inter"), [(0.0, 3.0), (np.nan, np.nan), (np.inf, 0.0), (1.0, 0.0)])
def test_a_scale_that_is_none_is_no_scale(tmp_path: Path, slope: float, inter: float) -> None:
    data: NDArray[Any] = numbers((8, 8, 1, 3))
    path = save(tmp_path / "x.nii", data)
    patch(path, 112, floats(slope, inter))
    np.testing.assert_array_equal(read_nifti(path).array().transpose(3, 2, 1, 0), data)


@pytest.mark.parametrize("inter", [np.nan, np.inf, -np.inf])
def test_an_intercept_that_is_none_is_damage(tmp_path: Path, inter: float) -> None:
    path = save(tmp_path / "x.nii", numbers((8, 8, 1, 3)))
    patch(path, 112, floats(0.5, inter))
    with pytest.raises(Exception, match=r"damaged NIfTI header \(data type 4, scale 0\.5"):
        read_nifti(path)
