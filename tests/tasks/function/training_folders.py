"""Folders of labelled cine to train on."""

from pathlib import Path

import nibabel as nib
import numpy as np


def save_acdc_patients(folder: Path, n: int) -> Path:
    """``n`` patients in ACDC's layout: single phases with labels, a disc in a ring with a blob beside it."""
    x, y = np.indices((64, 60)) - 30
    for i in range(n):
        name = f"patient{i + 1:03d}"
        (folder / name).mkdir(parents=True)
        (folder / name / "Info.cfg").write_text("ED: 1\nES: 9\n")
        for frame, radius in ((1, 9 + i), (9, 6)):
            labels = np.zeros((64, 60, 3), np.uint8)
            labels[np.hypot(x - 14, y) < 11] = 1
            labels[np.hypot(x, y) < radius + 5] = 2
            labels[np.hypot(x, y) < radius] = 3
            stem = folder / name / f"{name}_frame{frame:02d}"
            affine = np.diag([1.5, 1.5, 10.0, 1.0])
            image = np.array([10, 60, 30, 90], np.float32)[labels]
            nib.save(nib.Nifti1Image(image, affine), f"{stem}.nii.gz")  # type: ignore[no-untyped-call, attr-defined]
            nib.save(nib.Nifti1Image(labels, affine), f"{stem}_gt.nii.gz")  # type: ignore[no-untyped-call, attr-defined]
    return folder
