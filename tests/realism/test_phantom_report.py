"""The page says what the numbers say, and what is written is whole."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cmrsr.errors import OutputError
from cmrsr.realism import report as phantom_report
from cmrsr.realism.distance import widest_gap
from cmrsr.realism.population import GROUPS
from cmrsr.realism.report import FILES, PhantomEvaluation, pictures, record, write_phantom_evaluation
from cmrsr.report.page import Picture
from tests.realism.test_population import TYPICAL, heart
from tests.realism.test_realism import group

MIXED = [heart(sex, asked, **TYPICAL[asked]) for asked in GROUPS for sex in ("m", "f")]
ALONE = PhantomEvaluation(
    command="cmrsr evaluate phantom -o '<here>'", version="9.9.9", started=datetime(2030, 1, 2, tzinfo=UTC),
    seconds=12.34, seed=7, healthy=MIXED[:2], mixed=MIXED,
)  # fmt: skip
COMPARED = replace(
    ALONE,
    real=[*group(4, 1), *group(1, 2, kind="t1")],
    virtual=[*group(3, 3, noise=9.0), *group(3, 4, kind="t1")],
    skipped=["a<b>.nii: truncated"],
)


class Page(HTMLParser):
    """Text outside style, tables as rows of cells, and pictures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.words: list[str] = []
        self.images = 0
        self._open: list[str] = []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img"):
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "img":
            self.images += 1
            assert (dict(attrs)["src"] or "").startswith("data:image/png;base64,")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.words.append(data)
            if {"td", "th"} & set(self._open):
                self.tables[-1][-1][-1] += data


def written(out: Path, evaluation: PhantomEvaluation) -> Page:
    write_phantom_evaluation(out, evaluation)
    return Page((out / "phantom.html").read_text())


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of ``COMPARED``."""
    out = tmp_path_factory.mktemp("compared")
    write_phantom_evaluation(out, COMPARED)
    return out


@pytest.fixture
def plain_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any PNG in place of the figures, which take long."""
    dot = Picture(title="figure", caption="a dot", data=b"\x89PNG dot")
    monkeypatch.setattr(phantom_report, "pictures", lambda _: {"population.png": dot, "disease.png": dot})


@pytest.mark.usefixtures("plain_figures")
def test_the_tables_of_the_page_hold_the_values_of_the_record(tmp_path: Path) -> None:
    page = written(tmp_path, ALONE)
    normal, groups = page.tables
    rows = record(ALONE)["normal_values"]["rows"]
    assert len(normal) == 1 + len(rows)
    for cells, row in zip(normal[1:], rows, strict=True):
        assert cells[1:4] == ["men" if row["sex"] == "m" else "women", "1", f"{row['mean']:.1f}"]
        assert cells[4] == f"{row['published_mean']:.1f} ± {row['published_sd']:.1f}"
        assert float(cells[5].replace("−", "-")) == pytest.approx(row["difference_in_published_sd"], abs=0.006)
        assert cells[-1] == "✕ off"  # of one subject there is no spread
    for cells, asked in zip(groups[2:], GROUPS, strict=True):
        assert cells[0].startswith(f"{asked}: ")
        assert cells[1] == "2"
        assert [cells[2 + i] for i, g in enumerate(GROUPS) if g == asked] == ["100 %"]
        assert cells[-1] == "✓ as defined"


@pytest.mark.usefixtures("plain_figures")
def test_a_group_that_is_not_what_it_is_called_is_marked(tmp_path: Path) -> None:
    page = written(tmp_path, replace(ALONE, mixed=[*MIXED, heart(group="DCM")]))
    dcm = next(row for row in page.tables[1] if row[0].startswith("DCM"))
    assert (dcm[2 + GROUPS.index("DCM")], dcm[2 + GROUPS.index("NOR")], dcm[-1]) == ("67 %", "33 %", "✕ off")
    assert "4 of 5" in page.words


@pytest.mark.usefixtures("plain_figures")
def test_without_real_scans_the_page_says_so(tmp_path: Path) -> None:
    page = written(tmp_path, ALONE)
    assert page.images == 2
    assert any("No real scans" in words for words in page.words)
    assert record(ALONE)["realism"] is None
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "disease.png",
        "phantom.html",
        "phantom.json",
        "population.png",
    ]


def test_real_scans_add_ratios_gaps_and_a_figure(compared: Path) -> None:
    page = Page((compared / "phantom.html").read_text())
    assert page.images == 3
    perfusion, gaps, t1 = page.tables[2:]
    kinds = record(COMPARED)["realism"]
    assert [row[4] for row in perfusion[1:]] == [f"{d['ratio']:.2f}" for d in kinds["perfusion"]["distances"].values()]
    assert {row[4] for row in t1[1:]} == {"one patient only"}  # and no gaps
    widest = widest_gap(COMPARED.real[:4], COMPARED.virtual[:3])
    assert gaps[1][:2] == [widest.statistic.title, widest.band]
    assert float(gaps[1][-1]) == pytest.approx(widest.spreads, abs=0.06)
    assert "Left out: a<b>.nii: truncated" in page.words


def test_the_page_names_its_sources_seed_and_command_and_loads_nothing(compared: Path) -> None:
    source = (compared / "phantom.html").read_text()
    text = " ".join(Page(source).words)
    for words in ("Kawel-Boehm", "ACDC", "Bernard", "seed 7", COMPARED.command, "not a medical device"):
        assert words in text
    assert not re.search(r"(src|href)=\"(?!data:)", source)


def test_the_record_is_what_lies_in_the_file(compared: Path) -> None:
    saved = json.loads((compared / "phantom.json").read_text())
    assert saved == record(COMPARED)
    assert (saved["seed"], saved["software"], saved["skipped"]) == (7, "cmrsr 9.9.9", ["a<b>.nii: truncated"])


def test_the_pictures_are_the_files(compared: Path) -> None:
    drawn = pictures(ALONE)
    for name, picture in drawn.items():
        assert (compared / name).read_bytes() == picture.data  # of the same hearts
        assert picture.caption
    assert tuple(path.name for path in compared.glob("*.png") if path.name not in drawn) == FILES[2:]


@pytest.mark.usefixtures("plain_figures")
def test_a_run_without_real_scans_leaves_no_old_figure(tmp_path: Path) -> None:
    (tmp_path / "realism.png").write_bytes(b"old")
    (tmp_path / "mine.png").write_bytes(b"keep")
    write_phantom_evaluation(tmp_path, ALONE)
    assert not (tmp_path / "realism.png").exists()
    assert (tmp_path / "mine.png").read_bytes() == b"keep"


@pytest.mark.usefixtures("plain_figures")
@pytest.mark.parametrize("name", ["population.png", "phantom.json", "phantom.html"])
def test_what_cannot_be_written_is_an_output_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(OutputError, match=name):
        write_phantom_evaluation(tmp_path, ALONE)
    assert not list(tmp_path.glob(".*.partial"))
