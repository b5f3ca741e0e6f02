"""Other people's tools that say whether DICOM files are valid."""

import shutil
import subprocess
from pathlib import Path

import pytest


def complaints_of(path: Path) -> list[str]:
    """Lines of dciodvfy that report an error or a warning; the test is skipped where it is not installed."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    result = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
    return [line for line in (result.stdout + result.stderr).splitlines() if line.startswith(("Error", "Warning"))]
