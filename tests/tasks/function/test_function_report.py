"""What the page of ``cmrsr function`` says and shows of a case."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pytest

from cmrsr.batch.run import CaseResult
from cmrsr.io.dicom.read.body import Body
from cmrsr.io.references.reference import Reference
from cmrsr.report import style
from cmrsr.report.case import ReportCase
from cmrsr.report.report import CAUTION, ReportRun, write_report
from cmrsr.runtime.bundle import Bundle, load
from cmrsr.tasks.function import report as function_report
from cmrsr.tasks.function.details import FunctionDetails
from cmrsr.tasks.function.plan import FunctionOptions
from cmrsr.tasks.function.report import batch_pictures, report_case, timeline_of
from tests.tasks.function.function_results import details

TITLES = ["Contours", "Movie", "Volume over the beat", "Wall thickening", "On which time steps the model rests"]
RUN = ReportRun(
    title="Function", command="cmrsr function a", version="0.1.0", started=datetime(2025, 1, 2, tzinfo=UTC),
    seconds=9.0, engine="tiny", engine_digest="ab12" * 16,
)  # fmt: skip


@pytest.fixture
def bundle(engine: Path) -> Bundle:
    return load(str(engine), "sr")  # any: only its name is shown


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are drawn with few pixels, and defects in them are raised."""
    draw = style.png

    def quick(figure: matplotlib.figure.Figure, dpi: int = 30) -> bytes:
        return draw(figure, min(dpi, 30))

    monkeypatch.setattr(style, "png", quick)
    monkeypatch.setenv("CMRSR_DEBUG", "1")


def _case(bundle: Bundle, made: FunctionDetails, *, illustrated: bool = False, name: str = "a") -> ReportCase:
    warnings = ("the times were guessed", *(flag.message for flag in made.measured.flags))
    result = CaseResult(
        name=name, status="ok", seconds=2.0, details=made, notes=("from TriggerTime", made.device), warnings=warnings
    )
    return report_case(result, bundle, FunctionOptions(), illustrated=illustrated)


def _table(case: ReportCase, n: int = 0) -> dict[str, tuple[str, ...]]:
    return {row[0]: row[1:] for row in case.tables[n].rows}


def _reference(ef: float) -> Reference:
    return Reference(source="made up", ef_percent=ef, edv_ml=1.0)


# ---- numbers ---------------------------------------------------------------------------------------------------------


def test_the_numbers_of_a_case(bundle: Bundle) -> None:
    made = details()
    lv, case = made.measured.lv, _case(bundle, made)
    table = _table(case)
    assert table["Ejection fraction (EF)"][:2] == (f"{lv.ef_percent:.0f} %",) * 2
    assert table["End-diastolic volume (EDV)"][:2] == (f"{lv.edv_ml:.0f} mL", f"{1.1 * lv.edv_ml:.0f} mL")
    assert table["End-systolic volume (ESV)"][2] == f"{made.measured.rv.esv_ml:.0f} mL"
    assert table["Cardiac output"][0] == f"{0.06 * lv.sv_ml:.1f} L/min"
    assert dict(case.headline)["LV ejection fraction"] == f"{lv.ef_percent:.0f} %"
    assert dict(case.columns)["LV ESV"] == f"{lv.esv_ml:.0f} mL"
    facts = dict(case.facts)
    assert facts["Phases"] == "ED: frame 1 (0 ms) · ES: frame 5 (400 ms)"
    assert facts["Matrix"] == "48 × 48 → 96 × 96, super-resolved"
    assert facts["Heart rate"] == "60 beats / min"
    assert facts["EF below 50 %"] == "probability 25 %, by the model"
    assert facts["Series"] == "8 frames, 3 slices"
    assert case.n_images == 24
    assert case.notes == ("from TriggerTime",)  # the device is a fact
    assert case.pictures == ()


def test_flags_are_cautions_and_not_repeated_as_warnings(bundle: Bundle) -> None:
    case = _case(bundle, details(flags=("the base is missing", "few slices")))
    assert case.cautions == ("the base is missing", "few slices")
    assert case.warnings == ("the times were guessed",)
    assert dict(case.facts)["Automatic checks"] == "2 reasons for doubt, see above"
    assert dict(_case(bundle, details()).facts)["Automatic checks"] == "none found a reason for doubt"


def test_what_was_not_measured_is_a_dash_and_never_a_zero(bundle: Bundle) -> None:
    no_rv = _table(_case(bundle, details(rv=False, times=False)))
    assert {row[2] for name, row in no_rv.items() if "(" in name} == {"–"}
    assert no_rv["Cardiac output"][0] == "–"
    one = _case(bundle, details(1))
    assert [cells[0] for name, cells in _table(one).items() if name[:3] in ("Eje", "Str", "Car")] == ["–"] * 3
    assert _table(one)["End-systolic volume (ESV)"] == ("–",) * 3
    assert dict(one.headline)["LV ejection fraction"] == "–"
    assert dict(one.headline)["LV EDV"].endswith("mL")
    assert dict(one.facts)["EF below 50 %"] == ""


def test_the_table_beside_the_reference(bundle: Bundle) -> None:
    made = details()
    lv = made.measured.lv
    reference = Reference(source="made up", ef_percent=lv.ef_percent + 2.04, edv_ml=lv.edv_ml / 1.1, esv_ml=lv.esv_ml)
    case = _case(bundle, replace(made, reference=reference))
    table = _table(case, 1)
    assert table["LV EF"] == (f"{lv.ef_percent:.1f} %", f"{lv.ef_percent + 2.04:.1f} %", "−2.0 points")
    assert table["LV EDV"][2].endswith("mL (+10 %)")
    assert table["LV ESV"][2] == "0.0 mL (0 %)"
    assert set(table) == {"LV EF", "LV EDV", "LV ESV"}  # what the reference knows
    one = _case(bundle, details(1, reference=reference))
    assert _table(one, 1)["LV EF"][::2] == ("–", "–")


def test_a_case_that_failed_has_its_message_only(bundle: Bundle) -> None:
    case = report_case(CaseResult(name="b", status="failed", message="found NaN"), bundle, FunctionOptions())
    assert (case.name, case.message, case.facts, case.tables, case.pictures) == ("b", "found NaN", (), (), ())


def test_the_time_line_of_times_by_slice() -> None:
    series = details(4).series
    by_slice = replace(series, times_ms=50 + 100.0 * np.arange(4)[:, None] + np.arange(3))
    timeline = timeline_of(by_slice)
    assert timeline.frames.tolist() == [0, 100, 200, 300]
    assert timeline.end == 400
    assert timeline_of(replace(series, times_ms=None)).end == 4


# ---- pictures --------------------------------------------------------------------------------------------------------


def test_a_beat_has_all_pictures(bundle: Bundle) -> None:
    case = _case(bundle, details(), illustrated=True)
    assert [picture.title for picture in case.pictures] == TITLES
    captions = {picture.title: picture.caption for picture in case.pictures}
    assert "not a proof" in captions[TITLES[4]]
    assert "12 % and on the images just before and after it by 25 %" in captions[TITLES[4]]
    assert "Grey" not in captions["Wall thickening"]
    assert "at the pace of the heart" in captions["Movie"]


def test_two_phases_without_times(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    draw = function_report.contour_movie

    def noted(*args: Any, **kwargs: Any) -> bytes:
        given["texts"], given["held"] = args[2], args[3]
        return draw(*args, **kwargs)

    monkeypatch.setattr(function_report, "contour_movie", noted)
    case = _case(bundle, details(2, times=False), illustrated=True)
    assert [picture.title for picture in case.pictures] == TITLES
    assert given == {"texts": ["frame 1 · ED", "frame 2 · ES"], "held": [700, 700]}
    assert "2 time points only" in case.pictures[2].caption
    assert "clock" not in case.pictures[4].caption


def test_one_phase_and_a_heart_with_gaps(bundle: Bundle) -> None:
    one = _case(bundle, details(1, 1), illustrated=True)
    assert [picture.title for picture in one.pictures] == ["Contours", "Wall thickness"]
    wall = np.where(np.arange(16) < 6, np.nan, 8.0)
    gaps = _case(
        bundle, details(rv=False, wall=wall, regressed_lv_ml=np.full(8, np.nan), abnormal_probability=float("nan")),
        illustrated=True,
    )  # fmt: skip
    captions = {picture.title: picture.caption for picture in gaps.pictures}
    assert "No right ventricle was found" in captions["Volume over the beat"]
    assert "Grey: not covered" in captions["Wall thickening"]
    assert dict(gaps.facts)["EF below 50 %"] == ""
    made = details(2)
    without = _case(bundle, replace(made, measured=replace(made.measured, wall=None)), illustrated=True)
    assert [picture.title for picture in without.pictures] == [*TITLES[:3], TITLES[4]]


# ---- the page --------------------------------------------------------------------------------------------------------


def test_agreement_over_the_batch_needs_three_cases_with_references(bundle: Bundle) -> None:
    cases = [_case(bundle, details(reference=_reference(ef))) for ef in (50.0, 55)]
    lv = details().measured.lv
    assert cases[0].compared == {("LV EF", "%"): (lv.ef_percent, 50.0), ("LV EDV", "mL"): (lv.edv_ml, 1.0)}
    assert batch_pictures([*cases, _case(bundle, details())]) == []
    assert len(batch_pictures([*cases, _case(bundle, details()), cases[0]])) == 1


def test_the_page_begins_with_agreement_and_each_case_with_its_cautions(bundle: Bundle, tmp_path: Path) -> None:
    cases = [_case(bundle, details(reference=_reference(ef), flags=("base <missing>",))) for ef in (50.0, 55, 60)]
    write_report(tmp_path / "report.html", cases, RUN, batch_pictures(cases))
    text = (tmp_path / "report.html").read_text()
    section = text[text.index('id="case-0"') : text.index('id="case-1"')]
    assert text.index("Agreement with the reference") < text.index("<h2>Cases</h2>")
    places = [section.index(what) for what in (CAUTION, "LV ejection fraction", ">Function<", "Beside the reference")]
    assert places == sorted(places)
    assert "<li>base &lt;missing&gt;</li>" in section
    assert "1 point to check" in text[: text.index('id="case-0"')]


def test_values_are_indexed_where_the_body_is_known_and_stand_beside_healthy_ones(bundle: Bundle) -> None:
    one = details(body_surface_m2=2.0)
    titles = [table.title for table in _case(bundle, one).tables]
    assert titles == ["Function", "Indexed to body surface"]
    woman = replace(one, plan=replace(one.plan, body=Body(height_m=1.8, weight_kg=80.0, sex="F", age_years=60.0)))
    healthy = _case(bundle, woman).tables[2]
    assert healthy.rows[0][0] == "LV ejection fraction"
    assert healthy.rows[0][2] == "51 to 71 %"  # 61 +- 2 x 5
    assert healthy.rows[1][2] == "28 to 56 g/m²"
    young = replace(woman, plan=replace(woman.plan, body=replace(woman.plan.body, age_years=30.0)))
    assert [table.title for table in _case(bundle, young).tables] == titles  # no range of another age
