"""The command line: parse, one library call, print, exit code. ``main`` turns every error into one line and its code."""

import logging
import os
import signal
import sys
from types import FrameType

from cmrsr.errors import CmrsrError

INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> None:
    """The ``cmrsr`` command: exits with the codes of the README's table."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; messages go to standard error."""
    from cmrsr.cli.app import app

    logging.basicConfig(format="cmrsr: %(message)s", level=logging.WARNING, stream=sys.stderr)
    if "--debug" in arguments:
        arguments = [a for a in arguments if a != "--debug"]
        os.environ["CMRSR_DEBUG"] = "1"
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        result = app(arguments, prog_name="cmrsr", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except KeyboardInterrupt:
        print("cmrsr: interrupted; what was finished is kept, nothing half-written is left", file=sys.stderr)
        return INTERRUPTED
    except CmrsrError as error:
        return _fail(error, error.exit_code)
    except Exception as error:
        # Typer's own errors (unknown option, missing argument) know how to say themselves
        if hasattr(error, "format_message"):
            return _fail(error, 2, error.format_message())
        if type(error).__name__ == "Abort":
            return INTERRUPTED
        return _fail(error, 1, f"unexpected {type(error).__name__}: {error}; run again with --debug and report it")
    finally:
        signal.signal(signal.SIGTERM, before)


def _fail(error: BaseException, code: int, message: str | None = None) -> int:
    if os.environ.get("CMRSR_DEBUG"):
        raise error
    print(f"cmrsr: {message or error}", file=sys.stderr)
    return code


def _terminated(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
