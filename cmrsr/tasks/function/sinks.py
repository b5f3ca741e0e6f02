"""Where the results of ``function`` go: restored images as of any task, masks, and in DICOM a structured report."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.batch.sinks import Layout, Sink, dicom_sink, nifti_sink, scratch_array
from cmrsr.io.derivation import Derivation
from cmrsr.io.outputs import replacing
from cmrsr.io.series import Series
from cmrsr.tasks.function.measure import Measured, values_of

MASKS = "_masks"  # takes the place of the task in the name of the images
REPORT = "_report"


@dataclass(slots=True)
class _MaskSink:
    images: Sink
    keep: Callable[[NDArray[np.uint8]], None]
    report: Callable[[Measured], None]
    paths: list[Path]
    notes: list[str] = field(default_factory=list)

    def write(self, frame: Any) -> None:
        self.images.write(frame)
        self.keep(frame.labels)

    def conclude(self, findings: object) -> None:
        assert isinstance(findings, Measured)
        self.report(findings)

    def outputs(self) -> list[Path]:
        return [*self.images.outputs(), *self.paths]


def beside(target: Path, what: str, suffix: str) -> Path:
    """``<name>_masks.nii.gz`` beside ``<name>_function``."""
    return target.with_name(f"{target.name.removesuffix('_function')}{what}{suffix}")


@contextmanager
def function_sink(
    kind: str, target: Path, series: Series, layout: Layout, derivation: Derivation, with_std: bool
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

            def write(one: NDArray[np.uint8]) -> None:
                writer.write(one.astype(np.float32))

            yield _MaskSink(images, write, lambda measured: None, [path], images.notes)
            return
        masks, report = beside(target, MASKS, ".dcm"), beside(target, REPORT, ".dcm")
        partial_masks, partial_report = (stack.enter_context(replacing(path)) for path in (masks, report))
        scratch = target.with_name(f".{target.name}_masks.npy.partial")
        labels = stack.enter_context(scratch_array(scratch, layout.shape, np.uint8))
        frames = iter(labels)

        def keep(one: NDArray[np.uint8]) -> None:
            next(frames)[:] = one

        def write_findings(measured: Measured) -> None:
            _write_findings(partial_masks, partial_report, series, layout, derivation, labels, measured)

        yield _MaskSink(images, keep, write_findings, [masks, report], images.notes)


def _write_findings(
    masks: Path, report: Path, series: Series, layout: Layout, derivation: Derivation, labels: NDArray[np.uint8],
    measured: Measured,
) -> None:  # fmt: skip
    from cmrsr.io.dicom.objects.measurements import write_measurements
    from cmrsr.io.dicom.objects.segmentation import write_segmentation

    with warnings.catch_warnings():
        # of highdicom, about names of one word: they are the source's own
        warnings.filterwarnings("ignore", "The string .* is unlikely to represent", UserWarning)
        write_segmentation(masks, series, derivation, labels, affine=layout.affine, times_ms=layout.times_ms)
        write_measurements(
            report, series, derivation, values_of(measured), tuple(flag.message for flag in measured.flags),
            phases=(measured.ed, measured.es), segmentation=masks,
        )  # fmt: skip
