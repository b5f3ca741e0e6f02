"""Identifiers that follow from what was done to which images, so that a re-run names its results the same."""

import hashlib
import uuid

from pydicom.uid import UID

from cmrsr.io.derivation import Derivation
from cmrsr.io.dicom.read.group import DicomStack
from cmrsr.io.series import Series


def uid_of(*parts: str) -> str:
    """A UID below 2.25 (the UUID branch of DICOM PS3.5 B.2) from the sha256 of ``parts``."""
    digest = hashlib.sha256("\n".join(parts).encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


# Fixed, so that the files do not change with the version of pydicom.
IMPLEMENTATION_UID = UID(uid_of("cmrsr implementation class"))


def root_of(like: Series, derivation: Derivation) -> str:
    """The digest that all identifiers of one result follow from: what was done, and to what.

    A DICOM series is named by its own identifiers, a file by its bytes, an array by its values.
    """
    source = like.source
    if isinstance(source.header, DicomStack):
        return derivation.digest(*source.header.uids())
    content = hashlib.sha256()
    if source.paths:
        for path in source.paths:
            with path.open("rb") as file:
                content.update(hashlib.file_digest(file, "sha256").digest())
    else:
        for frame in like:
            content.update(frame.tobytes())
    return derivation.digest(source.name, content.hexdigest())
