"""What several rooms' tests start from: the real scans where they are at hand, and small synthetic series."""

import os
from collections.abc import Generator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

from cmrsr.io.series import Series
from cmrsr.runtime.signal_stack import kept_signal_stack

settings.register_profile("cmrsr", derandomize=True, deadline=None, database=None)
settings.load_profile("cmrsr")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Tests that use OpenVINO themselves leave a signal stack that is not there any more, see ``signal_stack``."""
    with kept_signal_stack():
        return (yield)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real scans (see CMRSR_TEST_DATA); the test is skipped where it is absent."""
    folder = Path(os.environ.get("CMRSR_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real scans in {folder} (set CMRSR_TEST_DATA)")
    return folder


def perfusion_frames(n_t: int = 12, n_z: int = 2, n_y: int = 48, n_x: int = 40) -> NDArray[np.float32]:
    """(t, z, y, x), all positive: a body, a beating ring of muscle, blood that contrast passes through, noise."""
    t, z, y, x = np.meshgrid(np.arange(n_t), np.arange(n_z), np.arange(n_y), np.arange(n_x), indexing="ij")
    radius = np.hypot((y - 0.45 * n_y) / n_y, (x - 0.55 * n_x) / n_x) * (1 + 0.1 * z)
    blood_radius = 0.14 + 0.03 * np.sin(2 * np.pi * t / 5)
    blood, heart = 1 / (1 + np.exp((radius - blood_radius) * 60)), 1 / (1 + np.exp((radius - 0.24) * 60))
    body = 1 / (1 + np.exp((np.hypot((y / n_y - 0.5) / 0.45, (x / n_x - 0.5) / 0.48) - 1) * 25))
    passage = np.exp(-(((t - 0.4 * n_t) / (0.15 * n_t)) ** 2))
    image = 120 * body + (60 + 90 * np.roll(passage, 2, axis=0)) * heart + 600 * passage * blood
    noise = np.random.default_rng(7).normal(size=(2, *image.shape)) * 4
    return np.hypot(image + noise[0], noise[1]).astype(np.float32)


def oblique_affine(spacing_mm: tuple[float, float, float] = (1.8, 1.8, 10.0)) -> NDArray[np.float64]:
    """A short-axis-like plane: (x, y, z) spacing, turned about two axes, away from the origin."""
    a, b = np.deg2rad([35.0, 50.0])
    turn_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    turn_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = turn_z @ turn_x @ np.diag(spacing_mm)
    affine[:3, 3] = -41.5, 17.25, 88.0
    return affine


@pytest.fixture
def tiny_series() -> Series:
    """12 beats of 2 slices of 48x40, in memory."""
    return Series.from_array(
        perfusion_frames(), affine=oblique_affine(), times_ms=np.arange(12) * 750.0, kind="perfusion", phase_axis="y"
    )


@pytest.fixture
def nifti_folder(tmp_path: Path) -> Path:
    """Three good perfusion series (12 frames) among what lies around in such folders: labels, results, hidden files."""
    folder = tmp_path / "study"
    frames = perfusion_frames()
    for i, name in enumerate(("p10_stress", "p2_stress", "sub/p01_rest")):
        save_nifti(folder / f"{name}.nii.gz", np.roll(frames, i, axis=0))
    save_nifti(folder / "sub" / "p01_rest_label.nii.gz", frames > 300)
    save_nifti(folder / ".hidden.nii.gz", frames)
    save_nifti(folder / "old_cmrsr" / "p2_stress_sr.nii.gz", frames)
    (folder / "old_cmrsr" / "run.json").write_text('{"software": "cmrsr 0.1.0", "cases": []}')
    (folder / "protocol.json").write_text("{}")
    (folder / "notes.txt").write_text("nothing to see")
    return folder


def save_nifti(path: Path, frames: NDArray[np.generic]) -> None:
    """Frames (t, z, y, x) as uint16 (x, y, z, t), 0.75 s a frame, both matrices set."""
    image = nib.Nifti1Image(np.round(frames).astype(np.uint16).transpose(3, 2, 1, 0), oblique_affine())
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((1.8, 1.8, 10.0, 0.75))
    image.set_qform(oblique_affine(), 1)
    image.set_sform(oblique_affine(), 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
