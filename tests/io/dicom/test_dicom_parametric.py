"""The standard deviation as a DICOM Parametric Map: values, geometry, references, validity."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import images, write_series
from test_dicom_write import DERIVATION, inconsistent, memory_series, series_in, write

from cmrsr.errors import OutputError
from cmrsr.io.dicom.objects.parametric import write_parametric_map
from cmrsr.io.series import Series
from tests.dicom_tools import complaints

LABEL = "Standard deviation"


def write_map(path: Path, like: Series, values: np.ndarray) -> pydicom.FileDataset:
    write_parametric_map(path, like, DERIVATION, iter(values), affine=like.affine, shape=values.shape, label=LABEL)
    return pydicom.dcmread(path)


@pytest.fixture
def perfusion(tmp_path: Path) -> Series:
    write_series(tmp_path / "in", images(4, 3))
    return series_in(tmp_path / "in")


def values_of(series: Series) -> np.ndarray:
    return np.random.default_rng(2).gamma(2.0, 0.37, series.shape).astype(np.float32)


def test_every_frame_has_its_values_place_time_and_source(tmp_path: Path, perfusion: Series) -> None:
    values = values_of(perfusion)
    ds = write_map(tmp_path / "std.dcm", perfusion, values)
    sources = [pydicom.dcmread(path) for path in perfusion.source.paths]
    pixels = ds.pixel_array
    seen = set()
    for frame, groups in zip(pixels, ds.PerFrameFunctionalGroupsSequence, strict=True):
        content = groups.FrameContentSequence[0]
        t, position = content.TemporalPositionIndex - 1, groups.PlanePositionSequence[0].ImagePositionPatient
        [reference] = groups.DerivationImageSequence[0].SourceImageSequence
        [source] = [s for s in sources if s.SOPInstanceUID == reference.ReferencedSOPInstanceUID]
        assert source.TriggerTime == 100 + 800 * t
        np.testing.assert_allclose(position, source.ImagePositionPatient, atol=1e-6)
        z = (source.InstanceNumber - 1) % 3
        np.testing.assert_array_equal(frame, values[t, z])
        seen.add(tuple(content.DimensionIndexValues))
    assert len(seen) == 12
    assert len(ds.DimensionIndexSequence) == 2
    named = {r.ReferencedSOPInstanceUID for r in ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert named == {s.SOPInstanceUID for s in sources}


def test_valid_and_in_the_study(tmp_path: Path, perfusion: Series) -> None:
    result, _ = write(tmp_path / "out", perfusion)
    ds = write_map(tmp_path / "std.dcm", perfusion, values_of(perfusion))
    assert complaints("dciodvfy", "-new", str(tmp_path / "std.dcm")) == []
    everything = [*perfusion.source.paths, *result.source.paths, tmp_path / "std.dcm"]
    assert inconsistent(tmp_path, everything) == []
    assert ds.SeriesNumber == 551
    assert ds.ContentQualification == "RESEARCH"
    assert ds.DerivationDescription == DERIVATION.describe()


def test_a_rerun_writes_the_same_bytes(tmp_path: Path, perfusion: Series) -> None:
    for name in ("a", "b"):
        write_map(tmp_path / name, perfusion, values_of(perfusion))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_without_a_dicom_source(tmp_path: Path) -> None:
    like = memory_series("virtual-1/rest")
    result, _ = write(tmp_path / "out", like)
    ds = write_map(tmp_path / "std.dcm", like, values_of(like))
    assert complaints("dciodvfy", "-new", str(tmp_path / "std.dcm")) == []
    assert inconsistent(tmp_path, [*result.source.paths, tmp_path / "std.dcm"]) == []
    assert ds.StudyInstanceUID == pydicom.dcmread(result.source.paths[0]).StudyInstanceUID
    assert not any("DerivationImageSequence" in groups for groups in ds.PerFrameFunctionalGroupsSequence)


def test_one_frame_of_constant_values(tmp_path: Path) -> None:
    write_series(tmp_path / "in", images(1, 1))
    like = series_in(tmp_path / "in")
    ds = write_map(tmp_path / "std.dcm", like, np.zeros(like.shape, np.float32))
    assert ds.NumberOfFrames == 1
    assert complaints("dciodvfy", "-new", str(tmp_path / "std.dcm")) == []


def test_nan_is_refused(tmp_path: Path, perfusion: Series) -> None:
    with pytest.raises(OutputError, match="NaN"):
        write_map(tmp_path / "std.dcm", perfusion, np.full(perfusion.shape, np.nan, np.float32))
    assert not (tmp_path / "std.dcm").exists()
