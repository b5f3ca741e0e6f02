"""The results of a stream: one file for each frame, written as soon as it is done."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.batch.run import case_key
from cmrsr.errors import OutputError, UnusableError
from cmrsr.io.derivation import Derivation
from cmrsr.io.nifti.series import nifti_stem, nifti_writer
from cmrsr.io.outputs import output_errors, refuse_overwriting, replacing
from cmrsr.io.printable import safe_name
from cmrsr.tasks.sr.files import SrFiles
from cmrsr.tasks.sr.plan import SrPlan
from cmrsr.tasks.sr.run import SrFrame
from cmrsr.tasks.sr.stream.arrivals import Arrival
from cmrsr.tasks.sr.stream.plan import StreamSeries
from cmrsr.tasks.sr.stream.single_frames import WHOLE_SERIES, SingleFrame
from cmrsr.user_warnings import warn_user
from cmrsr.version import __version__

NO_SPREAD = (
    "the spread of the samples is written for NIfTI results only, since a DICOM map of it takes a whole series: add "
    "--format nifti, or leave out --stream"
)


@dataclass(slots=True, kw_only=True)
class StreamFiles(SrFiles):
    """The settings of ``cmrsr sr --stream``, and where its results go.

    A frame gives ``OUT/<folders>/<stem>_sr.nii.gz`` (``_sr_std.nii.gz`` beside it for several samples), or
    ``<stem>_sr.dcm``: the images of a source series make one new series.
    """

    _headers: dict[int, "_Header"] = field(default_factory=dict, repr=False)
    _sources: dict[Path, Path] = field(default_factory=dict, repr=False)

    def key(self, frame: SingleFrame) -> str:
        """What a result depends on, in one digest."""
        return case_key(
            frame.digest, self.bundle.digest, __version__, {**self.stream_parameters(), **self._requested()}
        )

    def stream_parameters(self) -> dict[str, Any]:
        """They set the results, and their identifiers, apart from those of a batch."""
        return {**self.parameters(), "stream": True}

    def write(
        self, arrival: Arrival, frame: SingleFrame, series: StreamSeries, plan: SrPlan, result: SrFrame, precision: str
    ) -> list[Path]:
        """Write the result of one frame and return its files. OutputError, or UnusableError for what cannot be."""
        derivation = self._derivation({**self.stream_parameters(), "precision": precision})
        if not np.isfinite(result.output).all():
            raise OutputError(f"{arrival.path}: the result holds NaN or infinite values; not written")
        dicom = (frame.series.source.format if self.format == "same" else self.format) == "dicom"
        path = self._place(arrival, ".dcm" if dicom else ".nii.gz")
        refuse_overwriting([path], [arrival.path])
        if not dicom:
            return _write_nifti(path, frame, plan, result, derivation)
        if frame.series.source.format != "dicom":
            raise UnusableError(
                f"{arrival.path}: --format dicom of a NIfTI file needs its whole series; {WHOLE_SERIES}"
            )
        if result.std is not None:
            warn_user(NO_SPREAD, stacklevel=2)
        header = self._headers.setdefault(series.number, _Header())
        header.write(path, frame, series, plan, result.output, derivation)
        return [path]

    def notes(self, series: StreamSeries) -> list[str]:
        """What of the headers of a source series was mended."""
        return list(self._headers[series.number].notes) if series.number in self._headers else []

    def _place(self, arrival: Arrival, suffix: str) -> Path:
        folders = map(safe_name, arrival.name.parent.parts)
        path = self.out.joinpath(*folders, f"{safe_name(_stem(arrival.name))}_{self.task}{suffix}")
        earlier = self._sources.setdefault(path, arrival.path)
        if earlier != arrival.path:
            if earlier.exists():
                raise OutputError(f"{path} is the result of {earlier.name} and of {arrival.path} alike: rename one")
            self._sources[path] = arrival.path  # renamed when its name was complete
        return path


def _stem(name: Path) -> str:
    stem = nifti_stem(name)
    return stem[: -len(".dcm")] if stem.lower().endswith(".dcm") else stem


def _write_nifti(
    path: Path, frame: SingleFrame, plan: SrPlan, result: SrFrame, derivation: Derivation
) -> list[Path]:  # fmt: skip
    shape = (1, *result.output.shape)
    assert len(shape) == 4
    paths = []
    if result.std is not None:  # before the result, so that both are there when the result is seen
        paths.append(path.with_name(path.name.replace(".nii.gz", "_std.nii.gz")))
        with nifti_writer(
            paths[0], frame.series, shape=shape, affine=plan.affine, dtype="float32", description=derivation.describe()
        ) as writer:
            writer.write(result.std)
    with nifti_writer(
        path, frame.series, shape=shape, affine=plan.affine, description=derivation.describe()
    ) as writer:  # fmt: skip
        writer.write(result.output)
    return [path, *paths]


class _Header:
    """What the DICOM images of one new series share, known from its first frame; the display window grows with it."""

    def __init__(self) -> None:
        self._shared: Any = None
        self._window = [np.inf, -np.inf]
        self.notes: dict[str, None] = {}

    def write(
        self, path: Path, frame: SingleFrame, series: StreamSeries, plan: SrPlan, output: NDArray[np.float32],
        derivation: Derivation,
    ) -> None:  # fmt: skip
        """One image, with the identifiers and the source's place in time that do not depend on the others."""
        from cmrsr.io.dicom.uid import uid_of
        from cmrsr.io.dicom.write.image import image_header, plan_result
        from cmrsr.io.dicom.write.scale import choose_scale
        from cmrsr.io.dicom.write.series import WINDOW_PERCENTILES, put_pixels, save_dicom
        from cmrsr.io.dicom.write.source_tags import put

        shape, (source,) = (1, *output.shape), frame.series.source.header.table[0]
        if self._shared is None:
            self._shared = plan_result(
                frame.series, derivation, shape=shape, affine=plan.affine, times_ms=None, between=None,
                root=derivation.digest(*series.root), offset=0, suffix=derivation.task.upper(),
            )  # fmt: skip
        result = replace(self._shared, like=frame.series, shape=shape, affine=plan.affine, last_file={})
        ds, mended = image_header(result, 0, 0)
        self.notes |= dict.fromkeys([*result.notes, *mended])
        put(ds, "SOPInstanceUID", uid_of(ds.SeriesInstanceUID, frame.uid))
        put(ds, "InstanceNumber", None if source.instance_number is None else int(source.instance_number))
        if source.temporal_position is not None:
            put(ds, "TemporalPositionIdentifier", int(source.temporal_position))
        (pixels,) = output
        low, high = np.percentile(pixels, WINDOW_PERCENTILES)
        self._window = [min(self._window[0], float(low)), max(self._window[1], float(high))]
        scale = choose_scale(0.0, float(pixels.max()), (source.slope, source.intercept))
        put_pixels(ds, pixels, scale, self._window)
        with replacing(path) as partial, output_errors(path):
            save_dicom(ds, partial)
