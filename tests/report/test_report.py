import base64
import dataclasses
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from cmrsr.errors import OutputError
from cmrsr.metrics.statistics import compare_methods
from cmrsr.report import style
from cmrsr.report.report import (
    MAX_ILLUSTRATED,
    NOTICE,
    Picture,
    ReportCase,
    ReportRun,
    illustrated_case,
    write_evaluation_report,
    write_report,
)

VOID = {"meta", "img", "br"}
RUN = ReportRun(
    title="Super-resolution", command="cmrsr sr 'a & b'", version="0.1.0",
    started=datetime(2025, 1, 2, 3, 4, tzinfo=UTC), seconds=75.0, engine="perfgen-s 1.0", engine_digest="ab12" * 16,
)  # fmt: skip


class _Page(HTMLParser):
    """Checks that tags nest, and collects what the tests ask for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def sources(self) -> list[str]:
        return [attrs["src"] or "" for tag, attrs in self.tags if tag == "img"]


@pytest.fixture(scope="module")
def picture() -> Picture:
    figure, _ = style.chart(1, 1)
    return Picture(title="Before & after", caption="<one> window", data=style.png(figure, dpi=30))


def _ok(name: str, *pictures: Picture) -> ReportCase:
    return ReportCase(
        name=name, status="ok", columns=(("Matrix", "128 × 96"), ("Frames", "60")),
        facts=(("Acquired band", "34 of 96 lines (35 %)"), ("Window", "")), n_images=60, seconds=3.0,
        outputs=(f"{name}_sr.nii.gz",), pictures=pictures,
    )  # fmt: skip


def test_the_page_says_what_was_done(tmp_path: Path, picture: Picture) -> None:
    bad = ReportCase(name="b", status="failed", message="b.nii.gz: found NaN")
    warned = dataclasses.replace(_ok("a", picture), warnings=("time step unknown",), notes=("3 files left out",))
    write_report(tmp_path / "report.html", [warned, bad], RUN)
    page = _Page((tmp_path / "report.html").read_text())
    for expected in (
        "128 × 96", "34 of 96 lines (35 %)", "time step unknown", "3 files left out", "b.nii.gz: found NaN",
        "a_sr.nii.gz", "cmrsr sr 'a & b'", "1 min 15 s", "20.0", NOTICE, "ab12" * 16,
        "2025-01-02 03:04:00 UTC", "Before & after",
    ):  # fmt: skip
        assert expected in page.text
    assert "Window" not in page.text  # nothing to say of it
    assert list(tmp_path.iterdir()) == [tmp_path / "report.html"]


def test_pictures_are_inside_and_nothing_is_fetched(tmp_path: Path, picture: Picture) -> None:
    write_report(tmp_path / "report.html", [_ok("a", picture)], RUN)
    text = (tmp_path / "report.html").read_text()
    (source,) = _Page(text).sources()
    head, data = source.split(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(data) == picture.data
    assert not re.search(r"https?:|<script|url\(|@import|<link", text)
    assert "default-src 'none'" in text


def test_every_text_is_escaped(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script>'
    case = dataclasses.replace(
        _ok(evil), message=evil, warnings=(evil,), notes=(evil,), outputs=(evil,), facts=((evil, evil),),
        columns=((evil, evil),),
    )  # fmt: skip
    run = dataclasses.replace(RUN, title=evil, command=evil, version=evil, engine=evil, engine_digest=evil)
    write_report(tmp_path / "report.html", [case], run)
    page = _Page((tmp_path / "report.html").read_text())
    assert "script" not in [tag for tag, _ in page.tags]
    assert page.text.count(evil) >= 14


def test_the_table_has_the_columns_of_all_cases(tmp_path: Path) -> None:
    other = ReportCase(name="b", status="ok", columns=(("Frames", "7"), ("Time step", "33 ms")))
    write_report(tmp_path / "report.html", [_ok("a"), other, ReportCase(name="c", status="failed")], RUN)
    text = (tmp_path / "report.html").read_text()
    assert re.findall(r'<th scope="col">([^<]*)', text) == [
        "Case", "Status", "Matrix", "Frames", "Time step", "Time", "Remark",
    ]  # fmt: skip
    rows = [re.findall(r'<td class="number">([^<]*)', row) for row in text.split("<tr>")[2:]]
    assert rows == [["128 × 96", "60", "", "3.0 s"], ["", "7", "33 ms", ""], ["", "", "", ""]]


def test_what_cannot_be_drawn_is_a_warning(monkeypatch: pytest.MonkeyPatch, picture: Picture) -> None:
    def broken() -> list[Picture]:
        raise ZeroDivisionError("no ink")

    assert illustrated_case(_ok("a"), lambda: [picture]).pictures == (picture,)
    case = illustrated_case(_ok("a"), broken)
    assert case.pictures == ()
    assert case.warnings == ("the pictures could not be drawn (ZeroDivisionError: no ink); report this",)
    monkeypatch.setenv("CMRSR_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        illustrated_case(_ok("a"), broken)


def test_a_name_that_is_not_unicode_does_not_cost_the_page(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", [_ok("caf\udce9")], RUN)  # what Python makes of the byte E9 in a file name
    assert "caf\\xe9" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_large_batch_is_illustrated_in_part_and_says_so(tmp_path: Path, picture: Picture) -> None:
    failed = ReportCase(name="bad", status="failed", message="nothing there")
    cases = [failed, *(_ok(f"case {i}", picture) for i in range(MAX_ILLUSTRATED + 3))]
    write_report(tmp_path / "report.html", cases, RUN)
    page = _Page((tmp_path / "report.html").read_text())
    assert len(page.sources()) == MAX_ILLUSTRATED
    assert f"{MAX_ILLUSTRATED + 3} cases succeeded; pictures are shown for the first {MAX_ILLUSTRATED}" in page.text
    assert sum(tag == "section" for tag, _ in page.tags) == len(cases)


def test_links_of_the_table_lead_to_the_cases(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", [_ok("same"), _ok("same")], RUN)
    page = _Page((tmp_path / "report.html").read_text())
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert links == [f"#{attrs['id']}" for tag, attrs in page.tags if tag == "section"]
    assert len(set(links)) == 2


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        write_report(tmp_path / "file" / "report.html", [], RUN)


def test_a_page_cut_short_leaves_nothing(tmp_path: Path) -> None:
    unknown = Picture(title="t", caption="c", data=b"not an image")
    with pytest.raises(RuntimeError):
        write_report(tmp_path / "report.html", [_ok("a", unknown)], RUN)
    assert list(tmp_path.iterdir()) == []


def test_the_evaluation_page_holds_the_table_and_the_tests(tmp_path: Path, picture: Picture) -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(30, 1, 40)
    values = {
        "zero-filling": {"nRMSE (%)": 3 + 0.1 * base, "PSNR (dB)": base},
        "ours": {"nRMSE (%)": 2 + 0.1 * base, "PSNR (dB)": base + rng.normal(1, 0.1, 40)},
    }
    comparisons = compare_methods(values, [f"p{i // 10}" for i in range(40)], ["zero-filling"])
    write_evaluation_report(
        tmp_path / "report.html", comparisons, RUN, protocol=["35 % of the lines <kept>"], pictures=[picture]
    )
    text = (tmp_path / "report.html").read_text()
    page = _Page(text)
    best = re.findall(r"<strong>([\d.]+)</strong>", text)
    ours = [values["ours"]["nRMSE (%)"].mean(), values["ours"]["PSNR (dB)"].mean()]
    assert best == [f"{mean:.2f}" for mean in (*ours, *ours)]  # lower nRMSE and higher PSNR win, per image and patient
    assert "−1.00" in page.text
    assert "p < 0.001" in page.text
    assert 'title="4 pairs; a test needs at least 6">n/a' in text
    assert "35 % of the lines <kept>" in page.text
    assert len(page.sources()) == 1
