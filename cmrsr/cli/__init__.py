"""The command line: parse, one library call, print, exit code.

``main`` turns every error into one line and its code.
"""

import logging
import os
import signal
import sys
import warnings
from types import FrameType
from typing import TextIO

from cmrsr.errors import DEBUG, CmrsrError, DeviceError, UsageError, debugging
from cmrsr.io.printable import one_line

UNEXPECTED = 1
INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> None:
    """The ``cmrsr`` command: exits with the codes of ``cmrsr help batch``."""
    code = run(sys.argv[1:] if arguments is None else arguments)
    if code == INTERRUPTED:
        # Python waits for ever for a thread that was just being started when the signal came. All is cleaned up by now.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; messages go to standard error."""
    from cmrsr.cli.app import app
    from cmrsr.cli.font_cache import font_cache

    log = logging.getLogger("cmrsr")
    if not log.handlers:
        log.addHandler(_Messages())
    logging.getLogger("pydicom").setLevel(logging.ERROR)  # it warns as well, and a warning says it once
    debug = "--debug" in arguments
    before = signal.signal(signal.SIGTERM, _terminated), os.environ.get(DEBUG), warnings.showwarning
    warnings.showwarning = _show_warning
    if debug:
        arguments = [a for a in arguments if a != "--debug"]
        os.environ[DEBUG] = "1"
    try:
        with font_cache():
            result = app(arguments, prog_name="cmrsr", standalone_mode=False, obj=arguments)
        if result == INTERRUPTED:  # what Typer makes of a KeyboardInterrupt
            return _interrupted()
        return result if isinstance(result, int) else 0
    except KeyboardInterrupt:
        return _interrupted()
    except CmrsrError as error:
        return _fail(error, error.exit_code, str(error))
    except MemoryError as error:
        return _fail(error, DeviceError.exit_code, "out of memory")
    except Exception as error:
        # Typer's own errors (unknown option, missing argument) know how to say themselves.
        if hasattr(error, "format_message"):
            message = error.format_message()
            return _fail(error, UsageError.exit_code, f"{message.rstrip('.')}; see --help") if message else 2
        if type(error).__name__ == "Abort":  # as above, in other versions of Typer
            return _interrupted()
        message = f"unexpected {type(error).__name__}: {error}; run again with --debug and report it"
        return _fail(error, UNEXPECTED, message)
    finally:
        signal.signal(signal.SIGTERM, before[0])
        warnings.showwarning = before[2]
        if debug:
            os.environ.pop(DEBUG)
            if before[1] is not None:
                os.environ[DEBUG] = before[1]


def _fail(error: BaseException, code: int, message: str) -> int:
    if debugging():
        raise error
    _print(message)
    return code


def _print(message: str) -> None:
    """One line on standard error, whatever is in it: names may hold line ends, escape sequences and odd bytes."""
    print(f"cmrsr: {one_line(message)}", file=sys.stderr)


def _interrupted() -> int:
    print("cmrsr: interrupted; what was finished is kept, nothing half-written is left", file=sys.stderr)
    return INTERRUPTED


class _Messages(logging.Handler):
    """The package's log messages as lines like every other."""

    def emit(self, record: logging.LogRecord) -> None:
        _print(record.getMessage())


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    _print(str(message))


def _terminated(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
