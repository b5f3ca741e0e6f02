"""Commands that need an extra say so in one line instead of an ImportError."""

import importlib.util

from cmrsr.errors import UsageError


def need(extra: str, *modules: str) -> None:
    """UsageError naming the extra to install, if one of its modules is missing."""
    missing = [m for m in modules if importlib.util.find_spec(m) is None]
    if missing:
        raise UsageError(f"this command needs {', '.join(missing)}: pip install 'cmrsr[{extra}]'")
