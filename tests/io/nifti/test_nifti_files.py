"""Pairs, offsets, sizes, axes and text of NIfTI files as converters write them and as damage leaves them."""

import gzip
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from cmrsr.errors import UnreadableError, UnusableError
from cmrsr.io.discover import discover
from cmrsr.io.nifti.file import find_voxels
from cmrsr.io.nifti.series import nifti_writer, read_nifti
from cmrsr.io.outputs import resolve_output
from tests.io.nifti.nifti_files import copy, numbers, patch, save, turned

SHAPE = (9, 8, 2, 4)
VOX_OFFSET = 108
OURS = b"cmrsr 1.0 sr: engine perfgen 1 (sha256 0123), seed=1. Research use only, not a medical device."


def pair(folder: Path, kind: Any = nib.Nifti1Pair, name: str = "cine") -> Path:
    """The header file; the image is next to it."""
    image = kind(numbers(SHAPE), turned((0, 1, 2), (1, 1, 1)))
    image.header.set_zooms((1.5, 2.0, 8.0, 0.5))
    if hasattr(image.header, "set_xyzt_units"):
        image.header.set_xyzt_units("mm", "sec")
    folder.mkdir(parents=True, exist_ok=True)
    nib.save(image, folder / f"{name}.img")
    for left_over in folder.glob("*.mat"):
        left_over.unlink()
    return folder / f"{name}.hdr"


def frames(path: Path) -> NDArray[np.float32]:
    return read_nifti(path).array()


EXPECTED = numbers(SHAPE).transpose(3, 2, 1, 0)

# --- pairs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.Nifti2Pair, nib.AnalyzeImage, nib.Spm99AnalyzeImage])
def test_a_pair_is_one_series_however_it_is_named(tmp_path: Path, kind: Any) -> None:
    header = pair(tmp_path / "in", kind)
    image = header.with_suffix(".img")
    for named in ([header], [image], [header, image], [image, header], [tmp_path / "in"], [tmp_path / "in", image]):
        (found,), refused, _ = discover(named)
        assert (found.name, refused) == ("cine", [])
        series = found.open()
        np.testing.assert_array_equal(series.array(), EXPECTED)
        assert series.source.paths == (header, image)
    out = copy(series, tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(np.asarray(nib.load(out).dataobj), numbers(SHAPE))
    np.testing.assert_allclose(read_nifti(out).affine, series.affine, atol=1e-5)


def test_an_analyze_pair_has_voxel_sizes_but_no_orientation(tmp_path: Path) -> None:
    series = read_nifti(pair(tmp_path, nib.AnalyzeImage))
    np.testing.assert_allclose(series.affine, np.diag([1.5, 2, 8, 1]))
    assert any("ANALYZE" in note for note in series.source.notes)
    scaled = pair(tmp_path, nib.Spm99AnalyzeImage, "scaled")
    patch(scaled, 112, struct.pack("<f", 0.5))
    np.testing.assert_array_equal(frames(scaled), EXPECTED * 0.5)


@pytest.mark.parametrize("ends", [(".HDR", ".IMG"), (".hdr.gz", ".img.gz"), (".hdr", ".img.gz"), (".HDR", ".img")])
def test_a_pair_in_capitals_or_compressed(tmp_path: Path, ends: tuple[str, str]) -> None:
    header = pair(tmp_path)
    for path, end in zip((header, header.with_suffix(".img")), ends, strict=True):
        raw = path.read_bytes()
        path.unlink()
        (tmp_path / f"cine{end}").write_bytes(gzip.compress(raw) if end.endswith("gz") else raw)
    for named in (tmp_path, tmp_path / f"cine{ends[0]}", tmp_path / f"cine{ends[1]}"):
        (found,), _, _ = discover([named])
        np.testing.assert_array_equal(found.open().array(), EXPECTED)


@pytest.mark.parametrize("lost", [".hdr", ".img"])
def test_half_a_pair_is_one_sentence(tmp_path: Path, lost: str) -> None:
    header = pair(tmp_path)
    header.with_suffix(lost).unlink()
    left = next(tmp_path.iterdir())
    (found,), _, _ = discover([left])
    with pytest.raises(UnreadableError, match=f"cine{lost} is missing; expected both files of the pair") as caught:
        found.open()
    assert "\n" not in str(caught.value)
    if lost == ".img":
        (found,), _, _ = discover([tmp_path])
        with pytest.raises(UnreadableError, match=r"cine\.img is missing"):
            found.open()
    else:
        with pytest.raises(UnreadableError, match=r"1 x \.img file that is no NIfTI image with its header"):
            discover([tmp_path])


def test_other_formats_that_end_in_hdr(tmp_path: Path) -> None:
    (tmp_path / "scene.hdr").write_text("ENVI\ndescription = {}\n")
    (tmp_path / "scene.img").write_bytes(bytes(100))
    save(tmp_path / "x.nii", numbers(SHAPE))
    found, refused, _ = discover([tmp_path])
    assert ([one.name for one in found], refused) == (["x"], [])


def test_a_file_in_one_piece_under_the_suffix_of_a_header(tmp_path: Path) -> None:
    save(tmp_path / "x.nii", numbers(SHAPE)).rename(tmp_path / "x.hdr")
    np.testing.assert_array_equal(frames(tmp_path / "x.hdr"), EXPECTED)


def test_the_folder_of_results_is_named_after_the_pair(tmp_path: Path) -> None:
    header = pair(tmp_path)
    for path in (header, header.with_suffix(".img")):
        assert resolve_output([path], None) == tmp_path / "cine_cmrsr"


def test_the_longest_name_has_no_sidecar(tmp_path: Path) -> None:
    path = save(tmp_path / "x.nii", numbers(SHAPE)).rename(tmp_path / f"{'x' * 251}.nii")
    np.testing.assert_array_equal(frames(path), EXPECTED)


# --- where the voxels are ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0.0, 1.0, 348.0, 351.5, -1.0, np.nan])
def test_an_offset_inside_the_header_is_none(tmp_path: Path, offset: float) -> None:
    path = save(tmp_path / "x.nii.gz", numbers(SHAPE))
    patch(path, VOX_OFFSET, struct.pack("<f", offset))
    series = read_nifti(path)
    np.testing.assert_array_equal(series.array(), EXPECTED)
    (note,) = series.source.notes
    assert "offset" in note
    assert "352 was used" in note


@pytest.mark.parametrize("offset", [360.0, 1e6, 3e30, np.inf])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_an_offset_beyond_the_file_is_refused(tmp_path: Path, offset: float, suffix: str) -> None:
    path = save(tmp_path / f"x{suffix}", numbers(SHAPE))
    patch(path, VOX_OFFSET, struct.pack("<f", offset))
    with pytest.raises(UnreadableError, match="truncated or damaged"):
        frames(path)


def test_nifti2_voxels_start_at_544(tmp_path: Path) -> None:
    nib.save(nib.Nifti2Image(numbers(SHAPE), np.eye(4)), tmp_path / "x.nii")
    patch(tmp_path / "x.nii", 168, struct.pack("<q", 352))
    np.testing.assert_array_equal(frames(tmp_path / "x.nii"), EXPECTED)


@pytest.mark.parametrize("offset", [0, 352, 368])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_an_offset_inside_the_extensions_is_moved_behind_them(tmp_path: Path, offset: int, suffix: str) -> None:
    image = nib.Nifti1Image(numbers(SHAPE), np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"c" * 50))
    nib.save(image, tmp_path / f"x{suffix}")
    patch(tmp_path / f"x{suffix}", VOX_OFFSET, struct.pack("<f", offset))
    np.testing.assert_array_equal(frames(tmp_path / f"x{suffix}"), EXPECTED)


@pytest.mark.parametrize("size", [0, 8, -16, 17, 0x7FFFFFF0])
def test_extensions_that_are_none_take_no_memory(tmp_path: Path, size: int) -> None:
    path = save(tmp_path / "x.nii", numbers(SHAPE))
    raw = path.read_bytes()
    path.write_bytes(raw[:348] + b"\1\0\0\0" + struct.pack("<ii", size, 6) + bytes(24) + raw[352:])
    patch(path, VOX_OFFSET, struct.pack("<f", 384))
    np.testing.assert_array_equal(frames(path), EXPECTED)


# --- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    "shape", [(32767, 32767, 100, 30), (32767, 32767, 1, 1), (32767,) * 4, (9, 8, 2, 32767), (8193, 8192, 4, 8)]
)
def test_a_shape_that_the_file_cannot_hold(tmp_path: Path, shape: tuple[int, ...], suffix: str) -> None:
    path = save(tmp_path / f"x{suffix}", numbers(SHAPE))
    patch(path, 42, np.array(shape, "<i2").tobytes())
    size, n_bytes = path.stat().st_size, 352 + 2 * int(np.prod(shape, dtype=object))
    tracemalloc.start()
    with pytest.raises(UnreadableError) as caught:
        read_nifti(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20
    assert f"{n_bytes:,} bytes" in str(caught.value)
    assert f"{size:,} bytes" in str(caught.value)
    assert caught.value.exit_code == 3


def test_the_shape_of_nifti2_does_not_wrap(tmp_path: Path) -> None:
    nib.save(nib.Nifti2Image(numbers(SHAPE), np.eye(4)), tmp_path / "x.nii")
    patch(tmp_path / "x.nii", 24, struct.pack("<4q", 2**32, 2**31, 1, 2))  # 2^65 bytes, 0 in 64 bits
    with pytest.raises(UnreadableError, match=r"36,893,488,147,419,103,776 bytes"):
        read_nifti(tmp_path / "x.nii")


@pytest.mark.parametrize(
    "dims", [(0, 9, 8, 2, 4), (8, 9, 8, 2, 4), (-4, 9, 8, 2, 4), (4, 9, -8, 2, 4), (4, 9, 0, 2, 4)]
)
def test_dimensions_that_are_none(tmp_path: Path, dims: tuple[int, ...]) -> None:
    path = save(tmp_path / "x.nii", numbers(SHAPE))
    patch(path, 40, np.array(dims, "<i2").tobytes())
    with pytest.raises(UnreadableError, match="damaged NIfTI header"):
        read_nifti(path)


def test_an_image_that_hardly_takes_any_room_is_a_bomb(tmp_path: Path) -> None:
    """By sizes alone: the file is not decompressed."""
    path = save(tmp_path / "x.nii.gz", numbers(SHAPE))
    with path.open("ab") as stream:
        stream.truncate(2**22)
    header = nib.load(save(tmp_path / "plain.nii", numbers(SHAPE))).header
    with pytest.raises(UnreadableError, match="save it uncompressed"):
        find_voxels(path, header, (2048, 2048, 1, 500), 2, [])
    with (tmp_path / "plain.nii").open("ab") as stream:
        stream.truncate(2**32 + 2**31)  # as it says; a file with a hole
    assert find_voxels(tmp_path / "plain.nii", header, (2048, 2048, 1, 500), 2, []).offset == 352


def test_what_follows_the_image_is_not_read(tmp_path: Path) -> None:
    path = save(tmp_path / "x.nii.gz", numbers(SHAPE))
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(2**25)))
    tracemalloc.start()
    np.testing.assert_array_equal(frames(path), EXPECTED)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22


# --- axes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 8, 2, 1, 5), (6, 8, 1, 1, 5), (6, 8, 2, 1, 1, 5), (6, 8, 2, 1, 5, 1)])
@pytest.mark.parametrize("step_at", [4, 5])
def test_time_on_a_later_axis(tmp_path: Path, shape: tuple[int, ...], step_at: int) -> None:
    path = save(tmp_path / "x.nii.gz", numbers(shape), step=1.0)
    axis = step_at if step_at == 4 else shape.index(5) + 1
    patch(path, 76 + 4 * axis, struct.pack("<f", 0.5))
    series = read_nifti(path)
    assert series.shape == (5, shape[2], 8, 6)
    np.testing.assert_array_equal(series.array().ravel(), numbers(shape).ravel(order="F"))
    np.testing.assert_allclose(series.times_ms, np.arange(5) * 500.0)  # type: ignore[arg-type]
    out = nib.load(copy(series, tmp_path / "out.nii"))
    assert out.shape == (6, 8, shape[2], 5)
    assert out.header.get_zooms()[3] == 0.5


@pytest.mark.parametrize("code", [3, 1005, 1006, 1007, 2003])  # t test, symmetric matrix, displacement, vector, RGB
def test_components_on_the_fifth_axis_are_no_time(tmp_path: Path, code: int) -> None:
    with pytest.raises(UnusableError, match=rf"components \(intent {code}\).*expected at most \(x, y, z, t\)"):
        read_nifti(save(tmp_path / "x.nii", numbers((6, 8, 2, 1, 3)), intent_code=code))


def test_five_axes(tmp_path: Path) -> None:
    series = read_nifti(save(tmp_path / "x.nii", numbers((6, 5, 2, 3, 1))))
    assert series.shape == (3, 2, 5, 6)
    assert nib.load(copy(series, tmp_path / "out.nii")).shape == (6, 5, 2, 3)
    with pytest.raises(UnusableError, match=r"more than one axis.*at most \(x, y, z, t\)"):
        read_nifti(save(tmp_path / "y.nii", numbers((6, 5, 2, 3, 4))))


def test_more_frames_than_nifti1_counts(tmp_path: Path) -> None:
    series = read_nifti(save(tmp_path / "x.nii", numbers((1, 1, 1, 3))))
    n = 2**15
    with nifti_writer(tmp_path / "y.nii", series, shape=(n, 1, 1, 1), affine=series.affine, description="") as writer:
        for t in range(n):
            writer.write(np.full((1, 1, 1), t, np.float32))
    out = nib.load(tmp_path / "y.nii")
    assert isinstance(out, nib.Nifti2Image)
    np.testing.assert_allclose(out.affine, series.affine)
    np.testing.assert_array_equal(np.asarray(out.dataobj).ravel()[:5], range(5))


def test_a_type_of_more_than_64_bits(tmp_path: Path) -> None:
    path = save(tmp_path / "x.nii", numbers((8, 8, 1, 8)))
    patch(path, 70, struct.pack("<hh", 1536, 128))
    with pytest.raises(UnusableError, match="at most 64 bits"):
        read_nifti(path)


# --- text that is not carried over ------------------------------------------------------------------------------------


def test_text_of_a_header_stays_behind(tmp_path: Path) -> None:
    secret = b"DOE^JANE"
    image = nib.Nifti1Image(numbers(SHAPE), np.eye(4))
    for field in ("aux_file", "db_name", "data_type", "intent_name", "descrip"):
        image.header[field] = secret
    for code in (6, 2, 4):  # comment, DICOM, AFNI
        image.header.extensions.append(nib.nifti1.Nifti1Extension(code, secret))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", OURS))
    nib.save(image, tmp_path / "x.nii")
    assert (tmp_path / "x.nii").read_bytes().count(secret) == 8
    series = read_nifti(tmp_path / "x.nii")
    out = copy(series, tmp_path / "y.nii")
    assert secret not in out.read_bytes()
    assert [e.get_content() for e in nib.load(out).header.extensions] == [OURS, b"a copy"]
    assert any("3 header extensions" in note for note in series.source.notes)
    assert any("aux_file, db_name, data_type, intent_name" in note for note in series.source.notes)
    assert not any(secret.decode() in note for note in series.source.notes)


def test_a_header_without_text_has_nothing_to_note(tmp_path: Path) -> None:
    assert read_nifti(save(tmp_path / "x.nii", numbers(SHAPE))).source.notes == ()


def test_an_intent_is_kept_where_it_is_true_of_a_result(tmp_path: Path) -> None:
    for code, kept in ((1001, 1001), (3, 0)):
        series = read_nifti(save(tmp_path / "x.nii", numbers(SHAPE), intent_code=code, intent_p1=7))
        assert nib.load(copy(series, tmp_path / "y.nii")).header["intent_code"] == kept
        assert nib.load(copy(series, tmp_path / "z.nii", dtype="uint8")).header["intent_code"] == 0
