"""Where the frames of one result go: NIfTI files, or DICOM images and a Parametric Map."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from cmrsr.io.background import Mask, background_of, put_back
from cmrsr.io.derivation import Derivation
from cmrsr.io.outputs import output_errors, replacing
from cmrsr.io.series import Series, Shape

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The result of a series: its shape (t, z, y, x), affine and times, (t,) or (t, z), None where unknown.

    between: where frames are new, of each the source frames it lies between, one for an acquired frame itself.
    """

    shape: Shape
    affine: NDArray[np.float64]
    times_ms: NDArray[np.float64] | None
    between: tuple[tuple[int, ...], ...] | None = None


class Frame(Protocol):
    """One time point of a result (z, y, x) and its uncertainty, None for a single sample."""

    @property
    def output(self) -> Array: ...
    @property
    def std(self) -> Array | None: ...


class Sink(Protocol):
    """Takes the frames of one case in order; ``notes`` and ``outputs`` are complete once its context is left."""

    notes: list[str]

    def write(self, frame: Frame) -> None: ...
    def conclude(self, findings: object) -> None:
        """Take what a task found in all frames together, after the last one; most formats have no place for it."""
        ...

    def outputs(self) -> list[Path]: ...


@dataclass(slots=True)
class _NiftiSink:
    image: Any
    std: Any
    paths: list[Path]
    notes: list[str] = field(default_factory=list)

    def write(self, frame: Frame) -> None:
        self.image.write(frame.output)
        if self.std is not None:
            self.std.write(frame.std)

    def conclude(self, findings: object) -> None: ...

    def outputs(self) -> list[Path]:
        return self.paths


def image_sink(
    kind: str, target: Path, series: Series, layout: Layout, derivation: Derivation, with_std: bool
) -> AbstractContextManager[Sink]:
    """Where the frames go: "nifti" or "dicom" files named after ``target``."""
    open_sink = dicom_sink if kind == "dicom" else nifti_sink
    return open_sink(target, series, layout, derivation, with_std)


@contextmanager
def nifti_sink(target: Path, series: Series, layout: Layout, derivation: Derivation, with_std: bool) -> Iterator[Sink]:
    """``<target>.nii.gz``, and ``<target>_std.nii.gz`` in float32; both appear only when all went well."""
    from cmrsr.io.nifti.series import nifti_writer

    def writer(path: Path, dtype: Literal["same", "float32"]) -> AbstractContextManager[Any]:
        return nifti_writer(
            path, series, shape=layout.shape, affine=layout.affine, times_ms=layout.times_ms, dtype=dtype,
            description=derivation.describe(),
        )  # fmt: skip

    paths = [target.with_name(f"{target.name}.nii.gz")]
    with ExitStack() as stack:
        image = stack.enter_context(writer(paths[0], "same"))
        std = None
        if with_std:
            paths.append(target.with_name(f"{target.name}_std.nii.gz"))
            std = stack.enter_context(writer(paths[1], "float32"))
        yield _NiftiSink(image, std, paths)


@dataclass(slots=True)
class _DicomSink:
    writer: Any
    std: Array | None
    folder: Path
    map_path: Path | None
    background: Mask | None = None
    notes: list[str] = field(default_factory=list)
    written: int = 0

    def write(self, frame: Frame) -> None:
        self.writer.write(put_back(frame.output, self.background, 0))  # DICOM pixels are integers
        if self.std is not None and frame.std is not None:
            self.std[self.written] = put_back(frame.std, self.background, 0)
        self.written += 1

    def conclude(self, findings: object) -> None: ...

    def outputs(self) -> list[Path]:
        return sorted(self.folder.glob("*.dcm")) + ([self.map_path] if self.map_path else [])


@contextmanager
def dicom_sink(
    target: Path, series: Series, layout: Layout, derivation: Derivation, with_std: bool, *, offset: int = 0,
    suffix: str | None = None,
) -> Iterator[Sink]:  # fmt: skip
    """The folder ``<target>`` of MR images, and ``<target>_std.dcm``; both appear only when all went well.

    offset, suffix: of the series' number and description, which tell several results of one derivation apart.
    """
    from cmrsr.io.dicom.write.series import dicom_writer

    with ExitStack() as stack:
        map_path = std = None
        if with_std:
            map_path = target.with_name(f"{target.name}_std.dcm")
            # The map is complete before the folder of images appears, and takes its name after it.
            map_partial = stack.enter_context(replacing(map_path))
            std = stack.enter_context(
                scratch_array(target.with_name(f".{target.name}_std.npy.partial"), layout.shape, np.float32)
            )
        with dicom_writer(
            target, series, derivation, shape=layout.shape, affine=layout.affine, times_ms=layout.times_ms,
            between=layout.between, series_offset=offset, description_suffix=suffix or derivation.task.upper(),
        ) as writer:  # fmt: skip
            sink = _DicomSink(
                writer, std, target, map_path, background_of(series, layout.shape, layout.affine)
            )  # fmt: skip
            yield sink
            if std is not None:
                from cmrsr.io.dicom.objects.parametric import write_parametric_map

                write_parametric_map(
                    map_partial, series, derivation, std, affine=layout.affine, shape=layout.shape,
                    between=layout.between, label="Standard deviation",
                )  # fmt: skip
        sink.notes.extend(writer.notes)


@contextmanager
def scratch_array(path: Path, shape: Shape, dtype: type[np.generic]) -> Iterator[NDArray[Any]]:
    """An array on disk, gone afterwards."""
    try:
        with output_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        yield array
    finally:
        path.unlink(missing_ok=True)
