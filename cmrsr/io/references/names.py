"""What the name of a file says when references are looked up by it: which scan, whether labels, which phase."""

import re
from dataclasses import dataclass

from cmrsr.io.phases import _PHASE

_WORD = r"(?:labels?|masks?|seg|segmentations?|gt|manual)"
_PREFIX = re.compile(rf"^{_WORD}[_\-. ]", re.IGNORECASE)
_SUFFIX = re.compile(rf"[_\-. ]{_WORD}$", re.IGNORECASE)
_FOLDER = re.compile(rf"(^|[_\-. ]){_WORD}(Tr|Ts)?$", re.IGNORECASE)
_IMAGES = re.compile(r"^images?(Tr|Ts)?$", re.IGNORECASE)
_WHOLE = re.compile(r"[_\-. ](?:4d|cine)$", re.IGNORECASE)  # of images that hold the whole beat


@dataclass(frozen=True, slots=True)
class Name:
    """base: what files of one scan share, in lower case. phases: "ED", "ES" or frame numbers, in order."""

    base: str
    phases: tuple[str, ...]
    is_label: bool


def parse_name(stem: str) -> Name:
    """A file's name without its suffix, taken apart: ``patient001_frame01_gt``, ``label_sa_ED``, ``sa_ED_ES``."""
    plain = _SUFFIX.sub("", _PREFIX.sub("", stem))
    found = list(_PHASE.finditer(plain))
    phases = tuple(str(int(match["number"])) if match["number"] else str(match.lastgroup) for match in found)
    rest = re.sub(r"[\s_.-]*\0[\s_.-]*", "_", _PHASE.sub("\0", plain)).strip("_") if found else plain
    return Name(base=(_WHOLE.sub("", rest) or plain).casefold(), phases=phases, is_label=plain != stem)


def parse_folder(parts: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
    """What folders of images and of labels share, in lower case, and whether the names speak of labels.

    ``study-labels/p1`` and ``study/p1``, ``labelsTr`` and ``imagesTr`` share all there is.
    """
    plain = [_FOLDER.sub("", part) for part in parts]
    shared = tuple(part.casefold() for part in plain if part and not _IMAGES.match(part))
    return shared, plain != list(parts)
