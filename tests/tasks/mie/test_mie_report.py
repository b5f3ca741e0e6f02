"""What the page of ``cmrsr mie`` says and shows of a case."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import matplotlib.figure
import numpy as np
import pytest

from cmrsr.batch.run import CaseResult
from cmrsr.report import style
from cmrsr.report.case import ReportCase
from cmrsr.report.report import CAUTION, ReportRun, write_report
from cmrsr.runtime.bundle import Bundle, load
from cmrsr.tasks.mie.details import MieDetails
from cmrsr.tasks.mie.plan import MieOptions
from cmrsr.tasks.mie.report import MOST_CASES, MieReportCase, batch_pictures, report_case
from tests.tasks.mie.mie_results import GAP_MM, details, recovering, three

TITLES = [
    "Synthetic late enhancement", "What led to it, slice by slice", "What it was computed from", "By segment",
    "Strain over the beat", "Recovery after the inversion", "Motion of the T1 images, corrected",
]  # fmt: skip
RUN = ReportRun(
    title="Synthetic late enhancement", command="cmrsr mie a", version="0.1.0", seconds=9.0,
    started=datetime(2025, 1, 2, tzinfo=UTC), engine="tiny", engine_digest="ab12" * 16,
)  # fmt: skip
EMPTY = np.zeros((128, 128), np.uint8)


@pytest.fixture
def bundle(engine: Path) -> Bundle:
    return load(str(engine), "sr")  # any: only its name is shown


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are drawn with few pixels, and defects in them are raised."""
    draw = style.png

    def quick(figure: matplotlib.figure.Figure, dpi: int = 20) -> bytes:
        return draw(figure, min(dpi, 20))

    monkeypatch.setattr(style, "png", quick)
    monkeypatch.setenv("CMRSR_DEBUG", "1")


def _case(bundle: Bundle, made: MieDetails, *, illustrated: bool = False, name: str = "a") -> ReportCase:
    warnings = ("the cine was guessed", *(flag.message for flag in made.measured.flags))
    result = CaseResult(
        name=name, status="ok", seconds=2.0, details=made, notes=("8 images", made.device), warnings=warnings,
        outputs=(Path("a_mie.nii.gz"),),
    )  # fmt: skip
    return report_case(result, bundle, MieOptions(), illustrated=illustrated)


def _table(case: ReportCase, title: str) -> dict[str, tuple[str, ...]]:
    (found,) = (table for table in (*case.tables, *case.tables_below) if table.title == title)
    assert all(len(row) == len(found.heads) for row in found.rows)
    return {row[0]: row[1:] for row in found.rows}


# ---- numbers ---------------------------------------------------------------------------------------------------------


def test_the_numbers_of_a_case(bundle: Bundle) -> None:
    made = details(three())
    m, case = made.measured, _case(bundle, made)
    assert m.scar_g > 1
    headline = dict(case.headline)
    assert headline["scar by the model"] == f"{m.scar_g:.1f} g"
    assert headline["of the LV myocardium in the slices"] == f"{m.scar_percent:.0f} %"
    assert headline["uncertain, of the myocardium"] == "0.0 %"
    assert headline["circumferential strain"] == f"−{-m.e_cc_percent:.0f} %"
    assert dict(case.columns)["Scar"] == f"{m.scar_g:.1f} g"
    facts = dict(case.facts)
    assert facts["Kind of image"].startswith("SYNTHETIC, not acquired")
    assert facts["Computed from"] == "8 native T1 images a slice (TI 100 to 3400 ms) and the cine, 3 slices"
    assert facts["Native T1"] == "wall 1000 ms · scar 1300 ms · blood 1600 ms"
    assert facts["Circumferential strain"] == "wall without scar −20 % · scar −5 %"
    assert facts["Spacing"] == "1.50 × 1.50 × 10.00 mm (x × y × z)"
    assert f"{GAP_MM:.0f} mm" in facts["Mass"]
    assert facts["Counted as scar"] == "probability of 0.5 or more, in the wall"
    assert case.n_images == 3
    assert (case.notes, case.outputs, case.pictures) == (("8 images",), ("a_mie.nii.gz",), ())  # the device is a fact


def test_tables_by_slice_from_the_base_and_by_segment(bundle: Bundle) -> None:
    made = details(three())
    assert made.measured.table is not None
    case = _case(bundle, made)
    slices = _table(case, "By slice")
    assert list(slices) == ["Slice 3, basal", "Slice 2, mid", "Slice 1, apical"]
    assert slices["Slice 3, basal"][:2] == ("0 %", "0 %")
    numbers = made.measured.slices[0]
    assert slices["Slice 1, apical"] == (
        f"{numbers.scar_percent:.0f} %", f"{numbers.transmurality_percent:.0f} %", "1000 ms",
        f"−{-numbers.e_cc_percent:.0f} %", "0 %", "0.0 mm", "0.0 mm", "0.90",
    )  # fmt: skip
    segments = _table(case, "By segment")
    assert len(segments) == 16
    scarred = [name for name, cells in segments.items() if int(cells[0].split()[0]) > 10]
    assert scarred == ["7 mid anterior", "13 apical anterior"]
    assert segments["1 basal anterior"] == ("0 %", "0 %", "1000 ms", "−20 %", "35 %")


def test_no_scar_is_said_and_an_unknown_wall_is_a_dash(bundle: Bundle) -> None:
    none = _case(bundle, details(three(None)))
    assert ("by the model", "no scar found") in none.headline
    assert "of the LV myocardium in the slices" not in dict(none.headline)
    assert dict(none.columns)["Scar fraction"] == ""
    assert dict(none.facts)["Circumferential strain"] == "wall without scar −20 %"
    lost = recovering(labels=EMPTY, labels_ed=EMPTY, segments=EMPTY, septum=float("nan"), t1_ms=EMPTY + np.nan)
    case = _case(bundle, details((lost,)))
    assert dict(case.headline)["scar by the model"] == "–"
    assert "no scar" not in str(case.headline)
    assert [table.title for table in case.tables] == ["By slice"]
    assert set(next(iter(_table(case, "By slice").values()))[:5]) == {"–"}
    assert dict(case.facts)["Native T1"] == ""


def test_flags_are_cautions_and_not_repeated_as_warnings(bundle: Bundle) -> None:
    apart = details(three(agreement=0.3, likeness=0.3))
    case = _case(bundle, apart)
    assert [("in the same place" in text) for text in case.cautions] == [True]
    assert case.warnings == ("the cine was guessed",)
    assert dict(case.facts)["Automatic checks"] == "1 reason for doubt, see above"
    assert dict(_case(bundle, details(three())).facts)["Automatic checks"] == "none found a reason for doubt"


def test_motion_that_was_not_corrected_is_said_in_the_table_and_the_caption(bundle: Bundle) -> None:
    case = _case(bundle, details((recovering(registered=np.arange(8) != 2),)), illustrated=True)
    assert _table(case, "By slice")["Slice 1, mid"][5] == "0.0 mm, not all corrected"
    assert "A cross: 1 image could not be corrected" in case.pictures[-1].caption


def test_a_case_that_failed_has_its_message_only(bundle: Bundle) -> None:
    case = report_case(CaseResult(name="b", status="failed", message="found NaN"), bundle, MieOptions())
    assert (case.name, case.message, case.facts, case.tables, case.pictures) == ("b", "found NaN", (), (), ())


# ---- pictures --------------------------------------------------------------------------------------------------------


def test_a_case_has_all_pictures_and_their_captions_claim_no_more(bundle: Bundle) -> None:
    case = _case(bundle, details(three()), illustrated=True)
    assert [picture.title for picture in case.pictures] == TITLES
    captions = {picture.title: picture.caption for picture in case.pictures}
    assert "not acquired" in captions[TITLES[0]]
    assert "slice 2 (mid)" in captions[TITLES[2]]
    assert "Grey" not in captions["By segment"]
    assert "standard deviation" in captions[TITLES[1]]
    one = _case(bundle, details((recovering(level=None, image_std=None),)), illustrated=True)
    assert [picture.title for picture in one.pictures] == [title for title in TITLES if title != "By segment"]
    assert "no scar was found" in one.pictures[0].caption
    assert "--samples" in one.pictures[1].caption


def test_a_heart_that_was_lost_has_no_strain(bundle: Bundle) -> None:
    lost = recovering(labels=EMPTY, labels_ed=EMPTY, segments=EMPTY, septum=float("nan"), t1_ms=EMPTY + np.nan)
    case = _case(bundle, details((lost,)), illustrated=True)
    assert [p.title for p in case.pictures] == [t for t in TITLES if t not in ("By segment", "Strain over the beat")]


# ---- the page --------------------------------------------------------------------------------------------------------


def test_the_batch_is_drawn_from_two_cases_on_and_limited(bundle: Bundle) -> None:
    made = details((recovering(),))
    cases = [_case(bundle, made, name=name) for name in "ab"]
    failed = report_case(CaseResult(name="c", status="failed", message="x"), bundle, MieOptions())
    assert batch_pictures([cases[0], failed]) == []
    assert len(batch_pictures([*cases, failed])) == 1
    assert isinstance(cases[0], MieReportCase)
    many = [replace(cases[0], scar_percent=float(n)) for n in range(MOST_CASES + 5)]
    assert "Of 45 cases, the 40 with most scar" in batch_pictures(many)[0].caption


def test_the_page_begins_each_case_with_its_cautions(bundle: Bundle, tmp_path: Path) -> None:
    cases = [_case(bundle, details(three(agreement=0.3, likeness=0.3)), name=name) for name in ("a", "<b>")]
    write_report(tmp_path / "report.html", cases, RUN, batch_pictures(cases))
    text = (tmp_path / "report.html").read_text()
    section = text[text.index('id="case-0"') : text.index('id="case-1"')]
    places = [section.index(what) for what in (CAUTION, "scar by the model", ">By slice<", "SYNTHETIC, not acquired")]
    assert places == sorted(places)
    assert text.index("Scar and strain of all cases") < text.index("<h2>Cases</h2>")
    assert "&lt;b&gt;" in text
    assert "diagnos" not in section.lower()
