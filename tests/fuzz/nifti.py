"""Damaged NIfTI files from discovery to a written result: ``python -m tests.fuzz.nifti --number 10000 --seed 1``."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from cmrsr.io.discover import discover
from cmrsr.io.nifti.series import nifti_writer, read_nifti
from cmrsr.io.series import Series
from cmrsr.io.survey import survey
from tests.fuzz.harness import command

Generator = np.random.Generator
Mutation = Callable[[bytearray, Generator], bytearray]
DTYPES = ("u1", "i2", "u2", "i4", "f4", "f8")
SHAPES = ((12, 10, 1, 4), (8, 9, 2, 3), (16, 8, 3), (9, 8, 5), (8, 8, 1, 1, 4))
EXTREMES: dict[str, tuple[Any, ...]] = {
    "i": (
        0,
        1,
        -1,
        2,
        3,
        5,
        7,
        8,
        100,
        255,
        348,
        1001,
        1007,
        -(2**15),
        2**15 - 1,
        2**31 - 1,
        -(2**31),
        2**40,
        2**63 - 1,
    ),
    "f": (0.0, -0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, 1e38, -1e38, 1e-45, 1e-30, 1e30, 0.5, 351.0, 353.5, 9e9, 2.0),
    "S": (b"", b"\xff" * 80, b"n+1", b"ni1", b"ni2", b"patient name"),
}


# --- whole files ------------------------------------------------------------------------------------------------------


def seed_file(rng: Generator) -> bytearray:
    """A sound file: NIfTI-1 or -2, either byte order, several types, matrices and extensions."""
    shape = SHAPES[rng.integers(len(SHAPES))]
    order = "<>"[rng.integers(2)]
    dtype = np.dtype(order + DTYPES[rng.integers(len(DTYPES))])
    data = rng.integers(1, 200, shape).astype(dtype)
    affine = np.diag([-1.5, 1.5, 8.0, 1.0])
    affine[:2, :2] = 1.5 * np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    kind = (nib.Nifti1Image, nib.Nifti2Image)[rng.integers(2)]
    header = kind.header_class(endianness=order)
    image = kind(data, affine, header, dtype=dtype)
    image.set_sform(affine, int(rng.integers(3)))
    image.set_qform(affine, int(rng.integers(3)))
    image.header.set_xyzt_units("mm", ("sec", "msec", "usec", "unknown")[rng.integers(4)])
    image.header.set_zooms([1.5, 1.5, 8.0, *[(0.04, 40.0, 0.8, 1.0)[rng.integers(4)]] * (len(shape) - 3)])
    if len(shape) == 3:
        image.header.set_dim_info(0, 1, 2)
    if rng.integers(3) == 0:
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", rng.bytes(int(rng.integers(1, 90)))))
    return bytearray(image.to_bytes())


def header_fields(raw: bytearray) -> np.dtype[Any]:
    """The layout of the header at the start of a sound file."""
    kind = nib.Nifti2Header if 540 in (int.from_bytes(raw[:4], o) for o in ("little", "big")) else nib.Nifti1Header
    order = "<" if raw[0] else ">"
    return np.dtype(kind.template_dtype).newbyteorder(order)  # type: ignore[return-value]


# --- mutations --------------------------------------------------------------------------------------------------------


def bytes_of_header(raw: bytearray, rng: Generator) -> bytearray:
    for _ in range(rng.integers(1, 9)):
        raw[rng.integers(min(len(raw), 544))] = rng.integers(256)
    return raw


def bytes_anywhere(raw: bytearray, rng: Generator) -> bytearray:
    for _ in range(rng.integers(1, 9)):
        raw[rng.integers(len(raw))] = rng.integers(256)
    return raw


def extreme_field(raw: bytearray, rng: Generator) -> bytearray:
    """One number of one field, or several of it."""
    fields = header_fields(raw)
    assert fields.names is not None
    if len(raw) < fields.itemsize:
        return raw
    header = np.frombuffer(bytes(raw[: fields.itemsize]), fields).copy()
    name = ("dim", "pixdim", *fields.names)[rng.integers(len(fields.names) + 2)]
    values = header[name].reshape(-1)
    chosen = EXTREMES["S" if values.dtype.kind == "S" else "f" if values.dtype.kind == "f" else "i"]
    for _ in range(1 if rng.integers(2) else values.size):
        value = chosen[rng.integers(len(chosen))]
        if values.dtype.kind in "iu":
            limits = np.iinfo(values.dtype)
            value = min(max(value, limits.min), limits.max)
        with np.errstate(over="ignore"):
            values[rng.integers(values.size)] = value
    raw[: fields.itemsize] = header.tobytes()
    return raw


def bad_matrix(raw: bytearray, rng: Generator) -> bytearray:
    """Numbers of both matrices, whatever their codes say."""
    fields = header_fields(raw)
    assert fields.fields is not None
    for name in ("srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "pixdim"):
        dtype, at = fields.fields[name][:2]
        if rng.integers(2) or len(raw) < at + dtype.itemsize:
            continue
        values = np.frombuffer(bytes(raw[at : at + dtype.itemsize]), dtype.base).copy()
        with np.errstate(over="ignore"):
            values[rng.integers(values.size)] = rng.choice([np.nan, np.inf, 0, 1, 2, -1, 1e30, 1e-30, rng.normal()])
        raw[at : at + dtype.itemsize] = values.tobytes()
    return raw


def cut(raw: bytearray, rng: Generator) -> bytearray:
    return raw[: rng.integers(len(raw))]


def longer(raw: bytearray, rng: Generator) -> bytearray:
    return raw + (bytes(100_000) if rng.integers(2) else rng.bytes(int(rng.integers(1, 2000))))


def bad_extension(raw: bytearray, rng: Generator) -> bytearray:
    """The flag set, and blocks of any size between the header and the voxels."""
    size = header_fields(raw).itemsize
    block = b""
    for _ in range(rng.integers(0, 3)):
        announced = int(rng.choice([0, 8, 16, 32, 48, -16, 2**31 - 1, 0x7FFFFFF0, 17]))
        block += struct.pack("<ii", announced, int(rng.choice([0, 2, 4, 6, 44, -1]))) + rng.bytes(int(rng.integers(40)))
    return raw[:size] + b"\1\0\0\0" + block + raw[size + 4 :]


def bad_voxels(raw: bytearray, rng: Generator) -> bytearray:
    """A run of bytes that are NaN in floats of any width."""
    at, n = int(rng.integers(min(540, len(raw) - 1), len(raw))), int(rng.integers(1, 3000))
    raw[at : at + n] = b"\xff" * len(raw[at : at + n])
    return raw


def other_byte_order(raw: bytearray, rng: Generator) -> bytearray:
    """The header alone."""
    fields = header_fields(raw)
    if len(raw) < fields.itemsize:
        return raw
    header = np.frombuffer(bytes(raw[: fields.itemsize]), fields)
    raw[: fields.itemsize] = header.byteswap().tobytes()
    return raw


MUTATIONS: tuple[Mutation, ...] = (
    bytes_of_header, extreme_field, extreme_field, extreme_field, bad_matrix, bytes_anywhere, cut, longer,
    bad_extension, bad_voxels, other_byte_order,
)  # fmt: skip


def damaged_gzip(packed: bytes, rng: Generator) -> bytes:
    """Flipped, cut, followed by something, or twice the same."""
    raw = bytearray(packed)
    match int(rng.integers(5)):
        case 0:
            return bytes(bytes_anywhere(raw, rng))
        case 1:
            return bytes(cut(raw, rng))
        case 2:
            return bytes(longer(raw, rng))
        case 3:
            return packed + packed
        case _:
            return packed + gzip.compress(bytes(2**24), 9)


def make(rng: Generator, folder: Path) -> None:
    """One mutant: a file in one piece, plain or gzip, or a pair."""
    raw = seed_file(rng)
    n_header = header_fields(raw).itemsize
    for _ in range(rng.integers(1, 4)):
        if len(raw) > n_header // 2:
            raw = MUTATIONS[rng.integers(len(MUTATIONS))](raw, rng)
    form = rng.integers(8)
    if form < 3:
        (folder / "cine.nii").write_bytes(raw)
    elif form < 6:
        packed = gzip.compress(bytes(raw), 1, mtime=0)
        (folder / "cine.nii.gz").write_bytes(damaged_gzip(packed, rng) if rng.integers(3) == 0 else packed)
    else:
        header, image = bytearray(raw[:n_header]), raw[n_header + 4 :]
        at = 4 if n_header == 540 else 344
        if rng.integers(3):
            header[at : at + 2] = b"ni" if rng.integers(4) else b"\0\0"  # a pair of NIfTI or of ANALYZE 7.5
            header[108:112] = bytes(4) if n_header == 348 else header[108:112]
        which = rng.integers(10)
        if which != 0:
            (folder / ("cine.hdr" if which < 9 else "cine.HDR")).write_bytes(header)
        if which != 1:
            (folder / "cine.img").write_bytes(image)


# --- the reader -------------------------------------------------------------------------------------------------------


def read(folder: Path) -> None:
    """Find, open and survey the series, and write results on its own grid and on a finer one that read back alike."""
    candidates, refused, _ = discover([folder])
    for one in refused:
        raise one.error
    for candidate in candidates:
        series = candidate.open()
        survey(series)
        finer = np.diag([0.5, 0.5, 1.0, 1.0])
        n_t, n_z, n_y, n_x = series.shape
        for n_frames, shape, affine in (
            (n_t, series.shape, series.affine),
            (2 * n_t, (2 * n_t, n_z, 2 * n_y, 2 * n_x), series.affine @ finer),
        ):
            times_ms = series.times_ms if n_frames == n_t else np.arange(n_frames) * 20.0
            path = folder / "out" / "result.nii"
            with nifti_writer(
                path, series, shape=shape, affine=affine, times_ms=times_ms, description="a result"
            ) as writer:  # fmt: skip
                for t in range(n_frames):
                    writer.write(np.resize(series.frame(t % n_t), shape[1:]).astype(np.float32))
            _check(read_nifti(path, time_axis=3 if n_frames > 1 else "none"), shape, affine)


def _check(again: Series, shape: tuple[int, ...], affine: NDArray[np.float64]) -> None:
    assert again.shape == shape, (again.shape, shape)
    reach = np.abs(affine[:3]).max()
    np.testing.assert_allclose(again.affine, affine, rtol=1e-3, atol=1e-4 * reach)
    for frame in again:
        assert np.isfinite(frame).all()


if __name__ == "__main__":
    raise SystemExit(command(make, read, __doc__))
