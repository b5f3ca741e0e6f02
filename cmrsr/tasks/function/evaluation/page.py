"""The page of an evaluation of function: engines, agreement, detection, images, tests, and what was done."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from cmrsr.metrics.agreement import Agreement, Detection, Interval
from cmrsr.metrics.statistics import Comparison
from cmrsr.report import report
from cmrsr.report.page import Picture, duration, figures, signed, table, warning_list, write_page
from cmrsr.report.report import ReportRun
from cmrsr.tasks.function.evaluation.images import LOWER_IS_BETTER
from cmrsr.tasks.function.evaluation.protocol import FULL, CaseScore, Protocol, failures_of
from cmrsr.tasks.function.evaluation.record import labels_against_body
from cmrsr.tasks.function.evaluation.summary import (
    BY_EF,
    BY_PROBABILITY,
    LARGE,
    LOW_EF,
    PUBLISHED,
    UNITS,
    Confidence,
    Row,
    compare_errors,
    compare_images,
    compare_overlap,
    confidence_of,
    detections,
    engine_rows,
    input_name,
    overlap_at_phases,
    rows_of,
)

FIGURES = {
    **dict.fromkeys(("PSNR (dB)",), 2), **dict.fromkeys(("SSIM", "TCI", "EF r", "AUC"), 3),
    "EF error": 1, "EF error by regression": 1, "EDV error": 1, "ESV error": 1, "RV EF error": 1,
    "sensitivity": 2, "specificity": 2, "Dice LV": 3, "Dice myocardium": 3, "Dice RV": 3,
}  # fmt: skip  # of an engine's row, with their decimals
HEADS = {
    "EF error": "EF error (points)", "EF error by regression": "by regression", "EF r": "r of EF",
    "EDV error": "EDV error (mL)", "ESV error": "ESV error (mL)", "RV EF error": "RV EF error (points)",
}  # fmt: skip
NOTHING = '<td class="number">–</td>'
MOST_NOTES = 20


def write_function_page(
    path: Path,
    results: Sequence[CaseScore],
    engines: Sequence[str],
    protocol: Protocol,
    run: ReportRun,
    *,
    words: Sequence[str],
    pictures: Sequence[Picture],
    not_scored: Sequence[str] = (),
) -> None:
    """Write the page. words: paragraphs on what was done; not_scored: a line for every case without a result.

    Raises OutputError if it cannot be written.
    """
    write_page(path, _page(results, engines, protocol, run, words, pictures, not_scored))


def _page(
    results: Sequence[CaseScore],
    engines: Sequence[str],
    protocol: Protocol,
    run: ReportRun,
    words: Sequence[str],
    pictures: Sequence[Picture],
    not_scored: Sequence[str],
) -> Iterator[str]:
    refused = [*not_scored, *failures_of(results)]
    yield report.page_head(run, [
        (str(len(results)), "cases", "plain"), (str(len({r.patient for r in results})), "patients", "plain"),
        (str(len(engines)), "engines", "plain"), (str(len(refused)), "refused", "failed" if refused else "none"),
        (duration(run.seconds), "total time", "plain"),
    ])  # fmt: skip
    if refused:
        yield warning_list(refused)
    yield "<h2>Engines</h2>" + _engine_table(results, engines, protocol)
    yield "<h2>Function</h2>" + _agreement_table(rows_of(results, engines, protocol), engines)
    if found := detections(results, engines, protocol):
        yield f"<h3>EF below {LOW_EF:g} %</h3>" + _detection_table(found, engines)
    if doubts := confidence_of(results, engines, protocol):
        yield "<h3>What a flag is worth</h3>" + _confidence_table(doubts, engines)
    if at := overlap_at_phases(results, engines, protocol):
        yield "<h3>Masks at end diastole and end systole</h3>" + _phase_table(at, engines)
    yield from figures(pictures)
    yield "<h2>Protocol</h2>" + "".join(f"<p>{escape(paragraph)}</p>" for paragraph in words)
    images = compare_images(results, engines)
    errors = compare_errors(results, engines, protocol)
    overlap = compare_overlap(results, engines, protocol)
    for title, said, found_ones, lower in (
        ("Images", "Against full resolution.", images, LOWER_IS_BETTER),
        ("Errors of function", "Absolute differences to the reference.", errors, {c.metric for c in errors}),
        ("Overlap of masks", "With the reference labels.", overlap, ()),
    ):
        if found_ones:
            yield from _comparison_section(title, said, found_ones, tuple(lower))
    yield report.page_foot(run)


def _comparison_section(title: str, said: str, found: Sequence[Comparison], lower: Sequence[str]) -> Iterator[str]:
    methods = list(dict.fromkeys(c.method for c in found))
    n = found[0].per_image.n
    yield (
        f"<h2>{title}</h2><p>{said} Mean ± standard deviation over {n} values of {found[0].per_patient.n} patients, "
        "those that every row has; the best of each column is set in bold.</p>"
    )
    yield report.result_table(found, methods, lower)
    for baseline in (m for m in methods if any(m in c.image_tests for c in found)):
        yield f"<h3>{title}: difference to {escape(baseline)}</h3>{report.paired_table(found, baseline)}"


def _engine_table(results: Sequence[CaseScore], engines: Sequence[str], protocol: Protocol) -> str:
    """The figures that papers print, a row an engine, and the published ones."""
    rows = engine_rows(results, engines, protocol)
    shown = [name for name in FIGURES if any(name in row.figures for row in rows)]

    def cells(figures: Mapping[str, float]) -> list[str]:
        return [
            f'<td class="number">{figures[name]:.{FIGURES[name]}f}</td>' if name in figures else NOTHING
            for name in shown
        ]

    body = [
        [f'<th scope="row">{escape(row.engine)}</th>', f"<td>{escape(row.condition)}</td>", *cells(row.figures),
         f'<td class="number">{row.n_failed} of {len(results)}</td>']
        for row in rows
    ]  # fmt: skip
    published = ['<th scope="row">in print (UK Biobank), not measured here</th>', "<td>super-resolved</td>"]
    body.append([*published, *cells(PUBLISHED), NOTHING])
    return table(("Engine", "Input", *(HEADS.get(name, name) for name in shown), "no EF"), body)


def _confidence_table(rows: Sequence[Confidence], engines: Sequence[str]) -> str:
    """Errors of the EF among flagged and other cases, and how often the interval that is given with it holds."""

    def number(text: str) -> str:
        return f'<td class="number">{text}</td>'

    def points(value: float | None) -> str:
        return NOTHING if value is None else number(f"{value:.1f}")

    body = [
        [f'<th scope="row">{escape(input_name(row.engine, row.condition, "", engines))}</th>',
         number(f"{row.n_flagged} of {row.n_cases}"), points(row.flagged_error), points(row.unflagged_error),
         number(f"{row.n_large_flagged} of {row.n_large}"),
         NOTHING if row.n_within is None else number(f"{row.n_within} of {row.n_cases}")]
        for row in rows
    ]  # fmt: skip
    heads = (
        "Measured on", "flagged", "EF error, flagged (points)", "EF error, others (points)",
        f"errors above {LARGE:g} points flagged", "EF within its 90 % interval",
    )  # fmt: skip
    return table(heads, body)


def _phase_table(found: Mapping[tuple[str, str, str], tuple[float, float, int]], engines: Sequence[str]) -> str:
    """Mean Dice of every structure at both phases."""
    body = [
        [f'<th scope="row">{escape(input_name(engine, condition, "", engines))}</th>', f"<td>{escape(structure)}</td>",
         *(f'<td class="number">{value:.3f}</td>' for value in (ed, es)), f'<td class="number">{n}</td>']
        for (engine, condition, structure), (ed, es, n) in found.items()
    ]  # fmt: skip
    return table(("Measured on", "Structure", "Dice at ED", "Dice at ES", "cases"), body)


def _agreement_table(rows: Sequence[Row], engines: Sequence[str]) -> str:
    """Every quantity of every row: error, bias with limits, correlation."""
    body = []
    for row in rows:
        for n, (quantity, one) in enumerate(row.agreement.items()):
            name = escape(input_name(row.engine, row.condition, row.source, engines))
            missing = f' <span class="sd">({row.n_failed} of {row.n_cases} without)</span>' if row.n_failed else ""
            head = f'<th scope="rowgroup" rowspan="{len(row.agreement)}">{name}{missing}</th>' if n == 0 else ""
            body.append([head, f'<td class="number">{quantity} ({UNITS[quantity]})</td>', *_agreement_cells(one)])
    return table(
        ("Measured on", "Quantity", "n", "mean absolute error", "bias [limits of agreement]", "RMSE", "r [95 % CI]"),
        body,
    )


def _agreement_cells(one: Agreement) -> list[str]:
    limits = "" if one.limits is None else f" [{signed(one.limits[0], 1)}, {signed(one.limits[1], 1)}]"
    r = "–" if one.r is None else f'{one.r:.3f}<span class="sd">{_interval(one.r_ci95, 3)}</span>'
    return [
        f'<td class="number">{one.n}</td>',
        f'<td class="number"><strong>{one.mae:.1f}</strong></td>',
        f'<td class="number">{signed(one.bias, 1)}<span class="sd">{limits}</span></td>',
        f'<td class="number">{one.rmse:.1f}</td>',
        f'<td class="number">{r}</td>',
    ]


def _detection_table(found: Mapping[tuple[str, str, str], Detection], engines: Sequence[str]) -> str:
    body = [
        [
            f'<th scope="row">{escape(input_name(engine, condition, "", engines))}</th>',
            f"<td>{escape(rule)}</td>",
            f'<td class="number">{one.n_positive} of {one.n_positive + one.n_negative}</td>',
            *(
                NOTHING if value is None
                else f'<td class="number">{value:.{digits}f}<span class="sd">{_interval(interval, digits)}</span></td>'
                for value, interval, digits in (
                    (one.auc, one.auc_ci95, 3), (one.sensitivity, one.sensitivity_ci95, 2),
                    (one.specificity, one.specificity_ci95, 2),
                )
            ),
        ]
        for (engine, condition, rule), one in found.items()
    ]  # fmt: skip
    return table(("Measured on", "Called abnormal by", "abnormal", "AUC", "sensitivity", "specificity"), body)


def _interval(interval: Interval | None, digits: int) -> str:
    return "" if interval is None else f" [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"


def protocol_words(results: Sequence[CaseScore], protocol: Protocol, *, virtual: str = "") -> list[str]:
    """Paragraphs on what was done. ``virtual``: who the virtual patients are, if they are."""
    words = [virtual] if virtual else []
    words.append(f"{FULL.name}: every series as `cmrsr function` takes it by itself.")
    if protocol.scale > 1:
        words.append(
            "Half resolution: the central half of k-space along both axes of the plane, magnitude, twice the pixel "
            "size. Zero-filled: brought back to the matrix in k-space and measured as it is. Super-resolved: restored "
            "by the engine and measured. Images are compared with those of full resolution, noise included: PSNR and "
            "SSIM of every image on the range of its reference, then the mean"
            + (f"; heart: in a window of {protocol.crop} x {protocol.crop} pixels." if protocol.crop else ".")
        )
        words.append(
            "TCI, temporal consistency: 1 - sum |d SR - d HR| / (sum |d SR| + sum |d HR|), d the difference of "
            "neighbouring frames. Gradient error: the mean of |d SR - d HR|, in percent of the signal that 99.5 % of "
            "the series stay below. The paper prints no formula for its index; this one is ours."
        )
    words.append(
        "Masks: volumes by summation of discs over the masks. Regression: by the engine's direct estimate of areas, at "
        "the same ED and ES. Dice: mean over the labelled frames of a case. Bias: measured minus reference; limits of "
        "agreement: bias ± 1.96 standard deviations."
    )
    words.append(
        f"Abnormal: reference EF below {LOW_EF:g} %. Told by {BY_PROBABILITY} of the engine's verdict, and by {BY_EF} "
        "of the masks; AUC is the share of pairs of an abnormal and a normal case that are in the right order, with "
        "DeLong's interval, sensitivity and specificity have Wilson's."
    )
    if body := labels_against_body(results):
        listed = "; ".join(
            f"{name} {signed(one['bias'], 1)} ± {one['sd'] or 0:.1f} {UNITS[name]}" for name, one in body.items()
        )
        words.append(
            "The reference is what summation of discs over the labels of the scan gives. It differs from the virtual "
            f"heart itself, which slices only sample, by (mean ± SD): {listed}."
        )
    if notes := list(dict.fromkeys(note for r in results for note in r.reference.notes)):
        words.append("Notes. " + "; ".join(notes[:MOST_NOTES]) + ("; ..." if len(notes) > MOST_NOTES else "") + ".")
    return words
