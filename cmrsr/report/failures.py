"""Failed cases that are alike in the report of a batch: one row and one section, the names folded away."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

from cmrsr.batch.failures import alike
from cmrsr.report.page import chip, items

if TYPE_CHECKING:
    from cmrsr.report.case import ReportCase


def grouped(cases: "Sequence[ReportCase]") -> "list[list[ReportCase]]":
    """Every case on its own in its order, but failures that are alike together in the place of the first."""
    failed = {id(group[0]): group for group in alike(case for case in cases if case.status == "failed")}
    return [failed.get(id(case), [case]) for case in cases if case.status != "failed" or id(case) in failed]


def group_row(n: int, group: "Sequence[ReportCase]", headings: Sequence[str]) -> list[str]:
    """The row of failures that are alike in the table of all cases."""
    first, *_ = group
    return [
        f'<th scope="row"><a href="#case-{n}">{len(group)} cases</a></th>',
        f"<td>{chip(first.status)}</td>",
        f'<td class="number" colspan="{len(headings) + 1}"></td>',
        f'<td class="remark">{escape(first.pattern or first.message)}</td>',
    ]


def group_section(n: int, group: "Sequence[ReportCase]") -> Iterator[str]:
    """Failures that are alike: the first in full, the names of all folded away."""
    first, *_ = group
    yield f'<section id="case-{n}" class="case {first.status}"><h2>{len(group)} cases {chip(first.status)}</h2>'
    yield f'<p class="message">{escape(first.message)}</p>'
    yield f"<p>This is the first, {escape(first.name)}; the others failed in the same way.</p>"
    if first.warnings:
        yield f'<ul class="warnings">{items(first.warnings)}</ul>'
    names = items([case.name for case in group])
    yield f"<details><summary>{len(group)} names</summary><ul>{names}</ul></details></section>"
