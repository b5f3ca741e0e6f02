"""The measured volumes as a structured report: values, codes, evidence, comments; what other tools make of it."""

import math
import shutil
import subprocess
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from dicom_files import images, write_enhanced, write_series
from test_dicom_write import DERIVATION, inconsistent, memory_series, series_in

from cmrsr.io.dicom.objects.measurements import write_measurements
from cmrsr.io.dicom.objects.segmentation import write_segmentation
from cmrsr.io.series import Series
from tests.dicom_tools import complaints

VALUES = {
    "lv_edv_ml": 150.1239, "lv_esv_ml": 60.25, "lv_sv_ml": 89.87, "lv_ef_percent": 59.87, "lv_mass_g": 101.5,
    "heart_rate_bpm": 66.0, "cardiac_output_l_min": 5.93, "rv_edv_ml": 160.0, "rv_esv_ml": 70.0, "rv_sv_ml": 90.0,
    "rv_ef_percent": 56.25, "abnormal_probability": 0.0214,
}  # fmt: skip
LEFT, RIGHT = "Left ventricle", "Right ventricle"
ABNORMAL = "Probability of left ventricular ejection fraction below 50 %"
Table = dict[str, dict[str, tuple[float, str]]]


@pytest.fixture
def cine(tmp_path: Path) -> Series:
    write_series(tmp_path / "in", images(4, 3), SeriesDescription="cine",
                 edit=lambda ds, t, z: setattr(ds, "TriggerTime", str(40 * t)))  # fmt: skip
    return series_in(tmp_path / "in")


def write_report(path: Path, like: Series, *notes: str, **options: object) -> hd.sr.ComprehensiveSR:
    write_measurements(path, like, DERIVATION, options.pop("values", VALUES), notes, **options)
    return hd.sr.srread(path)


def table_of(report: hd.sr.ComprehensiveSR) -> Table:
    """By group and code: value and unit."""
    return {
        group.tracking_identifier: {m.name.value: (m.value, m.unit.value) for m in group.get_measurements()}
        for group in report.content.get_image_measurement_groups()
    }


def comments_of(report: hd.sr.ComprehensiveSR) -> list[str]:
    [container] = [i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "C0034375"]
    return [item.TextValue for item in container.ContentSequence]


def printed(path: Path) -> str:
    if shutil.which("dsrdump") is None:
        pytest.skip("dsrdump is not installed (Debian: dcmtk)")
    done = subprocess.run(["dsrdump", "+Pl", "+Pc", str(path)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def invalid(path: Path) -> list[str]:
    return complaints("dciodvfy", "-new", str(path))


def test_every_value_has_its_code_and_unit(tmp_path: Path, cine: Series) -> None:
    table = table_of(write_report(tmp_path / "sr.dcm", cine))
    assert table == {
        LEFT: {
            "8821-1": (150.12, "mL"), "8823-7": (60.25, "mL"), "90096001": (89.87, "mL"), "8811-2": (59.87, "%"),
            "122447": (101.5, "g"), "8867-4": (66.0, "/min"), "82799009": (5.93, "L/min"),
        },
        RIGHT: {
            "8822-9": (160.0, "mL"), "8824-5": (70.0, "mL"), "90096001": (90.0, "mL"), "8818-7": (56.25, "%"),
        },
        ABNORMAL: {"122157": (2.14, "%")},
    }  # fmt: skip


def test_groups_say_where_and_by_what(tmp_path: Path, cine: Series) -> None:
    groups = write_report(tmp_path / "sr.dcm", cine).content.get_image_measurement_groups()
    sites = [[site.value.value for site in group.finding_sites] for group in groups]
    assert sites == [["87878005"], ["53085002"], ["87878005"]]
    assert [group.finding_type and group.finding_type.value for group in groups] == [None, None, "275514001"]
    [mass] = [m for m in groups[0].get_measurements() if m.name.value == "122447"]
    assert [site.value.meaning for site in mass.finding_sites] == ["Left Ventricle Myocardium"]
    text = printed(tmp_path / "sr.dcm")
    assert text.count(f'"{DERIVATION.describe()}"') == 3
    assert "Imaging Measurement Report" in text
    assert 'Left Ventricular ED Volume")="150.12"' in text


def test_volumes_name_the_images_they_were_measured_on(tmp_path: Path, cine: Series) -> None:
    report = write_report(tmp_path / "sr.dcm", cine, phases=(3, 1))
    for group in report.content.get_image_measurement_groups():
        for measurement in group.get_measurements():
            named = [image.referenced_sop_instance_uid for image in measurement.referenced_images]
            t = {"8821-1": 3, "8822-9": 3, "122447": 3, "8823-7": 1, "8824-5": 1}.get(measurement.name.value)
            expected = [] if t is None else [image.sop_instance_uid for image in cine.source.header.table[t]]
            assert named == expected, measurement.name.meaning
    assert "End-diastole is time point 4 and end-systole time point 2 of 4." in comments_of(report)


def test_frames_of_an_enhanced_source_are_named(tmp_path: Path) -> None:
    like = series_in(write_enhanced(tmp_path / "in" / "a.dcm", images(3, 2)).parent)
    report = write_report(tmp_path / "sr.dcm", like, phases=(0, 2))
    esv = report.content.get_image_measurement_groups()[0].get_measurements()[1]
    assert [list(image.referenced_frame_numbers) for image in esv.referenced_images] == [[3, 6]]
    assert len(report.get_evidence()) == 1
    assert invalid(tmp_path / "sr.dcm") == []


def test_comments_are_complete(tmp_path: Path, cine: Series) -> None:
    notes = ["The base may be missing: 4 slices.", "LV and RV stroke volumes differ by 45 % − look again."]
    report = write_report(tmp_path / "sr.dcm", cine, *notes)
    assert comments_of(report) == [
        "Research use only, not a medical device.", notes[0], notes[1].replace("−", "?")
    ]  # fmt: skip
    assert (report.CompletionFlag, report.PreliminaryFlag, report.VerificationFlag) == (
        "COMPLETE", "PRELIMINARY", "UNVERIFIED",
    )  # fmt: skip


def test_valid_and_in_the_study(tmp_path: Path, cine: Series) -> None:
    labels = np.ones(cine.shape, np.uint8)
    write_segmentation(tmp_path / "seg.dcm", cine, DERIVATION, labels, affine=cine.affine)
    report = write_report(tmp_path / "sr.dcm", cine, "note", phases=(0, 2), segmentation=tmp_path / "seg.dcm")
    assert invalid(tmp_path / "sr.dcm") == []
    masks = pydicom.dcmread(tmp_path / "seg.dcm")
    evidence = {uid for _, _, uid, _ in report.get_evidence(current_procedure_only=True)}
    assert evidence == {*cine.source.header.uids(), masks.SOPInstanceUID}
    for group in report.content.get_image_measurement_groups():
        assert [image.referenced_sop_instance_uid for image in group.source_images] == [masks.SOPInstanceUID]
    source = pydicom.dcmread(cine.source.paths[0])
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "StudyDate", "ContentDate", "ContentTime"):
        assert report[keyword].value == source[keyword].value, keyword
    assert (report.SeriesNumber, report.SeriesDescription) == (571, "cine measurements")
    # dcentvfy takes the accession number for one of the series in every structured report.
    complained = inconsistent(tmp_path, [*cine.source.paths, tmp_path / "seg.dcm", tmp_path / "sr.dcm"])
    assert [line for line in complained if "AccessionNumber" not in line] == []


def test_without_a_dicom_source(tmp_path: Path) -> None:
    like = memory_series("virtual-1/cine", "cine")
    write_segmentation(tmp_path / "seg.dcm", like, DERIVATION, np.ones(like.shape, np.uint8), affine=like.affine)
    masks = pydicom.dcmread(tmp_path / "seg.dcm")
    for segmentation in (None, tmp_path / "seg.dcm"):
        report = write_report(tmp_path / "sr.dcm", like, phases=(0, 2), segmentation=segmentation)
        assert invalid(tmp_path / "sr.dcm") == []
        assert table_of(report)[LEFT]["8821-1"] == (150.12, "mL")
        assert [uid for _, _, uid, _ in report.get_evidence()] == ([masks.SOPInstanceUID] if segmentation else [])
        assert (report.StudyInstanceUID, report.PatientID) == (masks.StudyInstanceUID, "virtual-1")


def test_a_rerun_writes_the_same_bytes(tmp_path: Path, cine: Series) -> None:
    for name in ("a", "b"):
        write_report(tmp_path / name, cine, "note", phases=(0, 2))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_was_not_measured_is_left_out(tmp_path: Path, cine: Series) -> None:
    values = {**VALUES, "cardiac_output_l_min": None, "lv_ef_percent": math.nan, "abnormal_probability": None}
    table = table_of(write_report(tmp_path / "sr.dcm", cine, values=values))
    assert list(table) == [LEFT, RIGHT]
    assert {"82799009", "8811-2"} & set(table[LEFT]) == set()
    assert table_of(write_report(tmp_path / "sr.dcm", cine, values={"rv_edv_ml": math.nan})) == {LEFT: {}}
    assert invalid(tmp_path / "sr.dcm") == []


def test_unknown_values_are_refused(tmp_path: Path, cine: Series) -> None:
    with pytest.raises(ValueError, match="got lv_volume"):
        write_report(tmp_path / "sr.dcm", cine, values={"lv_volume": 1.0})
    assert not (tmp_path / "sr.dcm").exists()
