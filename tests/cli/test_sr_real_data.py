"""``cmrsr sr`` on real scans: geometry, times, identity and intensity survive. The engine is the tiny one."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from cmrsr.cli import run
from cmrsr.io.discover import discover


def test_a_real_dicom_perfusion_series(engine: Path, real_data: Path, tmp_path: Path) -> None:
    source = real_data / "perfusion-dicom"
    assert run(["sr", str(source), "--engine", str(engine), "-o", str(tmp_path / "out"), "--no-report", "-q"]) == 0
    (folder,) = (p for p in (tmp_path / "out").iterdir() if p.is_dir())
    ((before,), _, _), ((after,), _, _) = discover([source]), discover([folder])
    old, new = before.open(), after.open()
    assert new.shape == old.shape == (79, 1, 256, 256)
    np.testing.assert_allclose(new.affine, old.affine, atol=1e-4)
    np.testing.assert_allclose(new.times_ms, old.times_ms)
    for t in (0, 20, 78):
        a, b = old.frame(t), new.frame(t)
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.99
        assert b.mean() == pytest.approx(a.mean(), rel=0.05)
    files = sorted(folder.iterdir())
    assert len(files) == 79
    one, other = pydicom.dcmread(next(iter(source.iterdir()))), pydicom.dcmread(files[0])
    assert (other.StudyInstanceUID, other.PatientID) == (one.StudyInstanceUID, one.PatientID)
    assert len({pydicom.dcmread(p, stop_before_pixels=True).SeriesInstanceUID for p in files}) == 1


def test_a_window_around_a_real_heart(engine: Path, real_data: Path, tmp_path: Path) -> None:
    """The masks that came with the scan: both ventricles' blood lies inside the window that the tool finds."""
    import scipy.io

    source = real_data / "perfusion-dicom"
    options = ["--roi", "heart", "-o", str(tmp_path / "out"), "--no-report", "-q", "--format", "nifti"]
    assert run(["sr", str(source), "--engine", str(engine), *options]) == 0
    (sidecar,) = (tmp_path / "out").glob("*_sr.json")
    x, y, width, height = json.loads(sidecar.read_text())["plan"]["window_xywh"]
    assert (width, height) == (96, 96)
    masks = scipy.io.loadmat(real_data / "perfusion-dicom-masks.mat")
    for name in ("DXmask", "SXmask", "MyoMask"):
        rows, columns = np.nonzero(np.asarray(masks[name]).reshape(256, 256))
        inside = (rows >= y) & (rows < y + height) & (columns >= x) & (columns < x + width)
        assert inside.mean() > 0.95, name


@pytest.mark.parametrize("name", ["p05_rest", "p07_stress"])
def test_a_real_nifti_perfusion_series(engine: Path, real_data: Path, tmp_path: Path, name: str) -> None:
    source = real_data / "perfusion-nifti" / f"{name}.nii.gz"
    assert run(["sr", str(source), "--engine", str(engine), "-o", str(tmp_path / "out"), "--no-report", "-q"]) == 0
    before, after = nib.load(source), nib.load(tmp_path / "out" / f"{name}_sr.nii.gz")
    assert after.shape == before.shape
    np.testing.assert_allclose(after.affine, before.affine, rtol=1e-6)
    np.testing.assert_allclose(after.header.get_zooms(), before.header.get_zooms(), rtol=1e-6)
    assert after.get_data_dtype() == before.get_data_dtype()
    for code in ("sform_code", "qform_code"):
        assert int(after.header[code]) == int(before.header[code])
    a, b = (np.asarray(image.dataobj, dtype=np.float64) for image in (before, after))
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.99
    assert b.mean() == pytest.approx(a.mean(), rel=0.05)


def test_single_phases_ask_for_the_time_axis(
    engine: Path, real_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = real_data / "cine-ed-es-nifti" / "sa_ED.nii.gz"
    assert run(["sr", str(source), "--engine", str(engine), "-o", str(tmp_path / "out")]) == 4
    assert "--time-axis none" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()
    options = ["--time-axis", "none", "--phase-axis", "y", "-o", str(tmp_path / "out"), "--no-report", "-q"]
    assert run(["sr", str(source), "--engine", str(engine), *options]) == 0
    assert nib.load(tmp_path / "out" / "sa_ED_sr.nii.gz").shape[:3] == nib.load(source).shape
