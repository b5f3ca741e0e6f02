"""Which NIfTI files are label maps: a name that says so, and voxels that can be nothing else."""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmrsr.io.nifti.file import Voxels, find_voxels, nifti_stem, open_nifti, read_header
from cmrsr.io.nifti.header import file_shape

# Whole words: "CINE_segmented", "unmasked" and "labyrinth" are none. A number may follow ("mask2").
_WORDS = r"(?<![^\W_\d])(labels?|lbl|masks?|d?segs?|segmentations?|gt|ground[ _-]?truth|rois?)"
_NAME = re.compile(_WORDS + r"(?![^\W_\d])", re.IGNORECASE)
_FOLDER = re.compile(_WORDS + r"(Tr|Ts|Val|[ _-]?maps?)?$", re.IGNORECASE)  # "labelsTr": the folders of challenges
MAX_LABELS = 32  # distinct values; an image of so few is none
MIN_SHARE = 0.3  # of the voxels, of the most frequent value: mostly the background
_MAX_BYTES = 2**25  # of voxels that are read before the answer; an image answers with its first few
_FIRST_BYTES = 2**16


def named_label(path: Path, folders: tuple[str, ...]) -> bool:
    """Whether the name of a file, or of one of the folders above it, says that it is a label map."""
    return _NAME.search(nifti_stem(path)) is not None or any(label_folder(name) for name in folders)


def label_folder(name: str) -> bool:
    """Whether the name of a folder says that label maps are in it: it ends with the word."""
    return _FOLDER.search(name) is not None


def holds_labels(path: Path) -> bool:
    """Whether the voxels are those of a label map: few whole numbers, and many voxels of one of them.

    Reads no more than 32 MiB of voxels, and of an image only the first 64 KiB that are not all alike. False for what
    cannot be read.
    """
    try:
        header = read_header(path)
        dtype: np.dtype[np.generic] = header.get_data_dtype()
        if dtype.kind not in "iuf" or dtype.itemsize > 8:
            return False
        voxels = find_voxels(path, header, file_shape(header), dtype.itemsize, [])
        counts = _counts(voxels, dtype)
        slope, intercept = header.get_slope_inter()
    except Exception:  # what a damaged file makes nibabel or gzip raise: the reader says so when the file is opened
        return False
    if counts is None:
        return False
    values = np.array(sorted(counts), np.float64) * (1.0 if slope is None else slope) + (intercept or 0.0)
    whole = bool(np.isfinite(values).all()) and bool(np.abs(values - np.rint(values)).max() < 1e-3)
    return whole and max(counts.values()) >= MIN_SHARE * sum(counts.values())


def _counts(where: Voxels, dtype: np.dtype[np.generic]) -> dict[float, int] | None:
    """How often each stored value occurs; None as soon as there are too many, and for no voxels at all."""
    counts: dict[float, int] = {}
    size, done = _FIRST_BYTES, 0
    with open_nifti(where.path) as stream:
        stream.seek(where.offset)
        while done < min(_MAX_BYTES, where.n_bytes):
            data = stream.read(min(size, where.n_bytes - done))
            voxels: NDArray[np.generic] = np.frombuffer(data, dtype, len(data) // dtype.itemsize)
            if not voxels.size:
                break
            found, times = np.unique(voxels, return_counts=True)
            if found.size > MAX_LABELS:
                return None
            for value, n in zip(found.tolist(), times.tolist(), strict=True):
                counts[float(value)] = counts.get(float(value), 0) + n
            if len(counts) > MAX_LABELS:
                return None
            done += len(data)
            size = min(2 * size, 2**22)
    return counts or None
