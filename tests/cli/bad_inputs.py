"""Everything that people feed to a tool by mistake: a maker of the files, the exit code and words of the message."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from tests.conftest import oblique_affine, perfusion_frames, save_nifti
from tests.io.dicom.dicom_files import ORIGIN, ROW, dataset, images, put_pixels, save, write_series


@dataclass(frozen=True)
class BadInput:
    """``make`` fills an empty folder. ``in_batch``: beside a good series it is a failed case, not just left out."""

    make: Callable[[Path], object]
    exit_code: int
    message: str
    in_batch: bool = True


def float_nifti(path: Path, change: Callable[[np.ndarray], None]) -> None:
    frames = perfusion_frames(9, 1, 32, 24)
    change(frames)
    nib.save(nib.Nifti1Image(frames.transpose(3, 2, 1, 0), oblique_affine()), path)


def nan_in_frame_7(folder: Path) -> None:
    def change(frames: np.ndarray) -> None:
        frames[6, 0, 5, 5] = np.nan

    float_nifti(folder / "nan.nii.gz", change)


def constant_frame(folder: Path) -> None:
    def change(frames: np.ndarray) -> None:
        frames[2] = 5

    float_nifti(folder / "flat.nii.gz", change)


def constant_series(folder: Path) -> None:
    def change(frames: np.ndarray) -> None:
        frames[:] = 5

    float_nifti(folder / "empty.nii.gz", change)


def truncated_gzip(folder: Path) -> None:
    path = folder / "cut.nii.gz"
    save_nifti(path, perfusion_frames(9, 1, 32, 24))
    data = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(data)[: -len(data) // 10])


def truncated_dicom(folder: Path) -> None:
    for path in write_series(folder / "cut", images(4, 1, 32, 24)):
        path.write_bytes(path.read_bytes()[:-500])


def cut_header(folder: Path) -> None:
    path = write_series(folder, images(1, 1, 32, 24))[0]
    path.write_bytes(path.read_bytes()[:700])


def computed_tomography(folder: Path) -> None:
    write_series(folder / "ct", images(4, 1, 32, 24), Modality="CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.2")


def colour(folder: Path) -> None:
    ds = dataset(np.zeros((32, 24), np.uint8), 0, 0)
    put_pixels(ds, np.zeros((32, 3 * 24), np.uint8))
    ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 24, 3, "RGB", 0
    save(ds, folder / "colour.dcm")


def missing_frame(folder: Path) -> None:
    write_series(folder / "cine", images(5, 3, 32, 24))[4].unlink()


def two_spacings(folder: Path) -> None:
    def edit(ds: object, t: int, z: int) -> None:
        if t >= 2:
            ds.PixelSpacing = ["2.0", "2.0"]  # type: ignore[attr-defined]

    write_series(folder / "mixed", images(4, 1, 32, 24), edit=edit)


def moving_slice(folder: Path) -> None:
    def edit(ds: object, t: int, z: int) -> None:
        ds.ImagePositionPatient = [f"{v:.10g}" for v in ORIGIN + 3.0 * (t == 2) * ROW]  # type: ignore[attr-defined]

    write_series(folder / "moving", images(4, 1, 32, 24), edit=edit)


def one_pixel(folder: Path) -> None:
    nib.save(nib.Nifti1Image(np.arange(20, dtype=np.float32).reshape(1, 1, 1, 20), np.eye(4)), folder / "one.nii.gz")


def one_pixel_dicom(folder: Path) -> None:
    write_series(folder / "one", images(4, 1, 1, 1))


def time_first(folder: Path) -> None:
    frames = perfusion_frames(20, 1, 32, 24)[:, 0]
    nib.save(nib.Nifti1Image(frames, np.eye(4)), folder / "time_first.nii.gz")


def text(folder: Path) -> None:
    (folder / "text.nii.gz").write_text("these are not the voxels you are looking for\n" * 40)


def nothing(folder: Path) -> None:
    (folder / "notes.md").write_text("nothing here")


def phase_images(folder: Path) -> None:
    write_series(folder / "phase", images(4, 1, 32, 24), ImageType=["ORIGINAL", "PRIMARY", "P", "ND"])


def t1_map(folder: Path) -> None:
    tags = {"ImageType": ["DERIVED", "PRIMARY", "M", "T1 MAP"], "SeriesDescription": "T1MAP"}
    write_series(folder / "map", images(1, 1, 32, 24), **tags)


def complex_voxels(folder: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((32, 24, 1, 5), np.complex64), np.eye(4)), folder / "complex.nii.gz")


BAD = {
    "empty folder": BadInput(lambda folder: None, 3, "it is empty", in_batch=False),
    "no images": BadInput(nothing, 3, "no NIfTI or DICOM images", in_batch=False),
    "text as nii.gz": BadInput(text, 3, "text.nii.gz"),
    "truncated gzip": BadInput(truncated_gzip, 3, "cut.nii.gz: truncated or damaged"),
    "truncated dicom": BadInput(truncated_dicom, 3, "copy the file again"),
    "cut header": BadInput(cut_header, 3, "no image in it|I000", in_batch=False),
    "ct": BadInput(computed_tomography, 4, "wrong modality: CT, expected MR", in_batch=False),
    "colour": BadInput(colour, 4, "colour image", in_batch=False),
    "missing frame": BadInput(missing_frame, 4, "slice 2 .* has 4, frame 2 missing"),
    "two spacings": BadInput(two_spacings, 4, "spacing|1.5"),
    "moving slice": BadInput(moving_slice, 4, "3.00 mm away"),
    "nan in frame 7": BadInput(nan_in_frame_7, 4, "nan: 1 NaN or infinite of 768 voxels in frame 7 of 9"),
    "constant frame": BadInput(constant_frame, 4, r"flat: 1 of 9 frames hold one value only \(frame 3\)"),
    "constant series": BadInput(constant_series, 4, "empty: every voxel is 5"),
    "one pixel": BadInput(one_pixel, 4, "1x1"),
    "one pixel dicom": BadInput(one_pixel_dicom, 4, "1x1"),
    "time first": BadInput(time_first, 4, "time_first.nii.gz.*--time-axis"),
    "phase images": BadInput(phase_images, 4, "phase images, expected magnitude images"),
    "t1 map": BadInput(t1_map, 4, "a map of another quantity, expected magnitude images"),
    "complex": BadInput(complex_voxels, 4, "complex.nii.gz"),
}
