"""Virtual scans and their truth as NIfTI: against nibabel's own reading, and read back by the package."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from virtual_scans import MOLLI_MS, NAMES, virtual_scan

from cmrsr.errors import OutputError
from cmrsr.io.discover import discover
from cmrsr.phantom.nifti import sidecar, write_scan_nifti, write_truth_volumes

FLOAT32 = 1e-5  # the matrices of a NIfTI header are float32


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All scans of one patient with their truth."""
    folder = tmp_path_factory.mktemp("study")
    for name in NAMES:
        write_scan_nifti(folder, virtual_scan(name))
        write_truth_volumes(folder, virtual_scan(name), folder / "truth")
    (folder / "truth.json").write_text('{"software": "cmrsr 0.1.0"}')
    return folder


# --- scans ------------------------------------------------------------------------------------------------------------


def test_a_study_folder_reads_back(study: Path) -> None:
    """Each scan with its kind and its times, and nothing of the truth."""
    found, refused, _ = discover([study])
    assert refused == []
    assert {one.name for one in found} == set(NAMES)
    for one in found:
        scan, series = virtual_scan(one.name), one.open()
        assert (series.kind, series.phase_axis) == (scan.kind, scan.header.phase_axis)
        assert_array_equal(series.array(), scan.frames.round())
        assert_allclose(series.affine, scan.affine, atol=FLOAT32)
        if series.n_frames == 1:
            assert series.times_ms is None
        else:
            assert series.times_ms is not None
            assert_allclose(series.times_ms.reshape(series.n_frames, -1), times_of(one.name), atol=1e-6)


def times_of(name: str) -> np.ndarray:
    times = virtual_scan(name).times_ms
    return times.reshape(len(times), -1)


@pytest.mark.parametrize("name", NAMES)
def test_header(study: Path, name: str) -> None:
    scan, image = virtual_scan(name), nib.load(study / f"{name}.nii.gz")
    assert image.get_data_dtype() == np.int16
    for form in (image.get_qform, image.get_sform):
        matrix, code = form(coded=True)
        assert code == 1
        assert_allclose(matrix, scan.affine, atol=FLOAT32)
    assert image.header.get_dim_info() == ((1, 0, 2) if scan.header.phase_axis == "x" else (0, 1, 2))
    assert image.header.get_xyzt_units()[0] == "mm"
    step, unit = image.header.get_zooms()[3], image.header.get_xyzt_units()[1]
    if scan.kind in ("t1", "lge"):
        assert (step, unit) == (1, "unknown")  # inversion times are no even steps, and one frame has none
    else:
        times = times_of(name).mean(axis=1)
        assert unit == "sec"
        assert step == pytest.approx((times[-1] - times[0]) / (len(times) - 1) / 1000)


def test_frames_beyond_the_stored_type_are_an_internal_error(tmp_path: Path) -> None:
    scan = virtual_scan("lge")
    with pytest.raises(AssertionError):
        write_scan_nifti(tmp_path, replace(scan, frames=scan.frames * 30))
    assert list(tmp_path.iterdir()) == []


# --- the sidecar ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_sidecar(study: Path, name: str) -> None:
    scan, said = virtual_scan(name), json.loads((study / f"{name}.json").read_text())
    expected = {
        "SeriesDescription": name.replace("_", " "), "MagneticFieldStrength": 3, "RepetitionTime": 0.00275,
        "EchoTime": 0.0012, "FlipAngle": 35, "SliceThickness": 8, "SpacingBetweenSlices": 10, "HeartRate": 68.18,
        "SyntheticData": True,
    }  # fmt: skip
    assert {key: said[key] for key in expected} == expected
    assert (said.get("ContrastBolusIngredient") == "GADOLINIUM") == scan.header.contrast
    assert ("InversionTime" in said) == (scan.header.inversion_ms is not None)
    assert ("FrameTimes" in said) == (scan.kind in ("cine", "perfusion"))
    for key, times_ms in (("TriggerTime", scan.header.trigger_ms), ("InversionTime", scan.header.inversion_ms)):
        if times_ms is not None:
            listed = np.array(said[key])
            assert_allclose(np.broadcast_to(listed.T, times_ms.T.shape).T * 1000, times_ms)


def test_pulse_sequences_differ(study: Path) -> None:
    names = {json.loads((study / f"{name}.json").read_text())["PulseSequenceType"] for name in NAMES}
    assert len(names) == 4  # two scans are cines


def test_times_are_nested_only_where_slices_differ() -> None:
    t1, lge, cine = (sidecar(virtual_scan(name)) for name in ("t1", "lge", "cine_sax"))
    assert_allclose(t1["InversionTime"], MOLLI_MS / 1000)
    assert np.shape(t1["TriggerTime"]) == (8,)
    assert np.shape(lge["InversionTime"]) == (1, 3)
    assert lge["TriggerTime"] == pytest.approx(0.612)  # BIDS: a number where there is only one
    assert np.shape(cine["FrameTimes"]) == (9, 3)


# --- the truth --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_truth_lies_on_the_grid_of_the_scan(study: Path, name: str) -> None:
    scan, image = virtual_scan(name), nib.load(study / f"{name}.nii.gz")
    volumes = {study / f"{name}_label.nii.gz": scan.labels, study / "truth" / f"{name}_clean.nii.gz": scan.clean}
    volumes |= {study / "truth" / f"{name}_{key}.nii.gz": values for key, values in scan.volumes.items()}
    assert len(volumes) == 5
    for path, values in volumes.items():
        stored = nib.load(path)
        assert stored.get_data_dtype() == values.dtype
        assert_array_equal(stored.affine, image.affine)
        assert stored.header.get_zooms()[3] == image.header.get_zooms()[3]
        axes = (3, 2, 1, 0) if values.ndim == 4 else (3, 2, 1, 0, 4)
        assert_array_equal(np.asanyarray(stored.dataobj).transpose(axes), values)


def test_truth_says_what_it_is(study: Path) -> None:
    label, vectors = (nib.load(study / f"{end}.nii.gz").header for end in ("t1_label", "truth/t1_displacement"))
    assert label["descrip"].item().decode().endswith("1 rv, 2 myocardium, 3 lv, 4 scar")
    assert vectors.get_intent() == ("vector", (), "displacement")
    assert "R, A, S" in vectors["descrip"].item().decode()


# --- files ------------------------------------------------------------------------------------------------------------


def test_same_bytes_when_written_again_elsewhere(study: Path, tmp_path: Path) -> None:
    for name in NAMES:
        write_scan_nifti(tmp_path / "b", virtual_scan(name))
        write_truth_volumes(tmp_path / "b", virtual_scan(name), tmp_path / "b" / "truth")
    paths = sorted(path.relative_to(study) for path in study.rglob("*.*") if path.name != "truth.json")
    assert paths == sorted(path.relative_to(tmp_path / "b") for path in (tmp_path / "b").rglob("*.*"))
    assert len(paths) == 5 * (2 + 1 + 4)
    for path in paths:
        written = (study / path).read_bytes()
        assert written == (tmp_path / "b" / path).read_bytes()
        assert path.suffix == ".json" or written[3:8] == bytes(5)  # neither name nor time in gzip's header


def test_nothing_is_left_of_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    scan = virtual_scan("t1")
    with pytest.raises(OutputError):
        write_scan_nifti(tmp_path / "file", scan)
    with pytest.raises(OutputError):
        write_truth_volumes(tmp_path / "file", scan, tmp_path / "truth")
    spoilt = np.full((*scan.frames.shape, 3), object())
    with pytest.raises(TypeError):
        write_truth_volumes(tmp_path / "ok", replace(scan, volumes={"strain": spoilt}), tmp_path / "truth")
    assert sorted(path.name for path in (tmp_path / "truth").iterdir()) == ["t1_clean.nii.gz"]
