"""Values of tags that break the rules of their representations."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import cine, images, put_unchecked, series_in
from hypothesis import given
from hypothesis import strategies as st
from pydicom import config
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from cmrsr.io.dicom.tags import MissingTagError, numbers, required, scale, text, words


def with_value(keyword: str, *values: str | bytes) -> Dataset:
    ds = Dataset()
    put_unchecked(ds, keyword, *values)
    return ds


@pytest.fixture(autouse=True)
def _unchecked() -> Any:
    with config.disable_value_validation():
        yield


@given(st.lists(st.floats(-1e4, 1e4).map(lambda v: round(v, 3)), min_size=1, max_size=6))
def test_a_decimal_comma_reads_as_the_point_does(values: list[float]) -> None:
    written = [f"{v:.3f}" for v in values]
    for sign in (".", ","):
        with config.disable_value_validation():
            found = numbers(with_value("PixelSpacing", *(w.replace(".", sign) for w in written)), "PixelSpacing")
        assert found == tuple(values)


@pytest.mark.parametrize("value", ["", "1,234.5", "1.2.3", "1;5", "nan", "inf", "wide", "1,2,3", b"\x00\x01"])
def test_what_is_no_number_is_absent(value: str | bytes) -> None:
    assert numbers(with_value("TriggerTime", value), "TriggerTime") is None


def test_a_scale_that_is_garbled_is_no_default() -> None:
    assert scale(Dataset(), "RescaleSlope", 1.0) == 1.0
    assert scale(with_value("RescaleSlope", ""), "RescaleSlope", 1.0) == 1.0
    assert scale(with_value("RescaleSlope", "2,5"), "RescaleSlope", 1.0) == 2.5
    with pytest.raises(MissingTagError, match=r"RescaleSlope \(found 'two'\)"):
        scale(with_value("RescaleSlope", "two"), "RescaleSlope", 1.0)


def test_the_number_of_values_counts() -> None:
    assert required(with_value("PixelSpacing", "1", "2"), "PixelSpacing", 2) == (1.0, 2.0)
    with pytest.raises(MissingTagError, match="PixelSpacing"):
        required(with_value("PixelSpacing", "1", "2", "3"), "PixelSpacing", 2)


def test_padding_is_no_text() -> None:
    assert text(with_value("SeriesDescription", " cine\0"), "SeriesDescription") == "cine"
    assert words(with_value("ImageType", "original", " primary "), "ImageType") == ("ORIGINAL", "PRIMARY")
    assert words(Dataset(), "ImageType") == ()


def test_commas_in_every_decimal_of_a_cine(tmp_path: Path) -> None:
    """The pixels, the geometry and the times of a series are those with points, and a note says so."""

    def commas(ds: Dataset, t: int, z: int) -> None:
        ds.TriggerTime = f"{40.5 * t:.1f}"
        ds.RescaleSlope, ds.RescaleIntercept = f"{1.5 + t % 2:.1f}", "-2.5"
        if "comma" in ds.SeriesDescription:
            for keyword in ("PixelSpacing", "ImagePositionPatient", "TriggerTime", "RescaleSlope", "RescaleIntercept"):
                value = ds[keyword].value
                many = value if isinstance(value, MultiValue) else [value]
                put_unchecked(ds, keyword, *(str(v).replace(".", ",") for v in many))

    frames = images(6, 2)
    cine(tmp_path / "points", frames, edit=commas)
    cine(tmp_path / "commas", frames, edit=commas, SeriesDescription="cine comma")
    expected, found = series_in(tmp_path / "points"), series_in(tmp_path / "commas")
    np.testing.assert_array_equal(found.array(), expected.array())
    np.testing.assert_array_equal(found.array()[1], frames[1] * np.float32(2.5) - np.float32(2.5))
    np.testing.assert_allclose(found.affine, expected.affine, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(found.times_ms, np.arange(6) * 40.5)
    assert any("decimal comma in PixelSpacing" in note for note in found.source.notes)
    assert not any("comma" in note for note in expected.source.notes)
