"""What a series of a study is for ``mie``: a cine, T1 images, or something to leave alone."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from cmrsr.errors import CmrsrError
from cmrsr.io.discover import Candidate
from cmrsr.io.nifti.series import nifti_stem
from cmrsr.io.nifti.sidecar import read_sidecar
from cmrsr.io.patient import patient_of
from cmrsr.io.series import Series
from cmrsr.tasks.mie.inputs.inversion_times import has_inversion_times

if TYPE_CHECKING:
    from cmrsr.io.dicom.read.instance import DicomInstance

# "unclear": nothing says what it is, it may be either where the user names it so. "apart": certainly neither.
Role = Literal["cine", "t1", "unclear", "apart"]
MIN_INVERSIONS, MAX_INVERSIONS = 3, 20  # images a slice of a T1 series that is known by its name alone
MIN_PHASES = 10  # of a cine that is known by its shape alone
MAX_BEAT_MS = 2500.0
_T1 = re.compile(r"(?<![a-z0-9])t1(?!\d)|molli|sasha|look.?locker|inversion.?recovery")
_CINE = re.compile(r"(?<![a-z])cine|cine(?![a-z])")
_MAP = re.compile(r"(?<![a-z])(maps?|fit|sd|std|error|conf)(?![a-z])|t[12]\*?.?maps?")
# dcm2niix writes _ph, BIDS part-phase. "Phase" alone also counts the phases of a beat.
_PARTIAL = re.compile(r"part-(phase|real|imag)|[_ ](ph|phase|real|imag(inary)?)$")
_SCOUT = re.compile(r"scout|locali[sz]er")
_SECOND_CHOICE = re.compile(r"flow|venc|(?<![a-z])(tag|tagging|grid|pc|rt|t2star)(?![a-z])|real.?time")
# Folders and first words of file names that sort the series of one patient, unlike those that name the patient.
_OF_SERIES = re.compile(
    r"(?<![a-z0-9])(cine|t1)(?!\d)|molli|sasha|(?<![a-z])(lge|perf)|^(sax|sa|shax|short|native|pre|post|base|basal|mid"
    r"|apex|apical|series|scan|img|images?|nifti|nii|dicom|anat|func|heart|cardiac|mri?|cmr|4d)$"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySeries:
    """A candidate whose header has been read; ``series`` is None and ``error`` says why where it cannot be.

    words: its name and description in lower case. study: equal for the series of one examination; person: of a NIfTI
    file, the first word of its name, which may tell patients in one folder apart, "" where it names none.
    filed: whether it lies in a folder for its kind of series.
    """

    candidate: Candidate
    series: Series | None
    error: CmrsrError | None
    role: Role
    words: str
    study: tuple[str, ...]
    person: str = ""
    filed: bool = False

    @property
    def name(self) -> str:
        return self.candidate.name

    @property
    def read(self) -> Series:
        """The series; the error of one that cannot be read."""
        if self.series is None:
            assert self.error is not None
            raise self.error
        return self.series

    @property
    def image(self) -> "DicomInstance | None":
        """The first image of a DICOM series."""
        if self.series is None or self.series.source.format != "dicom":
            return None
        first: DicomInstance = self.series.source.header.table[0][0]
        return first

    @property
    def second_choice(self) -> bool:
        """Whether a cine is one of flow, tagging and the like."""
        return _SECOND_CHOICE.search(self.words) is not None

    @property
    def moved(self) -> bool:
        """Whether its images are moved onto each other or otherwise derived from those of another series."""
        return re.search(r"moco|motion.?corr", self.words) is not None or (
            self.image is not None and self.image.derived
        )


def look_at(candidate: Candidate) -> StudySeries:
    """Read the header of a candidate and say what it is."""
    try:
        series = candidate.open()
    except CmrsrError as error:
        words = _plain(Path(candidate.name).name)
        return StudySeries(
            candidate=candidate, series=None, error=error, role=_role_of_words(words), words=words,
            study=_study(candidate, None), person=_person(candidate), filed=_filed(candidate),
        )  # fmt: skip
    words, partial = _words_of(candidate, series)
    return StudySeries(
        candidate=candidate, series=series, error=None, role="apart" if partial else _role(series, words), words=words,
        study=_study(candidate, series), person=_person(candidate), filed=_filed(candidate),
    )  # fmt: skip


def _words_of(candidate: Candidate, series: Series) -> tuple[str, bool]:
    """Name and description, and whether these are not magnitude images: phase, real part, a map."""
    name = _plain(Path(candidate.name).name)
    if series.source.format == "dicom":
        image: DicomInstance = series.source.header.table[0][0]
        return f"{name} {_plain(image.text)}", image.component != "magnitude"
    path = series.source.paths[0]
    sidecar = read_sidecar(path, nifti_stem(path))
    listed = sidecar.get("ImageType")
    types = {str(word).upper() for word in listed} if isinstance(listed, list) else set()
    described = _plain(" ".join(str(sidecar.get(key, "")) for key in ("SeriesDescription", "ProtocolName")))
    # A name such as "T1map_MOCO" is also given to the inversion images themselves: those have inversion times.
    is_map = any(word.endswith("MAP") for word in types) or (
        not has_inversion_times(series) and _MAP.search(f"{name} {described}") is not None
    )
    return f"{name} {described}".strip(), is_map or bool(
        _PARTIAL.search(name) or types & {"P", "PHASE", "R", "REAL", "I", "IMAGINARY"}
    )


def _role(series: Series, words: str) -> Role:
    if _SCOUT.search(words):  # a TI scout is a cine in which every image has its own inversion time
        return "apart"
    n = series.n_frames
    if has_inversion_times(series):
        return "t1"
    named_t1 = series.kind in ("t1", "unknown", "cine") and _T1.search(words) and not _CINE.search(words)
    if named_t1 and MIN_INVERSIONS <= n <= MAX_INVERSIONS:
        return "t1"
    if series.kind == "cine":
        return "cine"
    if series.kind == "unknown" and n >= MIN_PHASES and not named_t1:
        times = series.times_ms
        return "cine" if times is None or float(np.ptp(times, axis=0).max()) <= MAX_BEAT_MS else "apart"
    return "unclear" if series.kind == "unknown" else "apart"


def _role_of_words(words: str) -> Role:
    """Role of a series that cannot be read."""
    if _MAP.search(words) or _PARTIAL.search(words) or _SCOUT.search(words):
        return "apart"
    return "cine" if _CINE.search(words) else "t1" if _T1.search(words) else "unclear"


def _study(candidate: Candidate, series: Series | None) -> tuple[str, ...]:
    """A DICOM study, or the folders that are the patient's."""
    if candidate.format == "dicom":
        if series is None:
            return _study_of_files(candidate)
        image: DicomInstance = series.source.header.table[0][0]
        return ("dicom", image.identity.study or patient_of(candidate.name))
    return ("nifti", *(part for part in Path(candidate.name).parts[:-1] if not _OF_SERIES.search(part.lower())))


def _study_of_files(candidate: Candidate) -> tuple[str, ...]:
    from cmrsr.io.dicom.read.instance import read_headers

    images, _ = read_headers(candidate.paths[:1])
    return ("dicom", (images[0].study_uid if images else "") or patient_of(candidate.name))


def _person(candidate: Candidate) -> str:
    first = re.split(r"[_. ]", Path(candidate.name).name.lower())[0]
    return "" if candidate.format == "dicom" or _OF_SERIES.search(first) else first


def _filed(candidate: Candidate) -> bool:
    folders = Path(candidate.name).parts[:-1]
    return bool(folders) and _OF_SERIES.search(folders[-1].lower()) is not None


def _plain(text: str) -> str:
    return re.sub(r"[\s_^]+", " ", text).lower().strip()
