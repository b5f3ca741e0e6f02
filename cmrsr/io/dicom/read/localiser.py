"""Localisers: few images of different planes, to plan the scans that matter."""

from collections import defaultdict
from collections.abc import Container, Sequence
from pathlib import Path

from cmrsr.io.dicom.read.geometry import slices_of
from cmrsr.io.dicom.read.instance import DicomInstance, Skipped
from cmrsr.io.dicom.read.split import same_plane

MIN_TIME_SERIES = 4  # images of one place: fewer are a localiser where the header calls them one
REASON = "a localiser (few images of different planes, or called so)"


def without_localisers(
    instances: Sequence[DicomInstance], named: Container[Path]
) -> tuple[list[DicomInstance], list[Skipped]]:
    """The images that are no localisers, and those that are, but for files that the user ``named``.

    A word in a description decides nothing alone: what the header calls a localiser is one where the series has several
    planes, or hardly more than one image of each place. A time series of one plane stays, whatever it is called.
    """
    series: dict[tuple[str, str], list[DicomInstance]] = defaultdict(list)
    for image in instances:
        if image.scout and image.path not in named:
            series[image.identity.study, image.identity.series].append(image)
    found = {id(i) for images in series.values() if _is_localiser(images) for i in images}
    skipped = {i.path: Skipped(path=i.path, reason=REASON, unreadable=False) for i in instances if id(i) in found}
    return [i for i in instances if id(i) not in found], list(skipped.values())


def _is_localiser(images: Sequence[DicomInstance]) -> bool:
    if any(not same_plane(images[0], other) for other in images[1:]):
        return True
    return min(len(one) for one in slices_of(images)[0]) < MIN_TIME_SERIES
