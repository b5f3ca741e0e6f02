"""A series as a folder of single-frame MR images: a new, derived series of the source's study."""

import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from cmrsr.errors import OutputError
from cmrsr.io.derivation import Derivation
from cmrsr.io.dicom.read.group import DicomStack
from cmrsr.io.dicom.read.instance import DicomInstance
from cmrsr.io.dicom.uid import IMPLEMENTATION_UID, root_of
from cmrsr.io.dicom.write.image import Also, Between, Result, image_header, plan_result
from cmrsr.io.dicom.write.scale import Range, Scale, choose_scale, exact_scale
from cmrsr.io.dicom.write.source_tags import put
from cmrsr.io.outputs import output_errors
from cmrsr.io.series import Series, Shape

WINDOW_PERCENTILES = (1.0, 99.5)
ScaleOf = Callable[[int, int, NDArray[np.float32]], Scale]  # of image (t, z), with these pixels


class DicomWriter:
    """Takes the frames of one series in order. Scale and window need all of them, so they wait in a scratch file.

    ``notes`` says, once the series is written, what of the source's header was mended.
    """

    def __init__(self, scratch: IO[bytes], shape: Shape, folder: Path) -> None:
        self.notes: list[str] = []
        self.written = 0
        self.ranges: list[Range] = []  # of every frame
        self.window = [np.inf, -np.inf]
        self._scratch = scratch
        self._shape = shape
        self._folder = folder

    def write(self, frame: NDArray[np.float32]) -> None:
        """The next time point ``(z, y, x)``. Raises OutputError on NaN or infinite values."""
        if frame.shape != self._shape[1:] or self.written == self._shape[0]:
            raise ValueError(f"expected {self._shape[0]} frames of {self._shape[1:]}, got {frame.shape} as one more")
        if not np.isfinite(frame).all():
            raise OutputError(f"frame {self.written + 1} of the result holds NaN or infinite values; not written")
        data = np.ascontiguousarray(frame, dtype="<f4")
        with output_errors(self._folder):
            self._scratch.write(data.tobytes())
        self.ranges.append((float(data.min()), float(data.max())))
        low, high = np.percentile(data, WINDOW_PERCENTILES)
        self.window = [min(self.window[0], float(low)), max(self.window[1], float(high))]
        self.written += 1

    def frames(self) -> Iterator[NDArray[np.float32]]:
        """All frames again, in order."""
        self._scratch.seek(0)
        count = int(np.prod(self._shape[1:]))
        for _ in range(self.written):
            yield np.frombuffer(self._scratch.read(4 * count), dtype="<f4").reshape(self._shape[1:])


@contextmanager
def dicom_writer(
    folder: Path,
    like: Series,
    derivation: Derivation,
    *,
    shape: Shape,
    affine: NDArray[np.float64],
    times_ms: NDArray[np.float64] | None = None,
    between: Between | None = None,
    series_offset: int = 0,
    description_suffix: str = "SR",
    also: Also = (),
    synthetic: bool = False,
) -> Iterator[DicomWriter]:
    """Write a series ``shape`` = (t, z, y, x) derived from ``like`` into ``folder`` as IM_0001.dcm and so on, by time.

    The folder appears whole on a clean exit and not at all on an exception; one with an earlier result is replaced.
    ``times_ms`` (t,) or (t, z): needed where the number of frames differs from the source's.
    ``between``: where frames are new, of each the frames of ``like`` it lies between, one for an acquired frame. Every
    image then says which it is, and integers of acquired images come back bit for bit.
    ``also``: of each slice, further source images. ``synthetic``: marked as what no scanner acquired.
    A series that is not from DICOM gets a study of its own, dated 1900-01-01, without a person's name.
    Raises OutputError when the folder cannot be written or holds anything else.
    """
    with output_errors(folder):
        free = not folder.exists() or all(re.fullmatch(r"IM_\d+\.dcm", p.name) for p in folder.iterdir())
    if not free:
        raise OutputError(f"{folder} holds other files than an earlier result; name another folder with -o")
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        with output_errors(folder):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        with (partial / "frames.scratch").open("w+b") as scratch:
            writer = DicomWriter(scratch, shape, folder)
            yield writer
            if writer.written != shape[0]:
                raise ValueError(f"expected {shape[0]} frames, got {writer.written}")
            result = plan_result(
                like, derivation, shape=shape, affine=affine, times_ms=times_ms, between=between,
                offset=series_offset, root=root_of(like, derivation), suffix=description_suffix, also=also,
                synthetic=synthetic,
            )  # fmt: skip
            with output_errors(folder):
                _write_files(partial, writer, result)
        with output_errors(folder):
            (partial / "frames.scratch").unlink()
            take_place(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def take_place(partial: Path, folder: Path) -> None:
    """Rename onto ``folder``; an earlier result is set aside first, because only an empty folder can be replaced."""
    old = folder.with_name(f".{folder.name}.old.partial")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _write_files(folder: Path, writer: DicomWriter, result: Result) -> None:
    scale_of = _scale_of(writer, result)
    notes = dict.fromkeys(result.notes)
    for t, frame in enumerate(writer.frames()):
        for z, pixels in enumerate(frame):
            ds, mended = image_header(result, t, z)
            notes.update(dict.fromkeys(mended))
            put_pixels(ds, pixels, scale_of(t, z, pixels), writer.window)
            save_dicom(ds, folder / f"IM_{t * result.shape[1] + z + 1:04d}.dcm")
    writer.notes.extend(notes)


def _scale_of(writer: DicomWriter, result: Result) -> ScaleOf:
    """One scale for all images, but of each its own where acquired images are passed on that have none in common."""
    like, between, everything = result.like, result.between, _range(writer.ranges)
    exact: set[Scale | None] = set()
    if between is not None:
        kept = _range(own for own, sources in zip(writer.ranges, between, strict=True) if len(sources) == 1)
        exact = {exact_scale(stored, kept, everything) for stored in _stored_scales(like)}
        if len(exact) > 1:
            table = like.source.header.table
            return lambda t, z, pixels: _own_scale(table[between[t][0]][z], pixels)
    one = (exact.pop() if exact else None) or _common_scale(like, *everything)
    return lambda t, z, pixels: one


def _common_scale(like: Series, low: float, high: float) -> Scale:
    """Magnitudes are clipped at zero; the source's own rescale matters where all its images share one."""
    stack = like.source.header
    if not isinstance(stack, DicomStack):
        return choose_scale(low, high, None)
    if stack.table[0][0].component == "magnitude":
        low = max(low, 0.0)
    stored = _stored_scales(like)
    return choose_scale(low, max(high, low), stored.pop() if len(stored) == 1 else None)


def _own_scale(source: DicomInstance, pixels: NDArray[np.float32]) -> Scale:
    own = (float(pixels.min()), float(pixels.max()))
    return exact_scale((source.slope, source.intercept), own, own) or choose_scale(*own, None)


def _stored_scales(like: Series) -> set[tuple[float, float]]:
    """(slope, intercept) of the integers that the images of a series are stored in, none where they are not."""
    header = like.source.header
    if isinstance(header, DicomStack):
        return {(image.slope, image.intercept) for row in header.table for image in row}
    if like.source.format == "nifti" and header.get_data_dtype().kind in "iu":
        slope, intercept = header.get_slope_inter()
        return {(slope or 1.0, intercept or 0.0)}
    return set()


def _range(ranges: Iterable[Range]) -> Range:
    low, high = zip(*ranges, strict=True)
    return min(low), max(high)


def put_pixels(ds: Dataset, pixels: NDArray[np.float32], scale: Scale, window: list[float]) -> None:
    """Pixels (y, x) as 16-bit integers, with the scale that leads back and the display window."""
    low, high = window
    put(ds, "SamplesPerPixel", 1)
    put(ds, "Rows", pixels.shape[0])
    put(ds, "Columns", pixels.shape[1])
    put(ds, "BitsAllocated", 16)
    put(ds, "BitsStored", 16)
    put(ds, "HighBit", 15)
    put(ds, "PixelRepresentation", int(scale.signed))
    put(ds, "WindowCenter", (low + high) / 2)
    put(ds, "WindowWidth", max(high - low, scale.slope))
    if high - low < 1:
        put(ds, "VOILUTFunction", "LINEAR_EXACT")  # the default does not allow a window narrower than 1
    if not scale.is_identity:
        put(ds, "RescaleIntercept", scale.intercept)
        put(ds, "RescaleSlope", scale.slope)
        put(ds, "RescaleType", "US")
    ds.add_new("PixelData", "OW", scale.store(pixels).tobytes())


def save_dicom(ds: Dataset, path: Path) -> None:
    """Write a dataset as a DICOM file in explicit little endian."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_UID
    meta.ImplementationVersionName = "CMRSR"
    ds.file_meta = meta
    ds.save_as(path, enforce_file_format=True)
