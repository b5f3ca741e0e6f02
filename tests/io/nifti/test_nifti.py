"""NIfTI in and out against nibabel's own reading."""

import gc
import gzip
import io
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cmrsr.errors import CmrsrError, OutputError, UnreadableError, UnusableError
from cmrsr.io.nifti import series as nifti
from cmrsr.io.nifti.series import nifti_stem, nifti_writer, read_nifti
from cmrsr.io.series import Series
from tests.io.nifti.nifti_files import FLOAT32, ORIENTATIONS, SPACING, copy, numbers, patch, save, turned

# --- round trips ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_copy_is_the_same_in_every_orientation(tmp_path: Path, order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    source = tmp_path / "in.nii.gz"
    image = nib.Nifti1Image(numbers((7, 6, 3, 4)), turned(order, signs))
    image.set_sform(turned(order, signs, tilt=0.3), 4)
    image.set_qform(turned(order, signs), 1)
    image.header.set_zooms((*SPACING, 0.04))
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_dim_info(0, 1, 2)
    nib.save(image, source)
    series = read_nifti(source)
    np.testing.assert_allclose(series.affine, turned(order, signs, tilt=0.3), rtol=FLOAT32, atol=1e-5)
    a, b = nib.load(source), nib.load(copy(series, tmp_path / "out.nii.gz"))
    np.testing.assert_array_equal(np.asarray(a.dataobj), np.asarray(b.dataobj))
    for form in ("get_sform", "get_qform"):
        for one, other in zip(getattr(a, form)(coded=True), getattr(b, form)(coded=True), strict=True):
            np.testing.assert_array_equal(one, other)
    assert a.header.get_zooms() == b.header.get_zooms()
    assert a.header.get_xyzt_units() == b.header.get_xyzt_units()
    assert a.header.get_dim_info() == b.header.get_dim_info()
    assert a.get_data_dtype() == b.get_data_dtype()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 4),
    dtype=st.sampled_from(["u1", "i1", "<i2", ">i2", "u2", "<i4", "f4", ">f4", "f8"]),
    scaling=st.sampled_from([(1.0, 0.0), (0.5, -10.0), (0.013, 3.0), (0.0, 5.0)]),
    suffix=st.sampled_from([".nii", ".nii.gz"]),
)
def test_copy_keeps_type_scaling_and_values(
    tmp_path: Path, shape: tuple[int, ...], dtype: str, scaling: tuple[float, float], suffix: str
) -> None:
    endian = ">" if dtype[0] == ">" else "<"
    header = nib.Nifti1Header(endianness=endian)
    image = nib.Nifti1Image(numbers(shape, dtype), np.diag([1.5, 1.5, 5, 1]), header, dtype=np.dtype(dtype))
    image.header.set_zooms((1.5, 1.5, 5, 0.5))
    nib.save(image, tmp_path / f"in{suffix}")
    patch(tmp_path / f"in{suffix}", 112, np.array(scaling, f"{endian}f4").tobytes())
    series = read_nifti(tmp_path / f"in{suffix}", time_axis=3)
    a = nib.load(tmp_path / f"in{suffix}")
    expected = np.asarray(a.dataobj, np.float32).reshape(shape).transpose(3, 2, 1, 0)
    np.testing.assert_array_equal(series.array(), expected)
    b = nib.load(copy(series, tmp_path / f"out{suffix}"))
    np.testing.assert_array_equal(np.asarray(a.dataobj, np.float32), np.asarray(b.dataobj, np.float32))
    kept = np.dtype(dtype) if np.dtype(dtype).kind in "iu" else np.dtype("f4").newbyteorder(endian)
    assert b.get_data_dtype() == kept
    if kept.kind in "iu":
        assert (b.dataobj.slope, b.dataobj.inter) == (a.dataobj.slope, a.dataobj.inter)


def test_nifti2_stays_nifti2(tmp_path: Path) -> None:
    image = nib.Nifti2Image(numbers((8, 8, 1, 3)), np.eye(4))
    image.header.set_intent("estimate", name="signal")
    nib.save(image, tmp_path / "in.nii.gz")
    series = read_nifti(tmp_path / "in.nii.gz")
    texts = [
        [e.get_content() for e in nib.load(copy(series, tmp_path / name)).header.extensions]
        for name in ("a.nii", "b.nii")
    ]
    assert texts == [[b"a copy"]] * 2  # and the header of the input does not grow
    out = nib.load(tmp_path / "a.nii")
    assert isinstance(out, nib.Nifti2Image)
    assert out.header.get_intent()[0] == "estimate"
    np.testing.assert_array_equal(np.asarray(out.dataobj), np.asarray(image.dataobj))


def test_equal_inputs_give_equal_bytes(tmp_path: Path, tiny_series: Series) -> None:
    a, b = copy(tiny_series, tmp_path / "a.nii.gz"), copy(tiny_series, tmp_path / "longer_name.nii.gz")
    assert a.read_bytes() == b.read_bytes()
    assert a.read_bytes()[4:8] == bytes(4)  # gzip's time of writing


def test_integers_are_rounded_and_clipped(tmp_path: Path) -> None:
    series = read_nifti(save(tmp_path / "in.nii", numbers((2, 2, 1, 2), np.uint8)))
    with nifti_writer(tmp_path / "out.nii", series, shape=(1, 1, 2, 2), affine=series.affine, description="") as writer:
        writer.write(np.array([[[-3.0, 300.0], [7.4, 7.6]]], np.float32))
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "out.nii").dataobj).T.ravel(), [0, 255, 7, 8])


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_the_largest_integers_do_not_wrap(tmp_path: Path, dtype: Any) -> None:
    series = read_nifti(save(tmp_path / "in.nii", numbers((2, 1, 1, 2)).astype(dtype)))
    with nifti_writer(tmp_path / "out.nii", series, shape=(1, 1, 1, 2), affine=series.affine, description="") as writer:
        writer.write(np.array([[[1e30, -1e30]]], np.float32))
    high, low = np.asarray(nib.load(tmp_path / "out.nii").dataobj).ravel()
    assert high > 0.99 * np.iinfo(dtype).max
    assert low == np.iinfo(dtype).min


# --- geometry ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS[::5])
@pytest.mark.parametrize("codes", [(1, 4), (0, 2), (1, 0)])
def test_a_finer_matrix_moves_both_matrices(
    tmp_path: Path, order: tuple[int, ...], signs: tuple[int, ...], codes: tuple[int, int]
) -> None:
    image = nib.Nifti1Image(numbers((8, 8, 2, 3)), turned(order, signs))
    image.header.set_xyzt_units("mm", "msec")
    image.set_qform(turned(order, signs, tilt=0.1), codes[0])
    image.set_sform(turned(order, signs), codes[1])
    image.header["pixdim"][4] = 40
    nib.save(image, tmp_path / "in.nii")
    series = read_nifti(tmp_path / "in.nii")
    finer = np.diag([0.5, 0.5, 1, 1])
    finer[:2, 3] = -0.25  # the corner of the field of view stays
    out = nib.load(copy(series, tmp_path / "out.nii", shape=(3, 2, 16, 16), affine=series.affine @ finer))
    for form in ("get_sform", "get_qform"):
        old, old_code = getattr(image, form)(coded=True)
        new, new_code = getattr(out, form)(coded=True)
        assert new_code == old_code
        if old_code:
            np.testing.assert_allclose(new @ [-0.5, -0.5, 0, 1], old @ [-0.5, -0.5, 0, 1], atol=1e-4)
            np.testing.assert_allclose(new @ [15.5, 15.5, 1, 1], old @ [7.5, 7.5, 1, 1], atol=1e-4)
    np.testing.assert_allclose(out.header.get_zooms(), (SPACING[0] / 2, SPACING[1] / 2, SPACING[2], 40), rtol=1e-5)


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("meter", 1e-3), ("micron", 1e3), ("unknown", 1)])
def test_space_units_are_read_as_millimetres_and_kept(tmp_path: Path, unit: str, factor: float) -> None:
    affine = np.diag([factor, factor, factor, 1]) @ turned((0, 1, 2), (-1, 1, 1))
    series = read_nifti(save(tmp_path / "in.nii", numbers((4, 4, 2, 2)), affine=affine, units=(unit, "sec")))
    np.testing.assert_allclose(series.affine, turned((0, 1, 2), (-1, 1, 1)), rtol=1e-5, atol=1e-5)
    finer = series.affine @ np.diag([0.5, 1, 1, 1])
    again = read_nifti(copy(series, tmp_path / "out.nii", shape=(2, 2, 4, 8), affine=finer))
    np.testing.assert_allclose(again.affine, finer, rtol=1e-5, atol=1e-5)
    assert again.source.header.get_xyzt_units()[0] == unit


def test_the_sform_is_preferred_then_the_qform_then_the_voxel_size(tmp_path: Path) -> None:
    image = nib.Nifti1Image(numbers((4, 4, 2, 2)), None)
    image.header.set_zooms((1.5, 2, 8, 1))
    sform, qform = turned((1, 0, 2), (1, 1, 1)), turned((0, 2, 1), (1, -1, 1))

    def read() -> Series:
        nib.save(image, tmp_path / "x.nii")
        return read_nifti(tmp_path / "x.nii")

    nothing = read()
    np.testing.assert_allclose(nothing.affine, np.diag([1.5, 2, 8, 1]))
    assert any("no orientation" in note for note in nothing.source.notes)
    image.set_qform(qform, 1)
    np.testing.assert_allclose(read().affine, qform, atol=1e-5)
    image.set_sform(sform, 2)
    np.testing.assert_allclose(read().affine, sform, atol=1e-5)
    patch(tmp_path / "x.nii", 312, bytes(16))  # the third row of the sform
    singular = read_nifti(tmp_path / "x.nii")
    np.testing.assert_allclose(singular.affine, qform, atol=1e-5)
    assert any("singular" in note for note in singular.source.notes)


@pytest.mark.parametrize(("dim_info", "axis"), [((0, 1, 2), "y"), ((1, 0, 2), "x"), ((0, 2, 1), None)])
def test_phase_axis_of_dim_info(tmp_path: Path, dim_info: tuple[int, int, int], axis: str | None) -> None:
    image = nib.Nifti1Image(numbers((4, 4, 2, 2)), np.eye(4))
    image.header.set_dim_info(*dim_info)
    nib.save(image, tmp_path / "x.nii")
    assert read_nifti(tmp_path / "x.nii").phase_axis == axis


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "unit", "step_ms"),
    [
        (0.04, "sec", 40),
        (850.0, "msec", 850),
        (40000, "usec", 40),
        (0.8, "unknown", 800),
        (800, "unknown", 800),
        (1.0, "sec", None),  # what ITK writes for "not known"
        (1.0, "unknown", None),
        (0.0, "sec", None),
        (800, "sec", None),  # milliseconds under the wrong unit
        (0.8, "hz", None),
    ],
)
def test_time_step(tmp_path: Path, step: float, unit: str, step_ms: float | None) -> None:
    series = read_nifti(save(tmp_path / "x.nii", numbers((4, 4, 1, 3)), step=step, units=("mm", unit)))
    if step_ms is None:
        assert series.times_ms is None
        assert any("times unknown" in note for note in series.source.notes)
    else:
        assert series.times_ms is not None
        np.testing.assert_allclose(series.times_ms, np.arange(3) * step_ms, rtol=1e-6)
    again = nib.load(copy(series, tmp_path / "y.nii"))
    assert again.header.get_zooms()[3] == pytest.approx(step)
    assert again.header.get_xyzt_units() == ("mm", unit)


@pytest.mark.parametrize("step_ms", [25.0, 1000.0, 812.5])
@pytest.mark.parametrize("unit", ["sec", "msec", "usec"])
def test_new_times_read_back(tmp_path: Path, step_ms: float, unit: str) -> None:
    series = read_nifti(save(tmp_path / "x.nii", numbers((4, 4, 1, 3)), step=0.5, units=("mm", unit)))
    times = np.arange(5) * step_ms
    with nifti_writer(
        tmp_path / "y.nii", series, shape=(5, 1, 4, 4), affine=series.affine, times_ms=times, description=""
    ) as writer:
        for _ in times:
            writer.write(series.frame(0))
    again = read_nifti(tmp_path / "y.nii").times_ms
    assert again is not None
    np.testing.assert_allclose(again, times, rtol=1e-6)


def test_uneven_times_of_slices_become_the_mean_step(tmp_path: Path, tiny_series: Series) -> None:
    times = np.cumsum(np.random.default_rng(5).uniform(700, 900, (12, 2)), axis=0)
    again = read_nifti(copy(tiny_series, tmp_path / "y.nii", times_ms=times)).times_ms
    assert again is not None
    assert again[-1] == pytest.approx(float((times[-1] - times[0]).mean()), rel=1e-6)


def test_unknown_times_stay_unknown(tmp_path: Path, tiny_series: Series) -> None:
    assert read_nifti(copy(tiny_series, tmp_path / "y.nii", times_ms=None)).times_ms is None


def with_sidecar(folder: Path, text: str, *, shape: tuple[int, ...] = (4, 4, 2, 3)) -> Series:
    """A file of 0.5 s a frame beside a sidecar."""
    (folder / "x.json").write_text(text)
    return read_nifti(save(folder / "x.nii.gz", numbers(shape)))


@pytest.mark.parametrize(
    ("text", "key", "times_ms"),
    [
        ('{"InversionTime": [0.1, 1.02, 3.9]}', "InversionTime", [100, 1020, 3900]),
        ('{"FrameTimes": [0, 0.8, 1.7]}', "FrameTimes", [0, 800, 1700]),
        ('{"TriggerTime": [0.02, 0.06, 0.1]}', "TriggerTime", [20, 60, 100]),
        ('{"FrameTimes": [[0, 0.1], [0.8, 0.9], [1.7, 1.8]]}', "FrameTimes", [[0, 100], [800, 900], [1700, 1800]]),
        ('{"FrameTimes": [0, 0.8, 1.7], "InversionTime": [0.1, 1, 2]}', "InversionTime", [100, 1000, 2000]),
        ('{"TriggerTime": [0.06, 0.062, 0.061], "FrameTimes": [0, 0.8, 1.7]}', "FrameTimes", [0, 800, 1700]),
        ('\ufeff{"InversionTime": 0.3, "FrameTimes": [0, 0.8, 1.7]}', "FrameTimes", [0, 800, 1700]),
    ],
)
def test_times_of_a_sidecar(tmp_path: Path, text: str, key: str, times_ms: list[float]) -> None:
    series = with_sidecar(tmp_path, text)
    assert series.times_ms is not None
    np.testing.assert_allclose(series.times_ms, times_ms)
    assert series.source.notes == (f"times from {key} of x.json",)


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("", "x.json was not used"),
        ('{"FrameTimes": [0, 0.8', "x.json was not used"),
        ("[" * 100_000, "x.json was not used"),
        ('{"FrameTimes": [0, 0.8]}', "expected 3 numbers"),
        ('{"FrameTimes": [[0, 0, 0], [1, 1, 1], [2, 2, 2]]}', "expected 3 numbers"),
        ('{"FrameTimes": [0, [0.8], 1.7]}', "expected 3 numbers"),
        ('{"FrameTimes": [0, "later", null]}', "expected 3 numbers"),
        ('{"FrameTimes": [0, 0.8, {}]}', "expected 3 numbers"),
        ('{"FrameTimes": [0, 0.8, 0.8]}', "FrameTimes of x.json does not increase"),
        ('{"FrameTimes": [[0, 1], [1, 2], [2, 2]]}', "FrameTimes of x.json does not increase"),
        ('{"FrameTimes": [0, 1, NaN]}', "FrameTimes of x.json does not increase"),
        ('{"FrameTimes": [0, 1, 1e307]}', "FrameTimes of x.json does not increase"),
        ('{"InversionTime": 0.3, "EchoTime": [0, 1, 2], "TriggerTime": null}', None),
        ("[0, 1, 2]", None),
        ("null", None),
    ],
)
def test_a_sidecar_without_usable_times_is_no_error(tmp_path: Path, text: str, note: str | None) -> None:
    series = with_sidecar(tmp_path, text)
    np.testing.assert_allclose(series.times_ms, [0, 500, 1000])  # type: ignore[arg-type]
    assert len(series.source.notes) == (note is not None)
    assert note is None or note in series.source.notes[0]


def test_a_sidecar_of_bytes_or_of_one_frame(tmp_path: Path) -> None:
    (tmp_path / "y.json").write_bytes(b"\xff\xfe\x00{")
    series = read_nifti(save(tmp_path / "y.nii", numbers((4, 4, 2, 3))))
    assert series.times_ms is not None
    assert any("y.json was not used" in note for note in series.source.notes)
    assert with_sidecar(tmp_path, '{"FrameTimes": [0.3]}', shape=(4, 4, 2, 1)).times_ms is None


def test_the_step_of_a_file_with_a_sidecar(tmp_path: Path) -> None:
    """The header's own step stays with an unchanged series, and new times make a new step."""
    series = with_sidecar(tmp_path, '{"InversionTime": [0.1, 1.02, 3.9]}')
    assert nib.load(copy(series, tmp_path / "y.nii")).header.get_zooms()[3] == 0.5
    finer = nib.load(copy(series, tmp_path / "z.nii", times_ms=np.array([0.0, 20, 40])))
    assert finer.header.get_zooms()[3] == pytest.approx(0.02)


# --- which axis is time -----------------------------------------------------------------------------------------------


def test_three_axes_are_never_guessed(tmp_path: Path) -> None:
    path = save(tmp_path / "x.nii.gz", numbers((9, 8, 7)))
    with pytest.raises(UnusableError, match=r"x\.nii\.gz.*\(9, 8, 7\).*--time-axis"):
        read_nifti(path)
    assert read_nifti(path, time_axis="none").shape == (1, 7, 8, 9)
    assert read_nifti(path, time_axis=0).shape == (9, 1, 8, 7)
    assert read_nifti(path, time_axis=1).shape == (8, 1, 7, 9)
    assert read_nifti(path, time_axis=2).shape == (7, 1, 8, 9)


@pytest.mark.parametrize(
    ("shape", "expected"), [((9, 8), (1, 1, 8, 9)), ((9, 8, 1), (1, 1, 8, 9)), ((9, 8, 7, 1), (1, 7, 8, 9))]
)
def test_certain_shapes_need_no_option(tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    series = read_nifti(save(tmp_path / "x.nii", numbers(shape)))
    assert series.shape == expected
    np.testing.assert_array_equal(series.array().ravel(), numbers(shape).ravel(order="F"))
    out = nib.load(copy(series, tmp_path / "y.nii"))
    assert out.shape == shape


def test_a_named_slice_axis_makes_three_axes_a_volume(tmp_path: Path) -> None:
    image = nib.Nifti1Image(numbers((9, 8, 7)), np.eye(4))
    image.header.set_dim_info(0, 1, 2)
    nib.save(image, tmp_path / "x.nii")
    assert read_nifti(tmp_path / "x.nii").shape == (1, 7, 8, 9)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    ("shape", "time_axis", "axes"),  # axes: which file axis is t, z, y, x
    [
        ((5, 6, 7), 0, (0, None, 1, 2)),
        ((6, 5, 7), 1, (1, None, 2, 0)),
        ((7, 6, 5), 2, (2, None, 1, 0)),
        ((5, 3, 6, 7), 0, (0, 1, 2, 3)),
        ((5, 6, 7, 1), 0, (0, None, 1, 2)),
        ((7, 6, 5, 3), 2, (2, 3, 1, 0)),
        ((7, 6, 3, 5), 3, (3, 2, 1, 0)),
    ],
)
def test_named_time_axis(
    tmp_path: Path, shape: tuple[int, ...], time_axis: int, axes: tuple[int | None, ...], suffix: str
) -> None:
    data = numbers(shape)
    series = read_nifti(save(tmp_path / f"x{suffix}", data), time_axis=time_axis)
    present = [a for a in axes if a is not None]
    rest = [a for a in range(data.ndim) if a not in present]
    expected = data.transpose([*present, *rest]).reshape([1 if a is None else shape[a] for a in axes])
    np.testing.assert_array_equal(series.array(), expected)
    assert series.times_ms is None or time_axis == 3
    again = read_nifti(copy(series, tmp_path / f"y{suffix}"))  # now in standard order
    np.testing.assert_array_equal(again.array(), expected)
    np.testing.assert_allclose(again.affine, series.affine, atol=1e-4)
    assert abs(np.linalg.det(series.affine)) > 0


def test_matrix_columns_go_with_their_axes(tmp_path: Path) -> None:
    """A pixel of a (t, y, x) file lies where the file's own matrix puts it; the time column is the slice normal."""
    affine = turned((2, 0, 1), (1, -1, 1))
    image = nib.Nifti1Image(numbers((5, 6, 7)), affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    image.header.set_dim_info(freq=2, phase=1, slice=None)
    nib.save(image, tmp_path / "x.nii")
    series = read_nifti(tmp_path / "x.nii", time_axis=0)
    np.testing.assert_allclose(series.affine @ [4, 3, 0, 1], affine @ [0, 3, 4, 1], atol=1e-4)
    np.testing.assert_allclose(series.spacing_mm, SPACING, rtol=1e-5)
    normal = np.cross(series.affine[:3, 0], series.affine[:3, 1])
    assert np.linalg.norm(np.cross(normal, series.affine[:3, 2])) < 1e-3
    assert series.phase_axis == "y"


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1)])  # nibabel's and ITK's way to say nothing
def test_plain_matrices_only_move_the_voxel_sizes(tmp_path: Path, signs: tuple[int, ...]) -> None:
    affine = np.diag([*np.multiply(signs, (4.0, 1.5, 2.0)), 1])
    path = save(tmp_path / "x.nii", numbers((5, 3, 6, 7)), affine=affine, step=1.25)
    np.testing.assert_allclose(read_nifti(path, time_axis=0).affine, np.diag([*np.multiply(signs, (1.25, 2, 1.5)), 1]))
    path = save(tmp_path / "y.nii", numbers((5, 6, 7)), affine=affine)
    np.testing.assert_allclose(read_nifti(path, time_axis=0).spacing_mm, (4.0, 1.5, 2.0))
    np.testing.assert_allclose(read_nifti(path, time_axis=2).affine, affine)


@pytest.mark.parametrize(("shape", "time_axis"), [((5, 6, 7), 3), ((5, 6, 7), -1), ((5, 6), 0), ((5, 6, 7, 2), "none")])
def test_a_time_axis_that_is_not_there(tmp_path: Path, shape: tuple[int, ...], time_axis: Any) -> None:
    with pytest.raises(UnusableError, match=r"--time-axis .* shape"):
        read_nifti(save(tmp_path / "x.nii", numbers(shape)), time_axis=time_axis)


# --- bad files --------------------------------------------------------------------------------------------------------


def rgb() -> NDArray[Any]:
    return np.zeros((8, 8, 1, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")])


@pytest.mark.parametrize(
    ("data", "what"), [(numbers((8, 8, 1, 2), np.complex64), "complex"), (rgb(), "colour")], ids=["complex", "colour"]
)
def test_voxels_that_are_no_magnitudes(tmp_path: Path, data: NDArray[Any], what: str) -> None:
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "x.nii.gz")
    with pytest.raises(UnusableError, match=f"x.nii.gz: {what} voxels"):
        read_nifti(tmp_path / "x.nii.gz")


def damaged_header(good: bytes) -> bytes:
    raw = bytearray(gzip.decompress(good))
    raw[70:72] = (999).to_bytes(2, "little")  # datatype
    return gzip.compress(bytes(raw))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda good: b"",
        lambda good: b"patient,ef\n1,55\n" * 40,
        lambda good: gzip.compress(b"patient,ef\n1,55\n" * 40),
        lambda good: gzip.compress(b""),
        lambda good: good[:10],
        lambda good: good[:60],
        lambda good: gzip.decompress(good)[:200],
        lambda good: gzip.compress(gzip.decompress(good)[:40] + b"\0\0" * 8 + gzip.decompress(good)[56:]),
        damaged_header,
    ],
    ids=["empty", "text", "zipped text", "zipped nothing", "gzip head", "gzip cut", "header cut", "no shape", "type"],
)
def test_what_is_not_nifti_is_one_line(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    good = save(tmp_path / "good.nii.gz", numbers((8, 8, 1, 2))).read_bytes()
    path = tmp_path / "x.nii.gz"
    path.write_bytes(spoil(good))
    with pytest.raises(UnreadableError, match=r"x\.nii\.gz") as caught:
        read_nifti(path).array()
    assert "\n" not in str(caught.value)


def test_a_folder_or_a_missing_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.nii"):
        with pytest.raises(UnreadableError):
            read_nifti(path)


def test_truncation_of_gzip_shows_on_the_frame_that_is_missing(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 60000, (32, 32, 1, 10)).astype(np.uint16)
    path = save(tmp_path / "x.nii.gz", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    series = read_nifti(path)
    np.testing.assert_array_equal(series.frame(2)[0], noise[:, :, 0, 2].T)
    with pytest.raises(UnreadableError, match=r"truncated.*10 frames, failed at frame 9") as caught:
        series.frame(8)
    assert "\n" not in str(caught.value)


def test_a_wrong_checksum_shows_after_the_last_frame(tmp_path: Path) -> None:
    path = save(tmp_path / "x.nii.gz", numbers((32, 32, 1, 4)))
    raw = bytearray(path.read_bytes())
    raw[-8] ^= 1
    path.write_bytes(bytes(raw))
    with pytest.raises(UnreadableError, match="CRC"):
        read_nifti(path).array()


@pytest.mark.parametrize(("name", "zipped"), [("x.nii", True), ("x.nii.gz", False)])
def test_a_wrong_suffix_does_not_matter(tmp_path: Path, name: str, zipped: bool) -> None:
    plain = save(tmp_path / "plain.nii", numbers((8, 8, 1, 2))).read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(plain) if zipped else plain)
    np.testing.assert_array_equal(read_nifti(tmp_path / name).array()[:, 0].T, numbers((8, 8, 1, 2))[:, :, 0])


# --- reading and writing in passing -----------------------------------------------------------------------------------


def test_neighbouring_frames_need_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Going back in a gzip stream decompresses it from the start again: quadratic in the number of frames."""
    data = np.random.default_rng(0).integers(0, 60000, (32, 32, 1, 60)).astype(np.uint16)
    path = save(tmp_path / "x.nii.gz", data)
    series = read_nifti(path)
    taken: list[int] = []

    class Counting(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            block = super().read(size)
            taken.append(len(block))
            return block

    with Counting(path) as raw:
        monkeypatch.setattr(nifti, "open_nifti", lambda _: gzip.GzipFile(fileobj=raw))
        for t in range(59):
            np.testing.assert_array_equal(series.frame(t + 1)[0], data[:, :, 0, t + 1].T)
            series.frame(t)
    assert path.stat().st_size <= sum(taken) < 1.5 * path.stat().st_size
    monkeypatch.undo()
    np.testing.assert_array_equal(series.frame(3)[0], data[:, :, 0, 3].T)  # going back is possible


def test_frames_are_read_only_and_out_of_range_is_an_error(tmp_path: Path) -> None:
    series = read_nifti(save(tmp_path / "x.nii", numbers((4, 4, 1, 3))))
    with pytest.raises(ValueError, match="read-only"):
        series.frame(0)[:] = 0
    for t in (-1, 3):
        with pytest.raises(IndexError):
            series.frame(t)


def test_a_reader_left_half_way_closes_its_file(tmp_path: Path) -> None:
    for suffix in (".nii", ".nii.gz"):
        read_nifti(save(tmp_path / f"x{suffix}", numbers((4, 4, 1, 3)))).frame(0)
    gc.collect()  # an unclosed file is a ResourceWarning, and that an error here


def peak_bytes(path: Path, out: Path) -> int:
    tracemalloc.start()
    copy(read_nifti(path), out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{n}.nii.gz", numbers((64, 64, 2, n))) for n in (20, 200)]
    peak_bytes(paths[0], tmp_path / "warm.nii.gz")
    short, long = (peak_bytes(path, tmp_path / f"out{path.name}") for path in paths)
    assert long < short * 1.1


# --- writing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_of_a_failed_write(tmp_path: Path, tiny_series: Series, error: type[BaseException]) -> None:
    path = tmp_path / "sub" / "x.nii.gz"

    def broken(t: int) -> NDArray[np.float32]:
        if t == 5:
            assert [p.name for p in path.parent.iterdir()] == [".x.nii.gz.partial"]
            raise error
        return tiny_series.frame(t)

    with pytest.raises(error):
        copy(replace(tiny_series, reader=broken), path)
    assert list(path.parent.iterdir()) == []


def test_an_earlier_result_survives_a_failed_write(tmp_path: Path, tiny_series: Series) -> None:
    path = copy(tiny_series, tmp_path / "x.nii.gz")
    before = path.read_bytes()
    with (
        pytest.raises(ValueError, match="1 frames written, expected 12"),
        nifti_writer(path, tiny_series, shape=tiny_series.shape, affine=np.eye(4), description="") as writer,
    ):
        writer.write(tiny_series.frame(0))
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_wrong_frames_are_refused(tmp_path: Path, tiny_series: Series) -> None:
    frame = tiny_series.frame(0)
    with nifti_writer(tmp_path / "x.nii", tiny_series, shape=(1, 2, 48, 40), affine=np.eye(4), description="") as out:
        with pytest.raises(ValueError, match="expected a series of"):
            out.write(frame[:1])
        out.write(frame)
        with pytest.raises(ValueError, match="expected a series of"):
            out.write(frame)  # one too many
    np.testing.assert_array_equal(read_nifti(tmp_path / "x.nii").frame(0), frame)


def test_a_path_below_a_file_is_an_output_error(tmp_path: Path, tiny_series: Series) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        copy(tiny_series, tmp_path / "file" / "x.nii.gz")


def test_a_full_disk_is_an_output_error(tiny_series: Series, tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full")
    (tmp_path / ".x.nii.gz.partial").symlink_to(full)
    with pytest.raises(OutputError, match="No space left"):
        copy(tiny_series, tmp_path / "x.nii.gz")
    assert not (tmp_path / "x.nii.gz").exists()


def test_a_series_from_memory_gets_a_full_header(tmp_path: Path, tiny_series: Series) -> None:
    text = "cmrsr 1.0 sr: engine perfgen, seed=1. " * 3 + "Research use only, not a medical device."
    with nifti_writer(
        tmp_path / "perf.nii.gz",
        tiny_series,
        shape=tiny_series.shape,
        affine=tiny_series.affine,
        times_ms=tiny_series.times_ms,
        description=text,
    ) as writer:
        for frame in tiny_series:
            writer.write(frame)
    again = read_nifti(tmp_path / "perf.nii.gz")
    np.testing.assert_array_equal(again.array(), tiny_series.array())
    np.testing.assert_allclose(again.affine, tiny_series.affine, atol=1e-5)
    np.testing.assert_array_equal(again.times_ms, tiny_series.times_ms)
    assert (again.kind, again.phase_axis) == ("perfusion", "y")
    header = nib.load(tmp_path / "perf.nii.gz").header
    assert (header["qform_code"], header["sform_code"]) == (1, 1)
    assert header["descrip"].item().decode() == text[:79]
    assert header.extensions[0].get_content().decode() == text


def test_float32_on_request_drops_scaling_and_window(tmp_path: Path) -> None:
    path = save(tmp_path / "x.nii", numbers((4, 4, 1, 3)), scl_slope=0.5, scl_inter=7, cal_max=900)
    series = read_nifti(path)
    out = nib.load(copy(series, tmp_path / "y.nii", dtype="float32"))
    assert out.get_data_dtype() == np.float32
    assert out.header["cal_max"] == 0
    np.testing.assert_array_equal(np.asarray(out.dataobj).transpose(3, 2, 1, 0), series.array())


@pytest.mark.parametrize(("dtype", "limits"), [("int16", (-32768, 32767)), ("uint8", (0, 255))])
@pytest.mark.parametrize("origin", ["memory", "nifti"])
def test_whole_numbers_on_request(tmp_path: Path, dtype: Any, limits: tuple[int, int], origin: str) -> None:
    series = Series.from_array(numbers((3, 1, 4, 4), np.float32))
    if origin == "nifti":
        series = read_nifti(save(tmp_path / "x.nii", numbers((4, 4, 1, 3), np.float32), scl_slope=0.5, scl_inter=7))
    frames = np.array([-1e6, -0.4, 0.6, 99.7, 1e6, *range(11)], np.float32).reshape(1, 1, 4, 4)
    with nifti_writer(
        tmp_path / "y.nii", series, shape=(1, 1, 4, 4), affine=series.affine, dtype=dtype, description=""
    ) as writer:
        writer.write(frames[0])
    stored = nib.load(tmp_path / "y.nii")
    assert stored.get_data_dtype() == np.dtype(dtype)
    assert stored.header.get_slope_inter() in ((None, None), (1, 0))
    expected = [limits[0], 0, 1, 100, limits[1], *range(11)]
    np.testing.assert_array_equal(np.asarray(stored.dataobj).ravel(order="F"), expected)


# --- names and real files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("p01_rest", "perfusion"),
        ("P5-Stress", "perfusion"),
        ("first_pass_perf", "perfusion"),
        ("cine_sax_rest", "cine"),
        ("medicine", "unknown"),
        ("sub-01_T1map", "t1"),
        ("ShMOLLI", "t1"),
        ("pt1_scan", "unknown"),
        ("t10", "unknown"),
        ("forest", "unknown"),
        ("LGE_sax", "lge"),
        ("scan", "unknown"),
    ],
)
def test_kind_of_a_file_name(tmp_path: Path, name: str, kind: str) -> None:
    assert read_nifti(save(tmp_path / f"{name}.nii", numbers((4, 4, 1, 2)))).kind == kind


def test_stem() -> None:
    names = ("a/x.nii.gz", "x.1.nii", "X.NII.GZ", "x.hdr", "x.img.gz", "X.IMG")
    assert [nifti_stem(Path(n)) for n in names] == ["x", "x.1", "X", "x", "x", "X"]


def test_real_perfusion_round_trip(real_data: Path, tmp_path: Path) -> None:
    paths = sorted((real_data / "perfusion-nifti").glob("*.nii.gz"))
    assert paths
    for path in paths:
        series = read_nifti(path)
        assert series.times_ms is None  # 1.0 "sec" is written where the step was not known
        a, b = nib.load(path), nib.load(copy(series, tmp_path / path.name))
        np.testing.assert_array_equal(np.asarray(a.dataobj), np.asarray(b.dataobj))
        np.testing.assert_array_equal(a.affine, b.affine)
        assert a.header.get_zooms() == b.header.get_zooms()
        assert a.header.get_xyzt_units() == b.header.get_xyzt_units()
        assert a.get_data_dtype() == b.get_data_dtype()


def test_real_volumes_ask_for_the_time_axis(real_data: Path) -> None:
    path = real_data / "cine-ed-es-nifti" / "sa_ED.nii.gz"
    with pytest.raises(CmrsrError, match="--time-axis none"):
        read_nifti(path)
    series = read_nifti(path, time_axis="none")
    np.testing.assert_array_equal(series.frame(0).transpose(2, 1, 0), np.asarray(nib.load(path).dataobj))
