"""Files that are there twice, and images that an anonymiser gave one identifier."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cmrsr.errors import UnreadableError
from cmrsr.io.dicom.read.instance import DicomInstance
from cmrsr.io.dicom.read.pixels import read_pixels
from cmrsr.io.outputs import sha256_file

EQUAL_UIDS = "SOPInstanceUID is missing or the same for several images, so references to them are not unique"


def without_copies(instances: Sequence[DicomInstance]) -> list[DicomInstance]:
    """The images without second copies of the same file; what remains says in its notes what was left out."""
    named: dict[tuple[str, int], list[DicomInstance]] = defaultdict(list)
    for image in instances:
        named[image.sop_instance_uid, image.frame].append(image)
    digests: dict[Path, str] = {}
    kept: list[DicomInstance] = []
    for images in named.values():
        if len(images) == 1 and images[0].sop_instance_uid:
            kept.append(images[0])
            continue
        different: list[DicomInstance] = []
        copies: dict[int, list[str]] = defaultdict(list)
        for image in images:
            twin = next((k for k, other in enumerate(different) if _same_image(image, other, digests)), None)
            if twin is None:
                different.append(image)
            else:
                copies[twin].append(image.path.name)
        for k, image in enumerate(different):
            notes = [f"{', '.join(copies[k])} left out: a copy of {image.path.name}"] if copies[k] else []
            if len(different) > 1 or not image.sop_instance_uid:
                notes.append(EQUAL_UIDS)
            kept.append(replace(image, notes=(*image.notes, *notes)))
    return kept


def _same_image(a: DicomInstance, b: DicomInstance, digests: dict[Path, str]) -> bool:
    if replace(a, path=b.path) != b or a.path == b.path:
        return False
    if _digest(a.path, digests) == _digest(b.path, digests):
        return True
    try:
        return np.array_equal(read_pixels(a), read_pixels(b))  # stored again, by another archive
    except UnreadableError:
        return False


def _digest(path: Path, digests: dict[Path, str]) -> str:
    if path not in digests:
        digests[path] = sha256_file(path)
    return digests[path]
