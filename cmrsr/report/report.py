"""One self-contained page to look at: what a run did to every case, or how methods compare.

No scripts, nothing fetched: style and pictures are inside the file, and a content policy forbids the browser to load
anything else. All text is escaped. The page is written piece by piece, so its pictures are never joined in memory.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from html import escape
from pathlib import Path

from cmrsr.batch.run import CaseResult
from cmrsr.errors import debugging
from cmrsr.metrics.statistics import Comparison, Paired, Summary, format_p
from cmrsr.report.case import FactTable, ReportCase
from cmrsr.report.facts import counted
from cmrsr.report.failures import group_row, group_section, grouped
from cmrsr.report.page import (
    NOTICE,
    STATUS_SIGNS,
    Picture,
    chip,
    duration,
    figures,
    items,
    signed,
    table,
    warning_list,
    write_page,
)
from cmrsr.report.style import PAGE_CSS

MAX_ILLUSTRATED = 30  # cases with pictures: about 2 MB each
CAUTION = "Look at this before you use the numbers"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRun:
    """What is shown of the whole run. left_out: what was left out by which rule, a line each."""

    title: str
    command: str
    version: str
    started: datetime
    seconds: float
    engine: str
    engine_digest: str
    left_out: tuple[str, ...] = ()


def plain_case(result: CaseResult) -> ReportCase:
    """A case of which only status, message and outputs are known: it failed, or was done before."""
    return ReportCase(
        name=result.name, status=result.status, message=result.message, pattern=result.pattern,
        warnings=result.warnings,
        outputs=tuple(str(path) for path in result.outputs),
    )  # fmt: skip


def illustrated_case(case: ReportCase, draw: Callable[[], Sequence[Picture]]) -> ReportCase:
    """The case with its pictures; a defect in drawing them costs this case its pictures, not the batch its report."""
    try:
        return replace(case, pictures=tuple(draw()))
    except Exception as error:
        if debugging():
            raise
        said = f"the pictures could not be drawn ({type(error).__name__}: {error}); report this"
        return replace(case, warnings=(*case.warnings, said))


def write_report(path: Path, cases: Sequence[ReportCase], run: ReportRun, pictures: Sequence[Picture] = ()) -> None:
    """Write the page of a batch: pictures of the whole batch, a table of all cases, then a section for each.

    Only the first 30 successful cases are illustrated, and the page says so. Raises OutputError if it fails.
    """
    write_page(path, _batch(cases, run, pictures))


def write_evaluation_report(
    path: Path,
    comparisons: Sequence[Comparison],
    run: ReportRun,
    *,
    protocol: Sequence[str],
    pictures: Sequence[Picture] = (),
    lower_is_better: Sequence[str] = ("nRMSE (%)",),
    best_at_one: Sequence[str] = (),
) -> None:
    """Write the page of an evaluation: the table of methods, the paired tests, the figures, and what was done.

    comparisons: from ``statistics.compare_methods``; protocol: paragraphs. Raises OutputError if it cannot be written.
    """
    write_page(path, _evaluation(comparisons, run, protocol, pictures, lower_is_better, best_at_one))


def _batch(cases: Sequence[ReportCase], run: ReportRun, pictures: Sequence[Picture]) -> Iterator[str]:
    done = [case for case in cases if case.status == "ok"]
    illustrated = {id(case) for case in done[:MAX_ILLUSTRATED]}
    counts = [(sum(case.status == status for case in cases), status) for status in STATUS_SIGNS]
    tiles = [(str(n), status, status if n else "none") for n, status in counts]
    yield page_head(run, [*tiles, (duration(run.seconds), "total time", "plain"), *_rate(done)])
    yield from figures(pictures)
    if len(done) > MAX_ILLUSTRATED:
        yield f'<p class="note">{len(done)} cases succeeded; pictures are shown for the first {MAX_ILLUSTRATED}.</p>'
    if run.left_out:
        yield warning_list(run.left_out)
    yield "<h2>Cases</h2>"
    headings = list(dict.fromkeys(heading for case in cases for heading, _ in case.columns))
    groups = grouped(cases)
    yield table(
        ("Case", "Status", *headings, "Time", "Remark"),
        (
            _summary_row(n, group[0], headings) if len(group) == 1 else group_row(n, group, headings)
            for n, group in enumerate(groups)
        ),
    )
    for n, group in enumerate(groups):
        if len(group) == 1:
            yield from _section(n, group[0], group[0].pictures if id(group[0]) in illustrated else ())
        else:
            yield from group_section(n, group)
    yield page_foot(run)


def _rate(done: Sequence[ReportCase]) -> list[tuple[str, str, str]]:
    """Images per second over the cases that say both: what the scanner side asks first."""
    timed = [(case.n_images, case.seconds) for case in done if case.n_images and case.seconds]
    if not timed:
        return []
    return [(f"{sum(n for n, _ in timed) / sum(s for _, s in timed):.1f}", "images / s", "plain")]


def _summary_row(n: int, case: ReportCase, headings: Sequence[str]) -> list[str]:
    remark = escape(case.message)
    for said, thing, what in ((case.cautions, "point", " to check"), (case.warnings, "warning", "")):
        if said:
            remark += f'{" · " if remark else ""}<span class="warned">{counted(len(said), thing)}{what}</span>'
    cells = dict(case.columns)
    return [
        f'<th scope="row"><a href="#case-{n}">{escape(case.name)}</a></th>',
        f"<td>{chip(case.status)}</td>",
        *(f'<td class="number">{escape(cells.get(heading, ""))}</td>' for heading in headings),
        f'<td class="number">{"" if case.seconds is None else duration(case.seconds)}</td>',
        f'<td class="remark">{remark}</td>',
    ]


def _section(n: int, case: ReportCase, pictures: Sequence[Picture]) -> Iterator[str]:
    yield f'<section id="case-{n}" class="case {case.status}"><h2>{escape(case.name)} {chip(case.status)}</h2>'
    if case.message:
        yield f'<p class="message">{escape(case.message)}</p>'
    if case.cautions:
        yield f'<div class="warnings cautions"><strong>{CAUTION}</strong><ul>{items(case.cautions)}</ul></div>'
    if case.warnings:
        yield f'<ul class="warnings">{items(case.warnings)}</ul>'
    if case.headline:
        yield _tiles((value, what, "plain") for what, value in case.headline)
    for one in case.tables:
        yield from _fact_table(one)
    if case.headline or case.tables:
        yield '<hr style="border:0;margin:22px 0 0">'  # facts keep their distance
    rows = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in case.facts if v)
    if rows:
        yield f'<dl class="facts">{rows}</dl>'
    yield from figures(pictures)
    for one in case.tables_below:
        yield from _fact_table(one)
    if case.notes:
        yield f"<details><summary>{len(case.notes)} note(s)</summary><ul>{items(case.notes)}</ul></details>"
    if case.outputs:
        listed = "".join(f"<li><code>{escape(output)}</code></li>" for output in case.outputs)
        yield f"<details><summary>{len(case.outputs)} output(s)</summary><ul>{listed}</ul></details>"
    yield "</section>"


def _fact_table(one: FactTable) -> Iterator[str]:
    """A table of a case with its title and note; the first cell of a row is its heading."""
    yield f"<figure><h3>{escape(one.title)}</h3>"
    yield table(
        one.heads,
        (
            [f'<th scope="row">{escape(row[0])}</th>', *(f'<td class="number">{escape(cell)}</td>' for cell in row[1:])]
            for row in one.rows
        ),
    )
    yield f"<figcaption>{escape(one.note)}</figcaption></figure>"


# ---- the evaluation ------------------------------------------------------------------------------------------------


def _evaluation(
    comparisons: Sequence[Comparison],
    run: ReportRun,
    protocol: Sequence[str],
    pictures: Sequence[Picture],
    lower_is_better: Sequence[str],
    best_at_one: Sequence[str],
) -> Iterator[str]:
    methods = list(dict.fromkeys(c.method for c in comparisons))
    first = comparisons[0]
    counts = [
        (str(first.per_image.n), "images"),
        (str(first.per_patient.n), "patients"),
        (str(len(methods)), "methods"),
    ]
    yield page_head(run, [(n, what, "plain") for n, what in (*counts, (duration(run.seconds), "total time"))])
    yield "<h2>Result</h2><p>Mean ± standard deviation; the best of each column is set in bold.</p>"
    yield result_table(comparisons, methods, lower_is_better, best_at_one)
    yield from figures(pictures)
    yield "<h2>Protocol</h2>" + "".join(f"<p>{escape(paragraph)}</p>" for paragraph in protocol)
    yield "<h2>Paired tests</h2>"
    yield "<p>Images of one patient are not independent: the tests over patients are the stricter.</p>"
    tested = {name for c in comparisons for name in c.image_tests}
    for baseline in (method for method in methods if method in tested):
        yield f"<h3>Difference to {escape(baseline)}</h3>{paired_table(comparisons, baseline)}"
    yield page_foot(run)


def result_table(
    comparisons: Sequence[Comparison], methods: Sequence[str], lower_is_better: Sequence[str],
    best_at_one: Sequence[str] = (),
) -> str:  # fmt: skip
    """The paper's table: methods down, the metrics per image and then per patient across."""
    by_metric: dict[str, dict[str, Comparison]] = {}
    for c in comparisons:
        by_metric.setdefault(c.metric, {})[c.method] = c
    columns = [
        [getattr(by_metric[metric][method], unit) for method in methods]
        for unit in ("per_image", "per_patient")
        for metric in by_metric
    ]
    best = [
        min(
            (summary.mean for summary in column),
            key=lambda mean: abs(mean - 1) if metric in best_at_one else mean if metric in lower_is_better else -mean,
        )
        for metric, column in zip([*by_metric, *by_metric], columns, strict=True)
    ]
    rows = (
        [
            f'<th scope="row">{escape(method)}</th>',
            *(_mean_cell(column[n], bold=column[n].mean == top) for column, top in zip(columns, best, strict=True)),
        ]
        for n, method in enumerate(methods)
    )
    width = len(by_metric)
    groups = f'<tr><td></td><th colspan="{width}">per image</th><th colspan="{width}">per patient</th></tr>'
    return table(("Method", *by_metric, *by_metric), rows, above=groups)


def paired_table(comparisons: Sequence[Comparison], baseline: str) -> str:
    """Every method against one baseline; the method's name spans the rows of its metrics."""
    tested = [c for c in comparisons if baseline in c.image_tests]
    n_metrics = len({c.metric for c in tested})
    rows = (
        [
            f'<th scope="rowgroup" rowspan="{n_metrics}">{escape(c.method)}</th>' if n % n_metrics == 0 else "",
            f'<td class="number">{escape(c.metric)}</td>',
            *_test_cells(c.image_tests[baseline], _digits(c.per_image)),
            *_test_cells(c.patient_tests[baseline], _digits(c.per_image)),
        ]
        for n, c in enumerate(tested)
    )
    heads = ("difference [95 % CI]", "t-test", "Wilcoxon")
    groups = '<tr><td colspan="2"></td><th colspan="3">over images</th><th colspan="3">over patients</th></tr>'
    return table(("Method", "Metric", *heads, *heads), rows, above=groups)


def _digits(summary: Summary) -> int:
    return 4 if abs(summary.mean) < 1 else 2


def _mean_cell(summary: Summary, *, bold: bool) -> str:
    digits = _digits(summary)
    spread = "" if summary.sd is None else f' <span class="sd">± {summary.sd:.{digits}f}</span>'
    mean = f"{summary.mean:.{digits}f}"
    return f'<td class="number">{f"<strong>{mean}</strong>" if bold else mean}{spread}</td>'


def _test_cells(test: Paired, digits: int) -> list[str]:
    interval = "" if test.ci95 is None else f" [{signed(test.ci95[0], digits)}, {signed(test.ci95[1], digits)}]"
    why = f' title="{escape(test.reason)}"' if test.reason else ""
    p_values = ("n/a" if p is None else format_p(p) for p in (test.t_test_p, test.wilcoxon_p))
    return [
        f'<td class="number">{signed(test.mean_difference, digits)}<span class="sd">{interval}</span></td>',
        *(f'<td class="number"{why}>{escape(p)}</td>' for p in p_values),
    ]


# ---- shared pieces -------------------------------------------------------------------------------------------------


def page_head(run: ReportRun, tiles: Sequence[tuple[str, str, str]]) -> str:
    """HTML from the first line to the tiles with the headline numbers."""
    started = run.started.strftime("%Y-%m-%d %H:%M:%S %Z").strip()
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(run.title)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<style>{PAGE_CSS}</style></head><body><header><p class="brand">cmrsr <span>{escape(run.version)}</span></p>
<h1>{escape(run.title)}</h1><p class="when">{escape(started)} · engine {escape(run.engine)}
<code title="{escape(run.engine_digest)}">{escape(run.engine_digest[:12])}</code></p>
<p class="notice">{escape(NOTICE)}</p></header><main>{_tiles(tiles)}
"""


def _tiles(tiles: Iterable[tuple[str, str, str]]) -> str:
    """Boxes with a large value, what it is, and a kind that colours it."""
    boxes = "".join(
        f'<div class="tile {kind}"><b>{escape(value)}</b><span>{escape(what)}</span></div>'
        for value, what, kind in tiles
    )
    return f'<div class="tiles">{boxes}</div>'


def page_foot(run: ReportRun) -> str:
    """HTML from the end of the content to the last line: command, engine, notice."""
    return (
        f"</main><footer><p>Command</p><pre>{escape(run.command)}</pre>"
        f"<p>cmrsr {escape(run.version)} · engine {escape(run.engine)} · sha256 {escape(run.engine_digest)}</p>"
        f"<p>{escape(NOTICE)}</p></footer></body></html>\n"
    )
