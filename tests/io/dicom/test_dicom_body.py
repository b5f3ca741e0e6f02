"""Height, weight, sex and age as headers say them, with the quirks of those who fill them in."""

from pathlib import Path

import pytest
from pydicom import config
from pydicom.dataset import Dataset

from cmrsr.io.dicom.read.body import Body, body_of, read_body
from cmrsr.io.series import Series
from tests.io.dicom.dicom_files import images, series_in, write_series


def header(**tags: object) -> Dataset:
    ds = Dataset()
    with config.disable_value_validation():  # scanners write what they like
        for keyword, value in tags.items():
            setattr(ds, keyword, value)
    return ds


def test_body_surface_by_mosteller() -> None:
    body = body_of(header(PatientSize="1.80", PatientWeight="80", PatientSex="M", PatientAge="061Y"))
    assert body == Body(height_m=1.8, weight_kg=80.0, sex="M", age_years=61.0)
    assert body.area_m2 == pytest.approx(2.0)


def test_centimetres_are_heights_too() -> None:
    assert body_of(header(PatientSize="172", PatientWeight="70")).height_m == pytest.approx(1.72)


@pytest.mark.parametrize(
    "tags",
    [
        {}, {"PatientSize": "0", "PatientWeight": "0"}, {"PatientSize": "1.7"},
        {"PatientSize": "", "PatientWeight": ""},
        {"PatientSize": "17", "PatientWeight": "70"}, {"PatientSize": "1.7", "PatientWeight": "7000"},
    ],
)  # fmt: skip
def test_no_surface_of_an_unknown_or_impossible_body(tags: dict[str, str]) -> None:
    assert body_of(header(**tags)).area_m2 is None


@pytest.mark.parametrize(
    ("age", "years"), [("006M", 0.5), ("061Y", 61.0), ("", None), ("61", None), ("0Y6", None), ("Y", None)]
)
def test_ages(age: str, years: float | None) -> None:
    assert body_of(header(PatientAge=age)).age_years == years


def test_sexes_that_have_no_reference_are_none() -> None:
    assert [body_of(header(PatientSex=sex)).sex for sex in ("F", "M", "O", "")] == ["F", "M", None, None]


def test_from_a_series(tmp_path: Path) -> None:
    write_series(tmp_path, images(), PatientSize="1.80", PatientWeight="80")
    assert read_body(series_in(tmp_path)).area_m2 == pytest.approx(2.0)
    assert read_body(Series.from_array(images())) == Body()
