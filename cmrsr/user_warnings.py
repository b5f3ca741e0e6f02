"""Warnings for the user: collected by the case they concern, else given as a Python warning.

Python's own warnings are no such channel: ``warnings.catch_warnings`` acts on the whole process, threads included, and
what numpy or pydicom warn of is not meant for the reader of a report.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from cmrsr.errors import CmrsrWarning

_texts: ContextVar[list[str] | None] = ContextVar("user_warnings", default=None)


def warn_user(text: str, *, stacklevel: int = 1) -> None:
    """Report what was assumed or left out: to the innermost ``user_warnings`` of this thread, else as a CmrsrWarning.

    stacklevel: of that warning, as ``warnings.warn`` takes it.
    """
    texts = _texts.get()
    if texts is None:
        warnings.warn(text, CmrsrWarning, stacklevel=stacklevel + 1)
    else:
        texts.append(text)


@contextmanager
def user_warnings() -> Iterator[list[str]]:
    """What this thread warns of inside, in order; it does not reach an enclosing ``user_warnings``."""
    texts: list[str] = []
    before = _texts.set(texts)
    try:
        yield texts
    finally:
        _texts.reset(before)
