"""Identifiers that follow from what was done to which images, so that a re-run names its results the same."""

import hashlib
import uuid

from cmrsr.io.derivation import Derivation
from cmrsr.io.dicom_group import DicomStack
from cmrsr.io.series import Series


def uid_of(*parts: str) -> str:
    """A UID below 2.25 (the UUID branch of DICOM PS3.5 B.2) from the sha256 of ``parts``."""
    digest = hashlib.sha256("\n".join(parts).encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


def root_of(like: Series, derivation: Derivation, content_sha256: str) -> str:
    """The digest that all identifiers of one result follow from.

    Of a DICOM series its own identifiers and the derivation; any other has none, so its name and the result's pixels.
    """
    if isinstance(like.source.header, DicomStack):
        return derivation.digest(*like.source.header.uids())
    return derivation.digest(like.source.name, content_sha256)
