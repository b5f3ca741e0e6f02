"""What can go wrong for a user, each kind with its exit code (see ``cmrsr help batch``)."""

import os

DEBUG = "CMRSR_DEBUG"  # set to anything: errors come with their traceback, as with --debug


def debugging() -> bool:
    """Whether defects are raised with their traceback rather than reported in one line."""
    return bool(os.environ.get(DEBUG))


class CmrsrError(Exception):
    """A failure that a user can act on: one line, what was found, what was expected, where, what to do."""

    exit_code = 1


class UsageError(CmrsrError):
    """The request itself is wrong: an option out of range, options that exclude each other."""

    exit_code = 2


class UnreadableError(CmrsrError):
    """Nothing there, not an image, or truncated."""

    exit_code = 3


class UnusableError(CmrsrError):
    """Readable, but not usable: ambiguous, inconsistent, the wrong modality, NaN, constant or too small."""

    exit_code = 4


class EngineError(CmrsrError):
    """An engine bundle is missing, incompatible or does not match its digests."""

    exit_code = 5


class DeviceError(CmrsrError):
    """The asked-for device or backend is absent, or memory ran out."""

    exit_code = 6


class OutOfMemoryError(DeviceError):
    """The device's memory does not hold the batch: a smaller one may do."""


class OutputError(CmrsrError):
    """The output cannot be written, or would lie inside or over the input."""

    exit_code = 7


class CmrsrWarning(UserWarning):
    """Something was assumed or left out, outside a case that would record it: see ``cmrsr.user_warnings``."""
