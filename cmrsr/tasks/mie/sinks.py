"""Where the results of ``mie`` go: images that say in every file what is synthetic, a mask of the scar, and maps."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cmrsr.batch.sinks import Sink
from cmrsr.io.background import put_back
from cmrsr.io.derivation import Derivation
from cmrsr.io.outputs import replacing
from cmrsr.io.series import Series
from cmrsr.tasks.mie.plan import SlicePair
from cmrsr.tasks.mie.result import MieFrame

if TYPE_CHECKING:
    from cmrsr.io.dicom.write.image import Also

Maps = NDArray[np.floating[Any]] | NDArray[np.uint8]
STD, SCAR, PROBABILITY, T1_MAP, STRAIN = "_mie_std", "_scar", "_scar_probability", "_t1map", "_strain"
NIFTI = (STD, SCAR, PROBABILITY, T1_MAP, STRAIN)  # beside the images, with the T1 series' name in front
DICOM = (STD, SCAR, PROBABILITY, T1_MAP)
TITLE = "SYNTHETIC LGE (cmrsr)"


@dataclass(slots=True)
class MieSink:
    """Takes the one frame of a case."""

    paths: list[Path]
    put: Callable[[MieFrame], None]
    folder: Path | None = None
    notes: list[str] = field(default_factory=list)

    def write(self, frame: Any) -> None:
        assert isinstance(frame, MieFrame)
        self.put(frame)

    def conclude(self, findings: object) -> None: ...

    def outputs(self) -> list[Path]:
        return [*(sorted(self.folder.glob("*.dcm")) if self.folder else []), *self.paths]


def beside(target: Path, what: str, suffix: str) -> Path:
    """``<name>_scar.nii.gz`` beside ``<name>_mie``."""
    return target.with_name(f"{target.name.removesuffix('_mie')}{what}{suffix}")


@contextmanager
def mie_nifti_sink(target: Path, t1: Series, derivation: Derivation, with_std: bool) -> Iterator[Sink]:
    """The files of ``NIFTI`` beside ``<target>.nii.gz``; all appear only when all went well."""
    images = target.with_name(f"{target.name}.nii.gz")
    names = [what for what in NIFTI if with_std or what != STD]
    paths = [images, *(beside(target, what, ".nii.gz") for what in names)]
    with ExitStack() as stack:

        def put(frame: MieFrame) -> None:
            contents = _contents(frame, target, images)
            assert set(contents) == set(paths), "files announced and written"
            for path, (volumes, dtype, what) in contents.items():
                _enter_nifti(stack, path, t1, volumes, dtype, f"{what}. {derivation.describe()}")

        yield MieSink(paths, put)


def _contents(
    frame: MieFrame, target: Path, images: Path
) -> dict[Path, tuple[list[Maps], Literal["int16", "float32", "uint8"], str]]:
    """Volumes, type and description of each file. The header has room for few words: the first ones have to say it."""
    contents: dict[Path, tuple[list[Maps], Literal["int16", "float32", "uint8"], str]] = {
        images: ([frame.output], "int16", "SYNTHETIC LGE, not acquired"),
        beside(target, SCAR, ".nii.gz"): ([frame.scar], "uint8", "Scar in a SYNTHETIC LGE"),
        beside(target, PROBABILITY, ".nii.gz"): (
            [frame.scar_probability], "float32", "Scar probability, SYNTHETIC"
        ),
        beside(target, T1_MAP, ".nii.gz"): ([frame.t1_ms], "float32", "T1 map (ms)"),
        beside(target, STRAIN, ".nii.gz"): ([frame.e_cc, frame.e_rr], "float32", "Strain Ecc, Err at end systole"),
    }  # fmt: skip
    if frame.std is not None:
        contents[beside(target, STD, ".nii.gz")] = ([frame.std], "float32", "Spread of a SYNTHETIC LGE")
    return contents


def _enter_nifti(
    stack: ExitStack, path: Path, t1: Series, volumes: Sequence[Maps], dtype: Any, description: str
) -> None:
    """A file is written, and takes its name when the stack is left."""
    from cmrsr.io.nifti.series import nifti_writer

    shape = (len(volumes), *t1.shape[1:])
    writer = stack.enter_context(
        nifti_writer(path, t1, shape=shape, affine=t1.affine, dtype=dtype, description=description)
    )
    for volume in volumes:
        writer.write(np.asarray(volume, np.float32))


@contextmanager
def mie_dicom_sink(
    target: Path, t1: Series, cine: Series, pairs: Sequence[SlicePair], derivation: Derivation, with_std: bool
) -> Iterator[Sink]:
    """MR images in the folder ``<target>``, the scar as Segmentation, and Parametric Maps.

    All appear only when all went well.
    """
    from cmrsr.io.dicom.objects import parametric as maps
    from cmrsr.io.dicom.objects.segmentation import write_segmentation
    from cmrsr.io.dicom.objects.segments import SCAR as SCAR_PARTS
    from cmrsr.io.dicom.write.series import dicom_writer

    shape = (1, *t1.shape[1:])
    names = [what for what in DICOM if with_std or what != STD]
    paths = {what: beside(target, what, ".dcm") for what in names}
    also, left_out = cine_images(t1, cine, pairs)
    made_up: dict[str, Any] = {"also": also, "synthetic": True}
    with ExitStack() as stack:
        # Complete before the folder of images appears; they take their names after it.
        partial = {what: stack.enter_context(replacing(path)) for what, path in paths.items()}
        with dicom_writer(
            target, t1, derivation, shape=shape, affine=t1.affine, description_suffix=TITLE, **made_up
        ) as writer:

            def write_map(what: str, volume: Maps, label: str, quantity: maps.Quantity, **options: Any) -> None:
                maps.write_parametric_map(
                    partial[what], t1, derivation, [np.asarray(volume, np.float32)], affine=t1.affine, shape=shape,
                    label=label, quantity=quantity, **options,
                )  # fmt: skip

            def write_objects(frame: MieFrame) -> None:
                write_segmentation(
                    partial[SCAR], t1, derivation, frame.scar[None], affine=t1.affine, parts=SCAR_PARTS, **made_up
                )
                write_map(
                    PROBABILITY, frame.scar_probability, "SYNTHETIC scar probability", maps.PROBABILITY, **made_up
                )
                write_map(T1_MAP, frame.t1_ms, "T1 map in ms, 0 where there is no fit", maps.T1_MAP)
                if frame.std is not None:
                    write_map(STD, frame.std, "SYNTHETIC LGE standard deviation", maps.STANDARD_DEVIATION, **made_up)

            def put(frame: MieFrame) -> None:
                writer.write(put_back(frame.output, t1.source.background, 0))
                with warnings.catch_warnings():
                    # of highdicom, about names of one word: they are the source's own
                    warnings.filterwarnings("ignore", "The string .* is unlikely to represent", UserWarning)
                    write_objects(frame)

            sink = MieSink(list(paths.values()), put, target)
            yield sink
    sink.notes.extend([*writer.notes, *left_out])


def cine_images(t1: Series, cine: Series, pairs: Sequence[SlicePair]) -> tuple["Also", list[str]]:
    """The cine images that each T1 slice was made from as well; a note where they cannot be named.

    DICOM names images of the same study alone, and of a slice without a partner there are none.
    """
    from cmrsr.io.dicom.read.group import DicomStack

    ours, theirs = t1.source.header, cine.source.header
    if not isinstance(ours, DicomStack):
        return (), []
    if not isinstance(theirs, DicomStack):
        return (), [f"the cine {cine.source.name} is not DICOM: the images do not name it as a source"]
    if ours.table[0][0].identity.study != theirs.table[0][0].identity.study:
        return (), [f"the cine {cine.source.name} is of another study: the images do not name it as a source"]
    partner = {pair.z: pair.cine_z for pair in pairs}
    return [[row[partner[z]] for row in theirs.table] if z in partner else [] for z in range(t1.shape[1])], []
