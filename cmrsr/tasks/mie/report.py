"""One case of ``cmrsr mie`` as the report shows it: scar, what speaks against it, and what it was computed from."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from cmrsr.batch.run import CaseResult
from cmrsr.report import facts, style
from cmrsr.report.case import ReportCase
from cmrsr.report.facts import words
from cmrsr.report.page import Picture
from cmrsr.report.report import illustrated_case, plain_case
from cmrsr.runtime.bundle import Bundle
from cmrsr.tasks.mie.bulls_eyes import four_bulls_eyes
from cmrsr.tasks.mie.details import MieDetails
from cmrsr.tasks.mie.figures import batch_figure, motion_figure, recovery_figure, strain_curves, strain_figure
from cmrsr.tasks.mie.numbers import NO_SCAR, scar_mass, scar_share, segment_rows, slice_table, strain_words, t1_words
from cmrsr.tasks.mie.plan import MieOptions
from cmrsr.tasks.mie.slices import (
    base_to_apex,
    enhancement_sheet,
    most_scarred,
    place_of,
    slice_sheet,
    source_sheet,
)

LEAST_CASES, MOST_CASES = 2, 40  # of a picture of the batch
SHEET_DPI = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class MieReportCase(ReportCase):
    """With the numbers that the picture of the batch shows; NaN where unknown."""

    scar_percent: float
    e_cc_percent: float


def report_case(result: CaseResult, bundle: Bundle, options: MieOptions, *, illustrated: bool = True) -> ReportCase:
    """A case of the batch as the report shows it; without details (failed, skipped) only its status and message."""
    details = result.details
    plain = plain_case(result)
    if not isinstance(details, MieDetails):
        return plain
    measured = details.measured
    cautions = tuple(flag.message for flag in measured.flags)
    slices = base_to_apex(details.slices)
    numbers = {one.z: one for one in measured.slices}
    mass, share = scar_mass(measured), scar_share(measured)
    strain = words(measured.e_cc_percent, "%")
    about = {
        "columns": (("Scar", mass), ("Scar fraction", share), ("Strain (circ.)", strain),
                    ("Myocardial T1", words(measured.t1_wall_ms, "ms"))),
        "cautions": cautions,
        "headline": (
            ("scar by the model" if mass != NO_SCAR else "by the model", mass),
            *((("of the LV myocardium in the slices", share),) if share else ()),
            ("uncertain, of the myocardium", words(measured.uncertainty_percent, "%", digits=1)),
            ("native T1, myocardium without scar", words(measured.t1_wall_ms, "ms")),
            ("circumferential strain", strain),
        ),
        "tables": (slice_table([numbers[one.z] for one in slices]),),
        "tables_below": (segment_rows(measured.table),) if measured.table is not None else (),
        "facts": (
            ("Kind of image", "SYNTHETIC, not acquired: computed without contrast agent"),
            ("Automatic checks", _checks(len(cautions))),
            ("Computed from", _sources(details)),
            ("Counted as scar", f"probability of {options.threshold:g} or more, in the wall"),
            ("Mass", f"of the wall in these slices {words(measured.wall_g, 'g')}, as if each stood for "
                     f"{measured.gap_mm:.0f} mm"),
            ("Native T1", t1_words(measured)),
            ("Circumferential strain", strain_words(measured)),
            facts.spacing(_spacing_mm(details)),
            ("Reader of the cine", options.reader),
            *facts.how(bundle, options, details.device, result.seconds),
        ),
        "n_images": len(details.slices),
        "seconds": result.seconds,
        "warnings": tuple(warning for warning in result.warnings if warning not in cautions),
        "notes": tuple(note for note in result.notes if note != details.device),
    }  # fmt: skip
    known = {field.name: getattr(plain, field.name) for field in fields(plain)}
    case = MieReportCase(
        **{**known, **about}, scar_percent=measured.scar_percent, e_cc_percent=measured.e_cc_percent
    )  # fmt: skip
    return illustrated_case(case, lambda: tuple(_pictures(details))) if illustrated else case


def batch_pictures(cases: Sequence[ReportCase]) -> list[Picture]:
    """Scar and strain of all cases with an answer, those with most scar first; none for a single case."""
    found = [case for case in cases if isinstance(case, MieReportCase) and math.isfinite(case.scar_percent)]
    if len(found) < LEAST_CASES:
        return []
    shown = sorted(found, key=lambda case: -case.scar_percent)[:MOST_CASES]
    some = f" Of {len(found)} cases, the {len(shown)} with most scar." if len(shown) < len(found) else ""
    return [
        Picture(
            title="Scar and strain of all cases",
            caption="Left: scar by the model, of the wall in the slices. Right: mean circumferential strain of the "
            "whole wall; the wall of a healthy ventricle shortens, which is negative. Hollow: look at its "
            f"cautions.{some}",
            data=style.png(
                batch_figure(
                    [_short(case.name) for case in shown], [case.scar_percent for case in shown],
                    [case.e_cc_percent for case in shown], [bool(case.cautions) for case in shown],
                )
            ),
        )
    ]  # fmt: skip


# --- facts ------------------------------------------------------------------------------------------------------------


def _checks(n_flags: int) -> str:
    return (
        "none found a reason for doubt" if not n_flags else f"{facts.counted(n_flags, 'reason')} for doubt, see above"
    )


def _sources(details: MieDetails) -> str:
    times = details.plan.inversion_ms
    n = details.measured.n_inversions
    return (
        f"{facts.counted(n, 'native T1 image')} a slice (TI {times.min():.0f} to {times.max():.0f} ms) and the cine, "
        f"{facts.counted(len(details.slices), 'slice')}"
    )


def _spacing_mm(details: MieDetails) -> tuple[float, float, float]:
    x, y, z = (float(mm) for mm in np.linalg.norm(details.affine[:3, :3], axis=0))
    return z, y, x


def _short(name: str, most: int = 28) -> str:
    """The end of a long name, which tells cases apart."""
    return name if len(name) <= most else "…" + name[-most + 1 :]


# --- pictures ---------------------------------------------------------------------------------------------------------


def _pictures(details: MieDetails) -> Iterator[Picture]:
    """The result first, then what it rests on."""
    slices, measured = base_to_apex(details.slices), details.measured
    of_all = "" if len(slices) == len(details.slices) else f" {len(slices)} of {len(details.slices)} slices."
    one = most_scarred(slices)
    name = " ".join(filter(None, (place_of(one)[0], f"({place_of(one)[1]})" if place_of(one)[1] else "")))
    scar = measured.scar_g > 0
    yield Picture(
        title="Synthetic late enhancement",
        caption="Computed by the model, not acquired, and without contrast agent: bright in the wall is where the "
        "model expects scar. Below with the wall as the cine shows it"
        + (" and the scar that was measured." if scar else "; no scar was found.")
        + f" One grey scale for all slices.{of_all}",
        data=style.png(enhancement_sheet(slices)),
    )
    yield Picture(
        title="What led to it, slice by slice",
        caption=_slice_caption(details),
        data=style.png(slice_sheet(slices, measured.t1_wall_ms), SHEET_DPI),
    )
    yield Picture(
        title="What it was computed from",
        caption=f"The images of {name} that the model was given, and nothing else of the patient: native T1 images by "
        "inversion time, with their motion corrected, and the cine over the beat from end diastole on; of more than "
        "eight, eight are shown. At the right "
        "what it made of them.",
        data=style.png(source_sheet(one)),
    )
    if measured.table is not None:
        grey = "" if np.isfinite(measured.table.scar_percent).all() else " Grey: not covered by the slices."
        yield Picture(
            title="By segment",
            caption="The 16 segments of the American Heart Association, seen from the apex; the outer ring is the "
            "base. Transmurality: how deep the scar is where there is scar, from one face of the wall to the other. "
            f"Strain: blue shortens, white is still, red is stretched.{grey}",
            data=style.png(four_bulls_eyes(measured.table, measured.t1_wall_ms)),
        )
    if curves := strain_curves(slices):
        yield Picture(
            title="Strain over the beat",
            caption="Circumferential strain of the wall in the cine, mean of the slices: negative is shortening. "
            + ("Scar should shorten less than the wall without; " if scar else "")
            + "after a beat the curve comes back to zero, because the motion is made to close.",
            data=style.png(strain_figure(curves, one.es)),
        )
    yield Picture(
        title="Recovery after the inversion",
        caption=f"Mean signal of {name} in the native T1 images (marks) and the T1 fit of each mean (lines). The marks "
        "should lie on the lines; where they do not, images of one slice do not belong together, or the inversion "
        "times are wrong. Magnitudes: before zero is passed, the signal points upwards.",
        data=style.png(recovery_figure(one)),
    )
    failed = sum(int((~s.registered).sum()) for s in slices)
    yield Picture(
        title="Motion of the T1 images, corrected",
        caption="How far each T1 image was moved in the plane so that the images of a slice lie on each other."
        + (f" A cross: {facts.counted(failed, 'image')} could not be corrected." if failed else ""),
        data=style.png(motion_figure(slices)),
    )


def _slice_caption(details: MieDetails) -> str:
    several = any(one.image_std is not None for one in details.slices)
    return (
        "From left to right: the native T1 image of the longest inversion time with the wall; the T1 map (black: no "
        "T1 fits); tissues that recover alike, by rising T1; circumferential strain of the wall at end systole, drawn "
        "where the wall lies at end diastole (blue shortens, red is stretched); the synthetic image with the scar; the "
        "probability of scar"
        + (
            "; uncertainty: by how much the image differs between samples of the model (standard deviation). "
            if several
            else ". With one sample there is no picture of uncertainty; take several (--samples). "
        )
        + "Each column has one scale for all slices."
    )
