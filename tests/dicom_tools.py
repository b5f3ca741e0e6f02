"""Other people's tools that say whether DICOM files are valid."""

import shutil
import subprocess
from pathlib import Path

import pytest


def complaints(tool: str, *arguments: object) -> list[str]:
    """Lines of dciodvfy or dcentvfy that report an error or a warning; skips the test where it is not installed."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed (Debian: dicom3tools)")
    result = subprocess.run([tool, *map(str, arguments)], capture_output=True, text=True, check=False)
    return [line for line in (result.stdout + result.stderr).splitlines() if line.startswith(("Error", "Warning"))]


def complaints_of(path: Path) -> list[str]:
    """What dciodvfy complains of in a file."""
    return complaints("dciodvfy", "-new", path)
