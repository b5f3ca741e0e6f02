"""NIfTI in and out, one frame at a time, the header kept.

A frame of a standard file (x, y, z, t) is one contiguous block, x fastest: read and written straight as ``(z, y, x)``.
"""

import functools
import gzip
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from cmrsr.errors import OutputError
from cmrsr.io.background import Mask, background_of, find_background, put_back, without_background
from cmrsr.io.nifti.file import (
    Voxels,
    find_voxels,
    open_nifti,
    pair_header,
    read_exactly,
    read_header,
    reading,
    reason,
)
from cmrsr.io.nifti.file import (
    nifti_stem as nifti_stem,
)
from cmrsr.io.nifti.header import (
    Affine,
    FileAxes,
    TimeAxis,
    check_dtype,
    choose_axes,
    file_shape,
    read_affine,
    read_phase_axis,
    standard_header,
)
from cmrsr.io.nifti.output import StoredType, output_header
from cmrsr.io.nifti.sidecar import read_sidecar
from cmrsr.io.nifti.times import lists_inversions, series_times
from cmrsr.io.outputs import output_errors, replacing
from cmrsr.io.series import FrameReader, Kind, Series, Shape, Source

_CACHED_FRAMES = 8  # going back in a gzip stream means starting over: keep what a batch or a pair of neighbours needs
_GZIP_LEVEL = 1
_KINDS: tuple[tuple[str, Kind], ...] = (
    (r"perf", "perfusion"),
    (r"(?<![a-z])cine", "cine"),
    (r"(?<![a-z])lge(?![a-z])", "lge"),
    (r"(?<![a-z0-9])t1(?!\d)|molli", "t1"),
    (r"(?<![a-z])(stress|rest)(?![a-z])", "perfusion"),
)


def read_nifti(path: Path, *, time_axis: TimeAxis = None) -> Series:
    """A NIfTI-1 or -2 file as a series of float32 frames, each read (and scaled) when asked for; frames are read-only.

    path: a file in one piece, or either of a pair (.hdr, .img); ANALYZE 7.5 pairs read as well.
    time_axis: the file axis that is time, 0 the first; "none" for a single volume. Needed for 3-D files that may be
    either. With time first the others are taken as z, y, x (an array (t, [z,] y, x) saved as it was), otherwise as
    x, y, z. A file whose time axis is not the last is held in memory in its stored type.
    Times are taken from a BIDS sidecar where one lists them, otherwise from the header's step where that can be true.
    Inversion times listed there make it a T1 series, whatever its name is, and say that the third axis of a 3-D file is
    time; nothing else gives the times of a T1 series.
    Voxels that are NaN in every frame read as 0, and are NaN in float results.
    UnreadableError: not NIfTI, or truncated (also when a frame is read), or sizes that the file cannot hold.
    UnusableError: ambiguous or too many axes, complex or colour voxels, a geometry that is none, NaN in some frames.
    """
    notes: list[str] = []
    path = pair_header(path)
    header = read_header(path, notes)
    dtype = check_dtype(path, header)
    in_file = file_shape(header)
    stem = nifti_stem(path)
    sidecar = read_sidecar(path, stem, notes)
    listed = time_axis is None and len(in_file) == 3 and lists_inversions(sidecar, in_file[2])
    time_axis = 2 if listed else time_axis
    axes = choose_axes(path, header, in_file, time_axis)
    voxels = find_voxels(path, header, in_file, dtype.itemsize, notes)
    n_t, n_z, n_y, n_x = (1 if a is None else in_file[a] for a in (axes.t, axes.z, axes.y, axes.x))
    shape = (n_t, n_z, n_y, n_x)
    frames: _StreamedFrames | _HeldFrames
    if axes.standard:
        frames = _StreamedFrames(voxels, header, dtype, shape)
    else:
        frames = _HeldFrames(voxels, header, dtype, in_file, axes)
        header = standard_header(header, in_file, axes)
        why = f"{stem}.json lists an inversion time for each" if listed else "as asked for"
        notes.append(f"time is axis {axes.t} of the file, {why}")
    kind: Kind = next((found for pattern, found in _KINDS if re.search(pattern, stem.lower())), "unknown")
    kind, times_ms = series_times(header, sidecar, f"{stem}.json", (n_t, n_z), kind, notes)
    affine = read_affine(header, notes)
    reader: FrameReader = frames.read
    background = None
    if dtype.kind == "f":
        background = find_background(str(path), reader, n_t)
        frames.close()  # many series may be open at once
    if background is not None:
        reader = without_background(str(path), reader, background, n_t)
        share = float(background.mean())
        notes.append(f"{share:.1%} of the voxels are NaN or infinite in every frame: taken as 0, and NaN in the result")
    return Series(
        shape=shape,
        affine=affine,
        reader=functools.lru_cache(maxsize=_CACHED_FRAMES)(reader),
        times_ms=times_ms,
        kind=kind,
        phase_axis=read_phase_axis(header),
        source=Source(
            name=stem,
            format="nifti",
            paths=(path,) if voxels.path == path else (path, voxels.path),
            header=header,
            notes=tuple(notes),
            background=background,
        ),
    )


def _scaled(raw: NDArray[Any], header: Any) -> NDArray[np.float32]:
    slope, inter = header.get_slope_inter()
    with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 is infinity
        if slope in (None, 1.0) and not inter:
            values = raw.astype(np.float32)
        else:
            values = (raw.astype(np.float64) * slope + inter).astype(np.float32)
    values.flags.writeable = False  # the cache hands the same array out again
    return values


class _StreamedFrames:
    """Frames of a standard file from one stream that stays open: reading forward decompresses every byte once."""

    def __init__(self, voxels: Voxels, header: Any, dtype: np.dtype[Any], shape: Shape) -> None:
        self._voxels, self._header, self._dtype, self._shape = voxels, header, dtype, shape
        self._n_bytes = voxels.n_bytes // shape[0]
        self._stream: BinaryIO | gzip.GzipFile | None = None
        self._lock = threading.Lock()

    def read(self, t: int) -> NDArray[np.float32]:
        n_frames = self._shape[0]
        if not 0 <= t < n_frames:
            raise IndexError(f"frame {t} of {n_frames}")
        with self._lock, reading(self._voxels.path, f"{n_frames} frames, failed at frame {t + 1}"):
            if self._stream is None:
                self._stream = open_nifti(self._voxels.path)
            self._stream.seek(self._voxels.offset + t * self._n_bytes)
            data = read_exactly(self._stream, self._n_bytes)
            if t == n_frames - 1:
                self._stream.read(1)  # passes the end of the gzip stream, where its checksum is verified
                self.close()
            return _scaled(np.frombuffer(data, self._dtype).reshape(self._shape[1:]), self._header)

    def close(self) -> None:
        """Until a frame is read again."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def __del__(self) -> None:
        self.close()


class _HeldFrames:
    """Frames of a file whose time axis is not the slowest: each is spread over the whole file, so that is held."""

    def __init__(
        self, voxels: Voxels, header: Any, dtype: np.dtype[Any], in_file: tuple[int, ...], axes: FileAxes
    ) -> None:
        self._header = header
        with reading(voxels.path, f"shape {in_file}"), open_nifti(voxels.path) as stream:
            stream.seek(voxels.offset)
            data = read_exactly(stream, voxels.n_bytes)
            stream.read(1)  # as above
        order = [a for a in (axes.t, axes.z, axes.y, axes.x) if a is not None]
        singletons = [a for a in range(len(in_file)) if a not in order]
        frames = np.frombuffer(data, dtype).reshape(in_file, order="F").transpose([*order, *singletons])
        frames = frames.reshape(frames.shape[: len(order)])
        self._frames = frames if axes.z is not None else frames[:, None]

    def read(self, t: int) -> NDArray[np.float32]:
        return _scaled(np.ascontiguousarray(self._frames[t]), self._header)

    def close(self) -> None:
        """Nothing is open."""


class NiftiWriter:
    """Takes the frames of one file in order; made by ``nifti_writer``."""

    def __init__(self, path: Path, partial: Path, header: Any, shape: Shape, background: Mask | None = None) -> None:
        self._path, self._shape, self._count, self._background = path, shape, 0, background
        self._dtype: np.dtype[Any] = header.get_data_dtype()
        slope, inter = header.get_slope_inter()
        self._slope, self._inter = slope or 1.0, inter or 0.0
        with output_errors(path):
            self._raw = partial.open("wb")
            self._stream: Any = self._raw
            if path.suffix.lower() == ".gz":
                # Neither name nor time in the gzip header: equal inputs give equal bytes.
                self._stream = gzip.GzipFile("", "wb", _GZIP_LEVEL, self._raw, mtime=0)
            header.write_to(self._stream)

    def write(self, frame: NDArray[np.floating[Any]]) -> None:
        """Append the next time point, ``(z, y, x)``; integers are rounded and clipped to the stored type.

        Floats are NaN in the background of the source; integers have no such value and are 0.
        """
        if frame.shape != self._shape[1:] or self._count == self._shape[0]:
            raise ValueError(f"frame {self._count + 1} of shape {frame.shape}, expected a series of {self._shape}")
        values = put_back(frame, self._background, np.nan if self._dtype.kind == "f" else 0)
        if self._dtype.kind != "f":
            limits = np.iinfo(self._dtype)
            top = float(limits.max)
            if top > limits.max:  # float64 rounds the limit of 64-bit integers up, out of their range
                top = float(np.nextafter(top, 0))
            with np.errstate(over="ignore"):  # a slope next to 0
                values = np.rint((values.astype(np.float64) - self._inter) / self._slope).clip(float(limits.min), top)
        with output_errors(self._path):
            self._stream.write(values.astype(self._dtype).tobytes())
        self._count += 1

    def finish(self) -> None:
        """Close the file; ValueError unless every frame was written."""
        self.close()
        if self._count != self._shape[0]:
            raise ValueError(f"{self._path}: {self._count} frames written, expected {self._shape[0]}")

    def close(self) -> None:
        with output_errors(self._path):
            try:
                self._stream.close()
            finally:
                self._raw.close()  # a GzipFile leaves the file it was given open


@contextmanager
def nifti_writer(
    path: Path,
    like: Series,
    *,
    shape: Shape,
    affine: Affine,
    times_ms: NDArray[np.float64] | None = None,
    dtype: StoredType = "same",
    description: str,
) -> Iterator[NiftiWriter]:
    """Write a series frame by frame to ``path`` (``.nii`` or ``.nii.gz``), which appears only when all went well.

    The header of a NIfTI ``like`` is kept (stored type and scaling, units, both matrices with their codes), but for
    text that may hold names; float types become float32, and only what ``shape``, ``affine`` and ``times_ms`` change is
    rewritten. What is NaN in every frame of ``like`` is NaN in floats, of the result and of its uncertainty: nothing
    was measured there.
    A ``like`` of another origin gets a new float32 header: the range of its values is not known before the last frame.
    Any other ``dtype`` is stored without a scale: whole numbers are rounded and clipped to the type.
    times_ms: None where unknown. NIfTI holds one step only: of uneven times it gets the mean, the sidecar has them all.
    OutputError if it cannot be written.
    """
    try:
        header = output_header(like, shape, affine, times_ms, dtype, description)
    except HeaderDataError as error:
        raise OutputError(f"{path}: cannot be put into a NIfTI header ({reason(error)})") from error
    with replacing(path) as partial:
        writer = NiftiWriter(path, partial, header, shape, background_of(like, shape, affine))
        try:
            yield writer
            writer.finish()
        finally:
            writer.close()
