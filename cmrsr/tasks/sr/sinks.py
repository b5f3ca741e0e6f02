"""Where single samples of ``cmrsr sr`` go: each to a NIfTI file or a DICOM series of its own, next to the result."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cmrsr.batch.sinks import Array, Frame, Layout, Sink, dicom_sink, nifti_sink
from cmrsr.io.derivation import Derivation
from cmrsr.io.series import Series
from cmrsr.tasks.sr.run import SrFrame

SERIES_OFFSET = 20  # of the first sample's series number: the result has 1, its standard deviation map 50
MAX_SAVED = 29  # samples, up to the number of the standard deviation map


@dataclass(frozen=True, slots=True)
class _SampleFrame:
    output: Array
    std: None = None


@dataclass(slots=True)
class _SampledSink:
    result: Sink
    samples: list[Sink]

    @property
    def notes(self) -> list[str]:
        return self.result.notes

    @notes.setter
    def notes(self, notes: list[str]) -> None:
        self.result.notes = notes

    def write(self, frame: Frame) -> None:
        assert isinstance(frame, SrFrame)
        self.result.write(frame)
        for sink, image in zip(self.samples, frame.samples, strict=True):
            sink.write(_SampleFrame(image))

    def conclude(self, findings: object) -> None:
        self.result.conclude(findings)

    def outputs(self) -> list[Path]:
        return [path for sink in (self.result, *self.samples) for path in sink.outputs()]


@contextmanager
def with_samples(
    result: AbstractContextManager[Sink], kind: str, target: Path, series: Series, layout: Layout,
    derivation: Derivation, n_samples: int,
) -> Iterator[Sink]:  # fmt: skip
    """The sink of a result, and one of each sample: ``<target>_sample1.nii.gz`` or the folder ``<target>_sample1``."""
    with ExitStack() as stack:
        opened = stack.enter_context(result)
        samples = []
        for k in range(n_samples):
            place = sample_target(target, k)
            if kind == "dicom":
                sink = dicom_sink(
                    place, series, layout, derivation, False, offset=SERIES_OFFSET + k, suffix=f"SR SAMPLE {k + 1}"
                )
            else:
                sink = nifti_sink(place, series, layout, derivation, False)
            samples.append(stack.enter_context(sink))
        yield _SampledSink(opened, samples)


def sample_target(target: Path, k: int) -> Path:
    """The stem of the outputs of sample ``k``, counted from 0; their names count from 1."""
    return target.with_name(f"{target.name}_sample{k + 1}")
