"""Which part of the complex MR signal an image holds, by the standard's tags and those of the vendors."""

import re
from typing import Literal

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from cmrsr.io.dicom.read.wanted import GE_DATA_TYPE, PHILIPS_TYPE, PRIVATE_BLOCKS, SIEMENS_TYPE
from cmrsr.io.dicom.tags import number, text, words

Component = Literal["magnitude", "phase", "real", "imaginary", "map"]

_MAGNITUDE = {"M", "MAGNITUDE", "PHASE CONTRAST M"}
_PHASE = {"P", "PHASE", "PHASE MAP", "VELOCITY", "VELOCITY MAP", "PHASE CONTRAST P"}
_REAL, _IMAGINARY = {"R", "REAL"}, {"I", "IMAGINARY"}
# In this order: "VELOCITY" is also a flavour of magnitude images (PS3.3 C.8.13.3.1.1), so an explicit "M" counts more.
_WORDS: tuple[tuple[Component, set[str]], ...] = (
    ("magnitude", _MAGNITUDE), ("phase", _PHASE), ("real", _REAL), ("imaginary", _IMAGINARY),
)  # fmt: skip
_GE: dict[int, Component] = {0: "magnitude", 1: "phase", 2: "real", 3: "imaginary"}
_NAMED_MAP = re.compile(r"\bmaps?\b|t[12]\*?maps?\b|fit ?param")


def component_of(ds: Dataset) -> Component:
    """Which part of the complex signal, or a parameter map; "magnitude" where no tag says anything else.

    ComplexImageComponent decides (PS3.3 C.8.13.3.1.2), then the values of ImageType, then the private tags of GE,
    Philips and Siemens. A map is a map whatever component ImageType names as well, as Siemens does.
    """
    types = set(words(ds, "ImageType")[2:])
    if any(t.endswith("MAP") for t in types - _PHASE):
        return "map"
    for said in (set(words(ds, "ComplexImageComponent")), types):
        for component, terms in _WORDS:
            if said & terms:
                return component
    return _of_vendor(ds)


def called_a_map(ds: Dataset) -> bool:
    """Whether the description says that it is a parameter map, which ImageType does not always.

    A description such as "T1Map_MOCO" is also given to the inversion images themselves: those have an inversion time.
    """
    described = text(ds, "SeriesDescription").lower().replace("_", " ")
    return _NAMED_MAP.search(described) is not None and number(ds, "InversionTime") is None


def _of_vendor(ds: Dataset) -> Component:
    ge = private_value(ds, GE_DATA_TYPE)
    if ge:
        try:
            return _GE.get(int(ge.split("\\")[0]), "magnitude")
        except ValueError:
            return "magnitude"
    for tag, separator in ((PHILIPS_TYPE, "\\"), (SIEMENS_TYPE, "/")):
        said = {word.strip().upper() for word in private_value(ds, tag).replace(" ", separator).split(separator)}
        for component, terms in _WORDS:
            if said & terms:
                return component
    return "magnitude"


def private_value(ds: Dataset, tag: tuple[str, int, int]) -> str:
    """The value of a private tag (creator, group, element) as text, several values apart by backslashes; "" if absent.

    Where the value representation was lost (implicit VR, an archive that did not know the tag) two bytes are a number.
    """
    creator, group, element = tag
    for block in PRIVATE_BLOCKS:
        owner = BaseTag((group << 16) | block)
        if owner not in ds or not str(ds[owner].value).strip().startswith(creator):
            continue
        place = BaseTag((group << 16) | (block << 8) | element)
        value = ds[place].value if place in ds else None
        if isinstance(value, bytes | bytearray):
            return str(int.from_bytes(value, "little", signed=True)) if len(value) == 2 else _plain(bytes(value))
        if value is not None:
            return "\\".join(map(str, value)) if isinstance(value, list | tuple | MultiValue) else str(value)
    return ""


def _plain(value: bytes) -> str:
    return value.decode("ascii", "replace").strip("\0 ")
