import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cmrsr.heart.masks import clean_labels
from cmrsr.io.dicom.objects.measure_codes import QUANTITIES
from cmrsr.phantom.patient import draw_patient
from cmrsr.phantom.truth import heart_truth
from cmrsr.physics.volumes import disc_areas
from cmrsr.tasks.function.measure import CSV_COLUMNS, Flag, Measured, Measurer, as_record, csv_row, values_of
from tests.label_stacks import PIXEL_MM, label_stack

GAP_MM = 8.0


def measure(
    labels: np.ndarray, *, pixel_mm: float = PIXEL_MM, gap_mm: float = GAP_MM, regressed: float = 1.0,
    rate: float | None = 60.0, mirrored: bool = False, extra: tuple[Flag, ...] = (),
) -> Measured:  # fmt: skip
    """Of labels (t, z, y, x); direct regression finds so many times the areas of the masks."""
    measurer = Measurer(
        len(labels), labels.shape[1], pixel_mm=(pixel_mm, pixel_mm), gap_mm=gap_mm, heart_rate_bpm=rate,
        mirrored=mirrored,
    )  # fmt: skip
    for t in np.random.default_rng(0).permutation(len(labels)):  # in any order
        frame = clean_labels(labels[t], pixel_mm**2)
        measurer.add(int(t), frame, regressed * disc_areas(frame, pixel_mm**2), np.full(len(frame), 0.95))
    ed, es = measurer.phases()
    return measurer.finish(0.2, labels[ed], labels[es], extra_flags=extra)


def test_a_virtual_heart_is_measured_as_it_is() -> None:
    truth = heart_truth(draw_patient(77, 1, "normal"))
    found = measure(label_stack(1)[::-1])  # ES first
    assert (found.ed, found.es, found.base_first, found.flags) == (1, 0, False, ())
    for name in ("edv_ml", "esv_ml", "sv_ml", "ef_percent"):
        assert getattr(found.lv, name) == pytest.approx(truth["lv"][name], abs=2.5)
        assert getattr(found.rv, name) == pytest.approx(truth["rv"][name], abs=5.0)
    assert found.mass_g == pytest.approx(truth["lv"]["mass_g"], abs=4)
    assert found.cardiac_output_l_min == pytest.approx(found.lv.sv_ml * 60 / 1000)
    assert found.regressed == found.lv
    assert_allclose(found.lv_ml, found.areas_mm2[:, :, 2].sum(1) * GAP_MM / 1000)
    assert found.wall is not None
    true = np.array([s["wall_ed_mm"] for s in truth["segments"][:16]])
    assert np.abs(found.wall.ed_mm - true).mean() < 0.35


def test_a_stack_from_base_to_apex_is_the_same_heart() -> None:
    labels = label_stack(2, "hypertrophic")
    here, there = measure(labels), measure(labels[:, ::-1], mirrored=True)
    assert there.base_first
    assert there.lv.ef_percent == pytest.approx(here.lv.ef_percent)
    assert here.wall is not None
    assert there.wall is not None
    assert_array_equal(there.wall.ed_mm, here.wall.ed_mm)


def test_regression_is_read_at_the_phases_of_the_masks() -> None:
    labels = label_stack(1)
    measurer = Measurer(2, labels.shape[1], pixel_mm=(2.0, 2.0), gap_mm=8.0, heart_rate_bpm=None, mirrored=False)
    for t, (mask, area) in enumerate(zip(labels, (100.0, 80.0), strict=True)):
        measurer.add(t, mask, np.full((len(mask), 3), area), np.ones(len(mask)))
    assert measurer.regressed_ef() == pytest.approx(0.2)
    found = measurer.finish(0.9, None, None)
    assert found.regressed.ef_percent == pytest.approx(20)
    assert found.wall is None
    assert found.cardiac_output_l_min is None
    assert [f.code for f in found.flags] == ["volumes_disagree"]
    assert measure(labels, regressed=0.0).regressed.edv_ml == 0


def test_a_frame_that_never_came_is_noticed() -> None:
    measurer = Measurer(2, 3, pixel_mm=(1.0, 1.0), gap_mm=8.0, heart_rate_bpm=None, mirrored=False)
    measurer.add(1, np.zeros((3, 9, 9), np.uint8), np.zeros((3, 3)), np.ones(3))
    with pytest.raises(AssertionError, match=r"\[0\]"):
        measurer.phases()


def test_no_heart_is_an_answer_too() -> None:
    found = measure(np.zeros((3, 4, 20, 20), np.uint8))
    assert [f.code for f in found.flags] == ["heart_lost"]
    record = json.loads(json.dumps(as_record(found), allow_nan=False))
    assert record["lv"]["ef_percent"] is None
    assert record["lv"]["edv_ml"] == 0
    assert csv_row("x", record)["lv_ef_percent"] is None


def test_the_record_says_what_was_measured() -> None:
    found = measure(label_stack(1), extra=(Flag(code="mine", message="Something else."),))
    record = json.loads(json.dumps(as_record(found), allow_nan=False))
    assert record["lv"]["edv_ml"] == pytest.approx(found.lv.edv_ml, abs=0.006)
    assert record["lv"]["mass_g"] == pytest.approx(found.mass_g, abs=0.006)
    assert (record["ed_frame"], record["es_frame"]) == (1, 2)
    assert_allclose(record["volume_ml"]["rv"], found.rv_ml, atol=0.006)
    assert record["wall"][3] | {"ed_mm": 0, "es_mm": 0, "thickening_percent": 0} == {
        "segment": 4, "name": "basal inferior", "ed_mm": 0, "es_mm": 0, "thickening_percent": 0,
    }  # fmt: skip
    assert len(record["wall"]) == 16
    assert record["flags"] == [{"code": "mine", "message": "Something else.", "doubt": True}]
    assert not record["confident"]
    assert as_record(measure(label_stack(1)))["confident"]


def test_a_row_has_every_column() -> None:
    two = (Flag(code="a", message="."), Flag(code="b", message="."), Flag(code="a", message="again"))
    row = csv_row("p1", as_record(measure(label_stack(1), extra=two)))
    assert tuple(row) == CSV_COLUMNS
    assert row["case"] == "p1"
    assert row["flags"] == "a;b"
    assert (row["ed_frame"], row["es_frame"]) == (1, 2)
    assert row["lv_sv_ml"] == pytest.approx(row["lv_edv_ml"] - row["lv_esv_ml"], abs=0.02)


def test_volumes_and_mass_are_indexed_to_the_body_surface() -> None:
    found = replace(measure(label_stack(1)), body_surface_m2=2.0)
    record = as_record(found)
    assert record["body_surface_m2"] == 2.0
    assert record["indexed"]["lv_edv_ml_m2"] == pytest.approx(found.lv.edv_ml / 2, abs=0.006)
    assert csv_row("x", record)["lv_mass_g_m2"] == pytest.approx(found.mass_g / 2, abs=0.006)
    unknown = as_record(measure(label_stack(1)))
    assert (unknown["body_surface_m2"], unknown["indexed"]) == (None, {})
    assert csv_row("x", unknown)["rv_edv_ml_m2"] is None


def test_a_structured_report_gets_every_quantity() -> None:
    found = measure(label_stack(1), rate=None)
    values = values_of(found)
    assert set(values) == set(QUANTITIES)
    assert values["rv_sv_ml"] == found.rv.sv_ml
    assert values["lv_mass_g"] == found.mass_g
    assert values["cardiac_output_l_min"] is None


def test_a_real_scan_gives_its_reference_values(real_data: Path) -> None:
    images = [nib.load(real_data / "cine-ed-es-nifti" / f"label_sa_{phase}.nii.gz") for phase in ("ED", "ES")]
    labels = np.stack([np.asarray(i.dataobj).transpose(2, 1, 0) for i in images]).astype(np.uint8)
    x_mm, _, gap_mm = (float(v) for v in images[0].header.get_zooms())
    mirrored = bool(np.linalg.det(images[0].affine[:3, :3]) < 0)
    found = measure(labels, pixel_mm=x_mm, gap_mm=gap_mm, mirrored=mirrored)
    assert found.lv.edv_ml == pytest.approx(137.4, abs=0.05)
    assert found.lv.esv_ml == pytest.approx(51.5, abs=0.05)
    assert found.lv.ef_percent == pytest.approx(62.5, abs=0.1)
    assert (found.base_first, found.flags) == (True, ())
    assert found.wall is not None
    assert np.isfinite(found.wall.ed_mm).all()
    assert np.all(found.wall.thickening_percent > 0)
