"""The page of an evaluation of ``mie``: methods, scar, images, segments, strain, swapped inputs, and what was done."""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from cmrsr.heart.window import READING_MM
from cmrsr.metrics.agreement import Agreement, Interval
from cmrsr.metrics.statistics import Comparison, format_p
from cmrsr.report import report
from cmrsr.report.page import Picture, duration, figures, signed, table, warning_list, write_page
from cmrsr.report.report import ReportRun
from cmrsr.tasks.mie.evaluation.baselines import BEST_INVERSION, T1_MAP, T1_THRESHOLD
from cmrsr.tasks.mie.evaluation.images import FARTHEST_MM, LOWER_IS_BETTER, LPIPS
from cmrsr.tasks.mie.evaluation.protocol import CLEAN, MOVED, REFERENCES, UNMOVED, CaseScore, Swapped, failures_of
from cmrsr.tasks.mie.evaluation.summary import (
    DETECTED_G,
    EXTENT,
    PUBLISHED,
    VOLUME,
    ScarRow,
    compare_images,
    compare_scar,
    engine_rows,
    flag_counts,
    scar_rows,
    shifts_of,
    strain_agreement,
    swap_row,
)
from cmrsr.tasks.mie.features.signs import HEART_CROP, SCALE_QUANTILE

DIGITS = {
    "SSIM": 3, "PSNR (dB)": 2, "MSE": 4, "LPIPS": 3, "SSIM in scar": 3, "PSNR in scar (dB)": 2, "sensitivity": 2,
    "specificity": 2, "AUC": 3, "r of scar": 3, "Dice": 3, "kappa": 2,
}  # fmt: skip  # of a method's row
NOTHING = '<td class="number">–</td>'
SYNTHETIC = "The enhancement that is judged here is SYNTHETIC: no contrast agent was given for it."


def write_mie_page(
    path: Path,
    results: Sequence[CaseScore],
    engines: Sequence[str],
    swapped: Sequence[Swapped],
    run: ReportRun,
    *,
    words: Sequence[str],
    pictures: Sequence[Picture],
    not_scored: Sequence[str] = (),
) -> None:
    """Write the page. words: paragraphs on what was done; not_scored: a line for every case without a result.

    Raises OutputError if it cannot be written.
    """
    write_page(path, _page(results, engines, swapped, run, words, pictures, not_scored))


def _page(
    results: Sequence[CaseScore],
    engines: Sequence[str],
    swapped: Sequence[Swapped],
    run: ReportRun,
    words: Sequence[str],
    pictures: Sequence[Picture],
    not_scored: Sequence[str],
) -> Iterator[str]:
    refused = [*not_scored, *failures_of(results)]
    yield report.page_head(run, [
        (str(len(results)), "patients", "plain"), (str(sum(len(r.slices) for r in results)), "slices", "plain"),
        (str(sum(bool(r.has_scar) for r in results)), "with scar", "plain"), (str(len(engines)), "engines", "plain"),
        (str(len(refused)), "refused", "failed" if refused else "none"), (duration(run.seconds), "total time", "plain"),
    ])  # fmt: skip
    yield f"<p>{SYNTHETIC}</p>"
    if refused:
        yield warning_list(refused)
    yield "<h2>Methods</h2>" + _method_table(results, engines)
    if rows := scar_rows(results, engines):
        yield "<h2>Scar</h2>" + _detection_table(rows) + "<h3>Extent</h3>" + _agreement_table(rows)
        yield "<h3>Where it is</h3>" + _place_table(rows)
    strain = [
        (f"{name}: {where}", one)
        for name in engines
        for where, middle in (("middle slices", True), ("all slices", False))
        if (one := strain_agreement(results, name, middle=middle))
    ]
    if strain:
        yield "<h2>Circumferential strain at end systole</h2>"
        yield table(("Wall of", "Quantity", *AGREEMENT_HEADS), (
            [f'<th scope="row">{escape(name)}</th>', '<td class="number">e_cc (%)</td>', *_agreement_cells(one)]
            for name, one in strain
        ))  # fmt: skip
    yield from _swap_section(swapped)
    yield from figures(pictures)
    yield "<h2>Protocol</h2>" + "".join(f"<p>{escape(paragraph)}</p>" for paragraph in words)
    for reference in REFERENCES:
        if found := compare_images(results, engines, reference):
            yield from _comparison_section(f"Images, against {reference}", found, LOWER_IS_BETTER)
    if errors := compare_scar(results, engines):
        yield from _comparison_section("Scar", errors, [c.metric for c in errors if "error" in c.metric])
    yield report.page_foot(run)


def _comparison_section(title: str, found: Sequence[Comparison], lower: Sequence[str]) -> Iterator[str]:
    """The metrics that have as many values share a table."""
    for n in dict.fromkeys(c.per_image.n for c in found):
        some = [c for c in found if c.per_image.n == n]
        methods = list(dict.fromkeys(c.method for c in some))
        yield (
            f"<h2>{escape(title)}: {escape(', '.join(dict.fromkeys(c.metric for c in some)))}</h2><p>Mean ± standard "
            f"deviation over {n} values of {some[0].per_patient.n} patients, those that every row has; the best of "
            "each column is set in bold.</p>"
        )
        yield report.result_table(some, methods, tuple(lower))
        for baseline in (m for m in methods if any(m in c.image_tests for c in some)):
            yield f"<h3>Difference to {escape(baseline)}</h3>{report.paired_table(some, baseline)}"


def _method_table(results: Sequence[CaseScore], engines: Sequence[str]) -> str:
    """Every method in a row, and the published figures, which are of other data."""
    rows = engine_rows(results, engines)
    shown = [name for name in DIGITS if any(name in row for row in rows)]
    rows.append({"method": "in print (CPKDM, 195 patients), not measured here", **PUBLISHED})
    return table(("Method", *shown), (
        [f'<th scope="row">{escape(row["method"])}</th>', *(
            f'<td class="number">{_figure(row[name], DIGITS[name])}</td>' if name in row else NOTHING for name in shown
        )]
        for row in rows
    ))  # fmt: skip


def _detection_table(rows: Sequence[ScarRow]) -> str:
    body = []
    for row in rows:
        one = row.detection
        if one is None:
            continue
        most = NOTHING if row.normal_largest_g is None else (
            f'<td class="number">{row.normal_largest_g:.1f}<span class="sd"> of {row.n_normal} patients</span></td>'
        )  # fmt: skip
        body.append([
            f'<th scope="row">{escape(row.method)}</th>',
            f'<td class="number">{one.n_positive} of {one.n_positive + one.n_negative}</td>',
            *(
                _with_interval(value, interval, digits) for value, interval, digits in (
                    (one.sensitivity, one.sensitivity_ci95, 2), (one.specificity, one.specificity_ci95, 2),
                    (one.auc, one.auc_ci95, 3),
                )
            ),
            most, f'<td class="number">{row.n_failed}</td>',
        ])  # fmt: skip
    heads = (
        f"Scar from {DETECTED_G:g} g on by", "have scar", "sensitivity", "specificity", "AUC of its mass",
        "most scar without any (g)", "refused",
    )  # fmt: skip
    return table(heads, body)


AGREEMENT_HEADS = ("n", "mean absolute error", "bias [limits of agreement]", "RMSE", "r [95 % CI]")


def _agreement_table(rows: Sequence[ScarRow]) -> str:
    body = []
    for row in rows:
        for i, (quantity, one) in enumerate(row.agreement.items()):
            head = f'<th scope="rowgroup" rowspan="{len(row.agreement)}">{escape(row.method)}</th>' if i == 0 else ""
            body.append([head, f'<td class="number">{quantity}</td>', *_agreement_cells(one)])
    return table(("Method", "Quantity", *AGREEMENT_HEADS), body)


def _agreement_cells(one: Agreement) -> list[str]:
    limits = "" if one.limits is None else f" [{signed(one.limits[0], 1)}, {signed(one.limits[1], 1)}]"
    return [
        f'<td class="number">{one.n}</td>',
        f'<td class="number"><strong>{one.mae:.1f}</strong></td>',
        f'<td class="number">{signed(one.bias, 1)}<span class="sd">{limits}</span></td>',
        f'<td class="number">{one.rmse:.1f}</td>',
        _with_interval(one.r, one.r_ci95, 3),
    ]


def _place_table(rows: Sequence[ScarRow]) -> str:
    """Overlap of masks, and segments in the same class of transmurality."""

    def number(value: float | None, digits: int, note: str = "") -> str:
        return NOTHING if value is None else f'<td class="number">{value:.{digits}f}<span class="sd">{note}</span></td>'

    heads = (
        "Method", "Dice of scar", "reference as it lies", "segments in the same class", "kappa", "of those with scar",
    )  # fmt: skip
    return table(heads, (
        [
            f'<th scope="row">{escape(row.method)}</th>',
            number(row.overlap.moved, 3, f" of {row.overlap.n}"), number(row.overlap.unmoved, 3),
            number(_percent(row.transmurality.share), 0, f" % of {row.transmurality.n}"),
            number(row.transmurality.kappa, 2),
            number(_percent(row.transmurality.share_scarred), 0, f" % of {row.transmurality.n_scarred}"),
        ]
        for row in rows
    ))  # fmt: skip


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _swap_section(swapped: Sequence[Swapped]) -> Iterator[str]:
    row = swap_row(swapped)
    if row is None:
        return
    yield (
        "<h2>Swapped inputs</h2><p>T1 images of each patient with the cine of another, whose header says that both lie "
        "in the same place. Told: refused, or flagged because both do not show the same heart.</p>"
    )

    def line(
        name: str, told: int, interval: Interval | None, flagged: int, agreement: float | None, p: str
    ) -> list[str]:
        dice = NOTHING if agreement is None else f'<td class="number">{agreement:.2f}</td>'
        return [
            f'<th scope="row">{name}</th>', f'<td class="number">{told} of {row.n}'
            f'<span class="sd">{_interval(interval, 2)}</span></td>', f'<td class="number">{flagged} of {row.n}</td>',
            dice, f'<td class="number">{p}</td>',
        ]  # fmt: skip

    own = "–" if row.own_uncertainty_percent is None else f"{row.own_uncertainty_percent:.1f} %"
    more = "–"
    if row.uncertainty is not None:
        one = row.uncertainty
        ci = "" if one.ci95 is None else f" [{signed(one.ci95[0], 1)}, {signed(one.ci95[1], 1)}]"
        p = "" if one.wilcoxon_p is None else f", Wilcoxon {format_p(one.wilcoxon_p)}"
        more = f"{signed(one.mean_difference, 1)} points{ci}{p}"
    yield table(("Inputs", "told", "any flag", "mean Dice of both hearts (least slice)", "uncertainty of the wall"), [
        line("swapped", row.n_told, row.told_ci95, row.n_flagged, row.mean_agreement, escape(more)),
        line("own", row.n_own_told, row.own_told_ci95, row.n_own_flagged, row.own_mean_agreement, own),
    ])  # fmt: skip
    if row.n_refused:
        yield f'<p class="note">{row.n_refused} of the swapped pairs were refused before anything was synthesised.</p>'
    if missed := [s for s in swapped if not s.refused and not s.flags]:
        listed = ", ".join(f"T1 of {s.t1} with cine of {s.cine}" for s in missed)
        yield f'<p class="note">Without any flag: {escape(listed)}.</p>'


def _with_interval(value: float | None, interval: Interval | None, digits: int) -> str:
    if value is None:
        return NOTHING
    return f'<td class="number">{_figure(value, digits)}<span class="sd">{_interval(interval, digits)}</span></td>'


def _interval(interval: Interval | None, digits: int) -> str:
    return "" if interval is None else f" [{_figure(interval[0], digits)}, {_figure(interval[1], digits)}]"


def _figure(value: float, digits: int) -> str:
    """With a true minus."""
    return f"{value:.{digits}f}".replace("-", "−")


def protocol_words(
    results: Sequence[CaseScore], engines: Sequence[str], *, virtual: str = "", best_image: int | None = None
) -> list[str]:
    """Paragraphs on what was done. virtual: who the virtual patients are; best_image: from 0, by inversion time."""
    words = [virtual] if virtual else []
    moved = shifts_of(results, engines[0])
    by = "" if moved.median_mm is None else (
        f" Engine {engines[0]}: by {moved.median_mm:.1f} mm in the median, {moved.largest_mm:.1f} mm at most"
        + (f"; in {moved.n_not} of {moved.n} slices no place was found, and it stayed." if moved.n_not else ".")
    )  # fmt: skip
    words.append(
        f"Images are compared on {HEART_CROP} x {HEART_CROP} pixels of {READING_MM:g} mm about the heart, in the plane "
        f"of the T1 image, each divided by its {SCALE_QUANTILE:g} quantile there. SSIM: Gaussian window of 11 pixels, "
        "sigma 1.5; SSIM, PSNR and MSE take the range of the reference, darkest to brightest pixel, as 1. In scar: "
        "PSNR over the pixels of the reference's scar mask, and the mean there of the local SSIM; it is not widened."
    )
    words.append(
        f"References. {MOVED}: late enhancement with its noise; it is another breath-hold, so it is moved within the "
        f"plane onto the synthetic image by the shift of the highest correlation about the heart, {FARTHEST_MM:g} mm "
        f"at most. {UNMOVED}: by the coordinates of the header alone. {CLEAN}: virtual patients alone, moved by the "
        f"same shift.{by}"
    )
    if LPIPS not in {k for r in results for rows in r.images.values() for row in rows for k in row}:
        words.append(
            "LPIPS was not computed: it needs a network with trained weights, and none is shipped. Give one as an ONNX "
            "file with --lpips."
        )
    which = "" if best_image is None else f" The best of the T1 images was number {best_image + 1} by inversion time."
    words.append(
        f"Baselines. {T1_THRESHOLD}: wall whose native T1 exceeds the mean of remote wall by 2 standard deviations, "
        f"remote being the sixth of the slice's wall with the lowest T1; the wall is ours. {BEST_INVERSION}, {T1_MAP}, "
        "and a weighted sum of all T1 images: offset and weights by least squares over all slices that are scored "
        f"here, which favours them; moved by the shifts of {engines[0]}.{which}"
    )
    words.append(
        f"Scar. A patient is called to have it from {DETECTED_G:g} g on, and has it where the reference mask has any "
        f"pixel in the slices. {VOLUME}: area times the distance between slices, in the T1 slices alone; {EXTENT}: of "
        "the wall in them. Intervals: Wilson's, of the AUC DeLong's. Bias: measured minus reference; limits of "
        "agreement: bias ± 1.96 standard deviations."
    )
    words.append(
        "Transmurality: by AHA segment the mean share of the wall that is scar, along the rays that meet any; in four "
        "classes parted at 25, 50 and 75 %. The reference is measured in the same way on its own wall where that was "
        "drawn, else on ours, in the same segments. Kappa: Cohen's."
    )
    if any(r.scar_whole_g is not None for r in results):
        words.append(
            "True strain: mean circumferential Green-Lagrange strain of the tissue that the slice shows at end "
            "systole. Ours is of the tissue that it shows at end diastole, followed in the plane."
        )
    for name in engines:
        if counts := flag_counts(results, name):
            listed = ", ".join(f"{code} ({n})" for code, n in counts.items())
            words.append(f"Flags of {name} on sound inputs, by cases: {listed}.")
    return words
