"""Virtual patients to score ``mie`` on: the short-axis slices that T1 images are taken of, in all three scans."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from cmrsr.errors import UsageError
from cmrsr.io.series import Series
from cmrsr.phantom import scans
from cmrsr.phantom.examination import Examination, Protocol
from cmrsr.phantom.patient import Group, VirtualPatient, draw_patient
from cmrsr.phantom.scan import LABELS, VirtualScan
from cmrsr.phantom.seeds import check_unseen
from cmrsr.phantom.truth import STRAIN_COMPONENTS, heart_truth
from cmrsr.tasks.mie.evaluation.cases import Case, Enhancement

RENDERED = 1  # raised when the scans change, so that old caches are not used
MOST_SLICES = 3
# Infarcts at any ejection fraction, so that a weak heart alone is no sign of a scar.
INFARCT_EF = (0.22, 0.62)
_STREAM = 31  # of a patient's random numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualPatients:
    """Who is scanned, and how much of them: T1 slices, phases of the cine. Numbers out of range raise UsageError."""

    n: int
    seed: int = 1000
    groups: tuple[Group, ...] = ("normal", "infarct")  # in turn
    n_slices: int = MOST_SLICES
    n_frames: int = 20

    def __post_init__(self) -> None:
        check_unseen(self.seed, self.n)
        if not 1 <= self.n_slices <= MOST_SLICES:
            raise UsageError(f"--slices {self.n_slices}: expected 1 to {MOST_SLICES}")
        if not 8 <= self.n_frames <= 500:
            raise UsageError(f"--frames {self.n_frames}: expected 8 to 500")
        if not self.groups or set(self.groups) - set(get_args(Group)):
            raise UsageError(f"--groups {','.join(self.groups)}: expected some of {', '.join(get_args(Group))}")

    def group(self, subject: int) -> Group:
        """Of patient number ``subject``, from 1."""
        return self.groups[(subject - 1) % len(self.groups)]


def parse_groups(text: str) -> tuple[Group, ...]:
    """The groups of ``--groups``, separated by commas; ``VirtualPatients`` checks them."""
    return cast(tuple[Group, ...], tuple(part.strip() for part in text.split(",") if part.strip()))


def virtual_case(who: VirtualPatients, subject: int, cache: Path | None = None) -> Case:
    """Patient number ``subject`` (from 1) scanned, or read from the folder ``cache``, where it is kept."""
    if cache is None:
        return _case(_rendered(who, subject))
    path = cache / f"mie-{who.seed}-{subject:04d}-{_digest(who, subject)}.npz"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npz")
        try:
            np.savez_compressed(partial, allow_pickle=False, **_rendered(who, subject))
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    with np.load(path, allow_pickle=False) as kept:
        return _case(dict(kept))


def _digest(who: VirtualPatients, subject: int) -> str:
    """What a scan depends on, of however many others there are."""
    words = {k: v for k, v in asdict(who).items() if k not in ("n", "groups")}
    said = json.dumps([RENDERED, words, subject, who.group(subject)], sort_keys=True)
    return sha256(said.encode()).hexdigest()[:12]


def draw(who: VirtualPatients, subject: int) -> VirtualPatient:
    """A virtual patient (subject from 1) of the group whose turn it is; infarcts with any ejection fraction."""
    group = who.group(subject)
    if group != "infarct":
        return draw_patient(who.seed, subject, group)
    choice = np.random.default_rng((who.seed, subject, _STREAM))
    return draw_patient(who.seed, subject, group, float(choice.uniform(*INFARCT_EF)))


def examine(patient: VirtualPatient, n_slices: int, n_frames: int) -> Iterator[VirtualScan]:
    """Cine, T1 images and late enhancement of the T1 slices alone: all else of a stack is never looked at."""
    exam = Examination(patient, Protocol(kinds=("cine", "t1", "lge"), n_frames=n_frames))
    exam.n_levels = min(exam.n_levels, n_slices)
    levels = exam.levels()
    exam.planes = [exam.planes[z] for z in levels]
    exam.gap *= levels[1] - levels[0] if len(levels) > 1 else 1
    for scan in (scans.cine, scans.t1, scans.lge):
        yield from scan(exam)


def _rendered(who: VirtualPatients, subject: int) -> dict[str, Any]:
    """All that is kept of a patient's scans, as arrays."""
    patient = draw(who, subject)
    kept: dict[str, Any] = {
        "name": patient.identity.name, "group": patient.group,
        "scar_whole_g": heart_truth(patient)["scar"]["mass_g"],
    }  # fmt: skip
    for scan in examine(patient, who.n_slices, who.n_frames):
        kept |= {
            f"{scan.kind}_frames": scan.frames,
            f"{scan.kind}_affine": scan.affine,
            f"{scan.kind}_ms": scan.times_ms,
        }
        if scan.kind == "cine":
            kept["e_cc"] = _true_strain(scan)
        if scan.kind == "lge":
            kept |= {"clean": scan.clean[0], "labels": scan.labels[0]}
    return {name: np.asarray(value) for name, value in kept.items()}


def _true_strain(cine: VirtualScan) -> Any:
    """Mean circumferential strain (z,) in percent of the wall in the slices at end systole; NaN without wall."""
    es = int(np.argmax(cine.truth["activation"]))
    strain = cine.volumes["strain"][es][..., STRAIN_COMPONENTS.index("circumferential")]
    wall = np.isin(cine.labels[es], (LABELS["myocardium"], LABELS["scar"]))
    return np.array([100 * s[w].mean() if w.any() else np.nan for s, w in zip(strain, wall, strict=True)])


def _case(kept: dict[str, Any]) -> Case:
    name = str(kept["name"])

    def series(kind: Any) -> Series:
        one = Series.from_array(
            kept[f"{kind}_frames"],
            affine=kept[f"{kind}_affine"],
            times_ms=kept[f"{kind}_ms"],
            kind=kind,
            phase_axis="y",
        )
        return replace(one, source=replace(one.source, name=f"{name} {kind}"))

    labels = kept["labels"]
    return Case(
        name=name, group=str(kept["group"]), t1=series("t1"), cine=series("cine"),
        late=Enhancement(
            series=series("lge"), clean=kept["clean"], scar=labels == LABELS["scar"],
            labels=np.where(labels == LABELS["scar"], LABELS["myocardium"], labels).astype(np.uint8),
        ),
        e_cc_percent=kept["e_cc"], scar_whole_g=float(kept["scar_whole_g"]),
    )  # fmt: skip
