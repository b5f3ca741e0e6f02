"""What an evaluation of virtual patients writes: figures, all numbers as JSON, and one self-contained page."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from cmrsr.io.outputs import output_errors, replacing, write_json_atomic
from cmrsr.io.series import Kind
from cmrsr.realism.distance import Distance, Gap, by_kind, distance, gaps, n_patients, realism_record
from cmrsr.realism.figures import KIND_NAMES, disease_figure, population_figure, realism_figure
from cmrsr.realism.image_statistics import WINDOW, ImageStatistics
from cmrsr.realism.population import (
    ACDC_SOURCE,
    AGREEING_SD,
    AGREEING_SD_RATIO,
    GROUP_NAMES,
    GROUPS,
    LEAST_THICKENING,
    MEETING,
    NORMAL_SOURCE,
    THICKENING_SOURCE,
    HeartMeasures,
    SummaryRow,
    confusion,
    population_record,
    summarise,
)
from cmrsr.report import style
from cmrsr.report.page import NOTICE, Picture, duration, figures, signed, table, warning_list, write_page

TITLE = "Virtual patients beside real ones"
N_GAPS = 5  # of each kind, on the page
FILES = ("population.png", "disease.png", "realism.png")


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomEvaluation:
    """What was measured. healthy: asked for as normal; mixed: of all groups; no ``real`` scans, no ``virtual`` ones.

    ``skipped`` says in a line each which real series could not be compared.
    """

    command: str
    version: str
    started: datetime
    seconds: float
    seed: int
    healthy: Sequence[HeartMeasures]
    mixed: Sequence[HeartMeasures]
    real: Sequence[ImageStatistics] = ()
    virtual: Sequence[ImageStatistics] = ()
    skipped: Sequence[str] = ()


def write_phantom_evaluation(out: Path, evaluation: PhantomEvaluation) -> None:
    """Write ``FILES``, ``phantom.json`` and ``phantom.html`` to a folder; the figure of an earlier run does not stay.

    Raises OutputError if something cannot be written.
    """
    drawn = pictures(evaluation)
    for name in FILES:
        path = out / name
        if name in drawn:
            with replacing(path) as partial, output_errors(path):
                partial.write_bytes(drawn[name].data)
        else:
            with output_errors(path):
                path.unlink(missing_ok=True)
    write_json_atomic(out / "phantom.json", record(evaluation))
    write_page(out / "phantom.html", _page(evaluation, drawn))


def record(evaluation: PhantomEvaluation) -> dict[str, Any]:
    """All numbers, as plain values. "realism" is None where no real scans were given."""
    return {
        "software": f"cmrsr {evaluation.version}",
        "command": evaluation.command,
        "started": evaluation.started.isoformat(),
        "seconds": round(evaluation.seconds, 1),
        "seed": evaluation.seed,
        **population_record(evaluation.healthy, evaluation.mixed),
        "realism": realism_record(evaluation.real, evaluation.virtual) if evaluation.real else None,
        "skipped": list(evaluation.skipped),
    }


def pictures(evaluation: PhantomEvaluation) -> dict[str, Picture]:
    """The figures by the names of their files, each with a sentence on how to read it."""
    drawn = {
        "population.png": Picture(
            title="Healthy virtual hearts beside normal values",
            caption="Bars are mean ± 2 SD, the notch is the mean, a dot is one virtual subject. Blue should lie beside "
            "grey and be as long.",
            data=style.png(population_figure(evaluation.healthy)),
        ),
        "disease.png": Picture(
            title="Virtual patients beside the definitions of their disease",
            caption="Shaded is where a definition puts a group; a mark should lie in a field of its own colour. Filled "
            "marks are men, open ones women, for whom the dotted limit of volume holds.",
            data=style.png(disease_figure(evaluation.mixed)),
        ),
    }
    if evaluation.real:
        drawn["realism.png"] = Picture(
            title="Virtual beside real scans",
            caption=f"Mean over patients and the range of four in five series, in a window of {WINDOW} pixels around "
            "the heart. Blue should lie over black, and its range should reach as far.",
            data=style.png(realism_figure(by_kind(evaluation.real), by_kind(evaluation.virtual))),
        )
    return drawn


# --- the page ---------------------------------------------------------------------------------------------------------


def _page(evaluation: PhantomEvaluation, drawn: Mapping[str, Picture]) -> Iterator[str]:
    rows, meeting = summarise(evaluation.healthy), confusion(evaluation.mixed)
    yield _head(evaluation, rows, meeting)
    if evaluation.skipped:
        yield warning_list([f"Left out: {text}" for text in evaluation.skipped])
    yield "<h2>Size and function</h2>"
    yield _paragraph(
        "Healthy virtual subjects are drawn from the seed and measured as they truly are, without an image. Published "
        f"values are of healthy adults: {NORMAL_SOURCE}."
    )
    yield from figures([drawn["population.png"]])
    low, high = AGREEING_SD_RATIO
    yield _paragraph(
        "The difference is that of the means, in published standard deviations. A value agrees within "
        f"{AGREEING_SD:g} of them and with a spread of {low:g} to {high:g} times the published one."
    )
    yield _normal_table(rows)
    yield "<h2>Disease</h2>"
    yield _paragraph(
        f"Virtual patients of all groups beside the definitions of the ACDC challenge: {ACDC_SOURCE}. A segment "
        f"contracts abnormally if its wall thickens by less than {100 * LEAST_THICKENING:g} %: {THICKENING_SOURCE}."
    )
    yield from figures([drawn["disease.png"]])
    yield _paragraph(
        "A row holds the patients drawn as one group, a column says how many of them meet a definition. Definitions "
        "overlap, so that a row may sum to more than 100 %: a weak ventricle that is large meets MINF and DCM. The "
        "limits of volume of NOR are narrower than the range of healthy adults; healthy virtual hearts keep to them."
    )
    yield _group_table(evaluation.mixed, meeting)
    yield "<h2>Images</h2>"
    if evaluation.real:
        yield from _images(by_kind(evaluation.real), by_kind(evaluation.virtual), drawn["realism.png"])
    else:
        yield _paragraph("No real scans were given to compare with: name files or folders of them after the command.")
    yield _foot(evaluation)


def _head(evaluation: PhantomEvaluation, rows: Sequence[SummaryRow], meeting: Mapping[Any, Mapping[str, float]]) -> str:
    agreeing = sum(row.agrees for row in rows)
    met = sum(shares[group] >= MEETING for group, shares in meeting.items())
    tiles = [
        (str(len(evaluation.healthy)), "healthy hearts", "plain"),
        (str(len(evaluation.mixed)), "hearts of all groups", "plain"),
        (f"{agreeing} of {len(rows)}", "normal values agree", "ok" if agreeing == len(rows) else "failed"),
        (f"{met} of {len(meeting)}", "groups as defined", "ok" if met == len(meeting) else "failed"),
        *([(str(len(evaluation.real)), "real series", "plain")] if evaluation.real else []),
        (duration(evaluation.seconds), "total time", "plain"),
    ]
    boxes = "".join(
        f'<div class="tile {kind}"><b>{escape(value)}</b><span>{escape(what)}</span></div>'
        for value, what, kind in tiles
    )
    started = evaluation.started.strftime("%Y-%m-%d %H:%M:%S %Z").strip()
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{TITLE}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<style>{style.PAGE_CSS}</style></head><body><header><p class="brand">cmrsr <span>{escape(evaluation.version)}</span></p>
<h1>{TITLE}</h1><p class="when">{escape(started)} · seed {evaluation.seed}</p>
<p class="notice">{escape(NOTICE)}</p></header><main><div class="tiles">{boxes}</div>
"""


def _foot(evaluation: PhantomEvaluation) -> str:
    return (
        f"</main><footer><p>Command</p><pre>{escape(evaluation.command)}</pre>"
        f"<p>cmrsr {escape(evaluation.version)} · seed {evaluation.seed}</p><p>{escape(NOTICE)}</p>"
        "</footer></body></html>\n"
    )


def _normal_table(rows: Sequence[SummaryRow]) -> str:
    def cells(row: SummaryRow) -> list[str]:
        normal = row.normal
        return [
            f'<th scope="row">{escape(normal.title)} ({escape(normal.unit)})</th>',
            f"<td>{'men' if normal.sex == 'm' else 'women'}</td>",
            _number(row.n),
            _number(f"{row.mean:.1f}{_sd(row.sd)}", finished=True),
            _number(f"{normal.mean:.1f}{_sd(normal.sd)}", finished=True),
            _number(signed(row.difference, 2)),
            _number("" if row.sd_ratio is None else f"{row.sd_ratio:.2f}"),
            f"<td>{_chip(good=row.agrees, words=('agrees', 'off'))}</td>",
        ]

    heads = ("Measure", "", "Subjects", "Virtual", "Published", "Difference (SD)", "Ratio of spreads", "")
    return table(heads, map(cells, rows))


def _group_table(mixed: Sequence[HeartMeasures], meeting: Mapping[Any, Mapping[str, float]]) -> str:
    def cells(asked: str, shares: Mapping[str, float]) -> list[str]:
        percent = {group: f"{100 * share:.0f} %" if share else "–" for group, share in shares.items()}
        percent[asked] = f"<strong>{100 * shares[asked]:.0f} %</strong>"
        return [
            f'<th scope="row">{asked}: {GROUP_NAMES[asked]}</th>',  # type: ignore[index]
            _number(sum(m.group == asked for m in mixed)),
            *(_number(text, finished=True) for text in percent.values()),
            f"<td>{_chip(good=shares[asked] >= MEETING, words=('as defined', 'off'))}</td>",
        ]

    above = f'<tr><td colspan="2"></td><th colspan="{len(GROUPS) + 1}">meet the definition of</th><td></td></tr>'
    rows = (cells(asked, shares) for asked, shares in meeting.items())
    return table(("Drawn as", "Patients", *GROUPS, "none", ""), rows, above=above)


def _images(
    real: Mapping[Kind, list[ImageStatistics]], virtual: Mapping[Kind, list[ImageStatistics]], figure: Picture
) -> Iterator[str]:
    yield _paragraph(
        "Statistics of every image that are free of its grey scale, in real scans and in scans of virtual patients. "
        "They are per pixel, so scans of like pixel size compare best."
    )
    yield from figures([figure])
    yield _paragraph(
        "The ratio says how far a virtual series lies from the mean of the real ones: 1 is as far as a real series "
        "lies from the other patients. Covered is the share of the real values within the range of the virtual ones."
    )
    for kind in (kind for kind in real if kind in virtual):
        yield f"<h3>{escape(KIND_NAMES.get(kind, kind))}</h3>"
        yield _distance_table(distance(real[kind], virtual[kind]).values())
        if n_patients(real[kind]) > 1:
            yield f"<h3>{escape(KIND_NAMES.get(kind, kind))}: widest gaps</h3>"
            yield _gap_table(gaps(real[kind], virtual[kind])[:N_GAPS])


def _distance_table(distances: Any) -> str:
    def cells(one: Distance) -> list[str]:
        ratio = "one patient only" if one.ratio is None else f"{one.ratio:.2f}"
        return [
            f'<th scope="row">{escape(one.statistic.title)}</th>',
            _number(f"{one.typical:.3g}"),
            _number("" if one.spread is None else f"{one.spread:.3g}"),
            f"<td>{escape(one.statistic.unit)}</td>",
            _number(ratio),
            _number(f"{100 * one.covered:.0f} %"),
        ]

    return table(("Statistic", "Virtual from real", "Real from real", "", "Ratio", "Covered"), map(cells, distances))


def _gap_table(found: Sequence[Gap]) -> str:
    def cells(gap: Gap) -> list[str]:
        return [
            f'<th scope="row">{escape(gap.statistic.title)}</th>',
            f"<td>{escape(gap.band)}</td>",
            _number(f"{gap.virtual:.3g}".replace("-", "−")),
            _number(f"{gap.real:.3g}".replace("-", "−")),
            f"<td>{escape(gap.unit)}</td>",
            _number(signed(gap.spreads, 1)),
        ]

    return table(("Statistic", "Band", "Virtual", "Real", "", "Gap (spreads of the real)"), map(cells, found))


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _number(value: object, *, finished: bool = False) -> str:
    return f'<td class="number">{value if finished else escape(str(value))}</td>'


def _sd(sd: float | None) -> str:
    return "" if sd is None else f' <span class="sd">± {sd:.1f}</span>'


def _chip(*, good: bool, words: tuple[str, str]) -> str:
    return f'<span class="chip {"ok" if good else "failed"}">{"✓" if good else "✕"} {words[not good]}</span>'
