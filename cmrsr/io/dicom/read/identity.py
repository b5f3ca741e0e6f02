"""What identifiers are worth: anonymisers give every file its own study, series or frame of reference, or all the same.

A UID that differs from file to file within images which agree in everything else says nothing, and neither does one
that is missing. Such images are told apart by patient, series number, description and geometry instead, with a note.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace

from cmrsr.io.dicom.read.instance import DicomInstance, Identity
from cmrsr.io.dicom.read.order import ORDER

MIN_FILES = 3  # fewer files with a UID each may well be that many scans
_NAMES = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")


def identify(instances: Iterable[DicomInstance]) -> list[DicomInstance]:
    """The images with an ``identity`` that can be believed, in the order given, and a note on each that was changed."""
    images = list(instances)
    useless: dict[int, set[str]] = defaultdict(set)
    for alike in (lambda k: _content(images[k]), lambda k: (_content(images[k]), images[k].path.parent)):
        # Also folder by folder: what lies elsewhere may be the same scan from another anonymiser.
        for members in _grouped(range(len(images)), alike):
            for name in _useless([images[k] for k in members]):
                for k in members:
                    useless[k].add(name)
    images = [_without(image, useless[k]) for k, image in enumerate(images)]
    for members in _grouped(range(len(images)), lambda k: (images[k].identity.study, images[k].identity.series)):
        # One series has one frame of reference (PS3.3 C.7.4.1).
        if len({images[k].identity.frame_of_reference for k in members}) > 1:
            for k in members:
                images[k] = _without(images[k], {"FrameOfReferenceUID"})
    return images


def _content(image: DicomInstance) -> Hashable:
    """What all images of one scan share, whatever its identifiers are."""
    return (
        _person(image), image.description.lower(), image.series_number, image.component, image.derived, image.matrix,
        tuple(round(v, 2) for v in image.spacing_mm),
    )  # fmt: skip


def _person(image: DicomInstance) -> str:
    return f"patient {image.patient_id}" if image.patient_id else f"folder {image.path.parent}"


def _useless(images: Sequence[DicomInstance]) -> list[str]:
    """The identifiers of these alike images that differ from file to file, or are missing here and there."""
    files = {image.path: image for image in images}.values()
    found = []
    for name in _NAMES:
        values = [_uid(image, name) for image in files]
        own = len(files) >= MIN_FILES and len(set(values)) == len(values)
        partly = "" in values and any(values)
        if (own or partly) and (name != "SeriesInstanceUID" or _numbered(images)):
            found.append(name)
    return found


def _uid(image: DicomInstance, name: str) -> str:
    return {
        "StudyInstanceUID": image.study_uid, "SeriesInstanceUID": image.series_uid,
        "FrameOfReferenceUID": image.frame_of_reference_uid,
    }[name]  # fmt: skip


def _numbered(images: Sequence[DicomInstance]) -> bool:
    """Whether numbers or times tell the images of every place apart: images of one series, not series of one image."""
    at = Counter((tuple(round(v, 1) for v in i.position_mm), *(value(i) for value in ORDER.values())) for i in images)
    return max(at.values()) == 1


def _without(image: DicomInstance, names: set[str]) -> DicomInstance:
    """The image without these identifiers; its patient, or else its folder, stands for the study."""
    if not names:
        return image
    old = image.identity
    new = Identity(
        study=_person(image) if "StudyInstanceUID" in names else old.study,
        series="" if "SeriesInstanceUID" in names else old.series,
        frame_of_reference="" if "FrameOfReferenceUID" in names else old.frame_of_reference,
    )
    notes = [f"{name} differs within the scan or is missing: not used" for name in _NAMES if name in names]
    return replace(image, identity=new, notes=(*image.notes, *notes))


def _grouped(members: Iterable[int], key: Callable[[int], Hashable]) -> Iterable[list[int]]:
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for k in members:
        groups[key(k)].append(k)
    return groups.values()
