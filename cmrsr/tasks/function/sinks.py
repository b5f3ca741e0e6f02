"""Where the results of ``function`` go: restored images as of any task, masks, and in DICOM a structured report."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cmrsr.batch.sinks import Layout, Sink, dicom_sink, nifti_sink, scratch_array
from cmrsr.io.derivation import Derivation
from cmrsr.io.outputs import replacing
from cmrsr.io.series import Series

MASKS = "_masks"  # takes the place of the task in the name of the images
REPORT = "_report"


class Findings(Protocol):
    """What the structured report says, once all frames are done: values by name, notes, frames of ED and ES."""

    @property
    def values(self) -> Mapping[str, float | None]: ...
    @property
    def remarks(self) -> tuple[str, ...]: ...
    @property
    def phases(self) -> tuple[int, int]: ...


@dataclass(slots=True)
class _MaskSink:
    images: Sink
    keep: Callable[[NDArray[np.uint8]], None]
    paths: list[Path]
    notes: list[str] = field(default_factory=list)

    def write(self, frame: Any) -> None:
        self.images.write(frame)
        self.keep(frame.labels)

    def outputs(self) -> list[Path]:
        return [*self.images.outputs(), *self.paths]


def beside(target: Path, what: str, suffix: str) -> Path:
    """``<name>_masks.nii.gz`` beside ``<name>_function``."""
    return target.with_name(f"{target.name.removesuffix('_function')}{what}{suffix}")


@contextmanager
def function_sink(
    kind: str, target: Path, series: Series, layout: Layout, derivation: Derivation, with_std: bool, found: Findings
) -> Iterator[Sink]:
    """Images by the sink of their ``kind``; masks as NIfTI, or as DICOM segmentation with a structured report.

    All files appear only when all went well.
    """
    open_images = dicom_sink if kind == "dicom" else nifti_sink
    with ExitStack() as stack:
        images = stack.enter_context(open_images(target, series, layout, derivation, with_std))
        if kind != "dicom":
            from cmrsr.io.nifti.series import nifti_writer

            path = beside(target, MASKS, ".nii.gz")
            writer = stack.enter_context(
                nifti_writer(
                    path, series, shape=layout.shape, affine=layout.affine, times_ms=layout.times_ms, dtype="uint8",
                    description=derivation.describe(),
                )
            )  # fmt: skip
            yield _MaskSink(images, lambda labels: writer.write(labels.astype(np.float32)), [path], images.notes)
            return
        masks, report = beside(target, MASKS, ".dcm"), beside(target, REPORT, ".dcm")
        partial_masks, partial_report = (stack.enter_context(replacing(path)) for path in (masks, report))
        scratch = target.with_name(f".{target.name}_masks.npy.partial")
        labels = stack.enter_context(scratch_array(scratch, layout.shape, np.uint8))
        frames = iter(labels)

        def keep(one: NDArray[np.uint8]) -> None:
            next(frames)[:] = one

        yield _MaskSink(images, keep, [masks, report], images.notes)
        _write_findings(partial_masks, partial_report, series, layout, derivation, labels, found)


def _write_findings(
    masks: Path, report: Path, series: Series, layout: Layout, derivation: Derivation, labels: NDArray[np.uint8],
    found: Findings,
) -> None:  # fmt: skip
    from cmrsr.io.dicom.objects.measurements import write_measurements
    from cmrsr.io.dicom.objects.segmentation import write_segmentation

    with warnings.catch_warnings():
        # of highdicom, about names of one word: they are the source's own
        warnings.filterwarnings("ignore", "The string .* is unlikely to represent", UserWarning)
        write_segmentation(masks, series, derivation, labels, affine=layout.affine, times_ms=layout.times_ms)
        write_measurements(
            report, series, derivation, found.values, found.remarks, phases=found.phases, segmentation=masks
        )  # fmt: skip
