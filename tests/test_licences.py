"""What ``pip install cmrsr`` brings along may be built on by anyone: no copyleft among it."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
# SPDX identifiers, and what packages wrote before there was a field for them. The lesser GPL is not among them: of a
# Python package it would ask that a product can be taken apart again.
PERMISSIVE = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MIT-CMU", "MPL-2.0", "PSF-2.0",
    "Zlib",
    "Apache 2.0", "ISC License",
    "Apache Software License", "BSD License", "ISC License (ISCL)", "MIT License", "Python Software Foundation License",
}  # fmt: skip
# Copyleft libraries that wheels have been seen to carry, whatever their own metadata says: python-gdcm is "Apache-2.0"
# and links socket++, whose sources are under the GPL.
CARRIED = ("socketxx", "x264", "x265", "gsl", "gslcblas", "fftw3", "readline", "mpg123", "poppler", "avcodec", "heif")
# The lesser GPL as a shared library of its own is used as it asks for: whoever wants to can replace it.
REVIEWED = {("opencv-python-headless", "avcodec"): "FFmpeg, LGPL 2.1, built without its GPL parts"}


def requirements(lines: list[str]) -> list[str]:
    """The names of what is installed without extras on this machine."""
    found = [Requirement(line) for line in lines]
    return [name_of(r.name) for r in found if r.marker is None or r.marker.evaluate({"extra": ""})]


def name_of(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def core() -> list[str]:
    """All that the core installs, from what it asks for itself to what that asks for."""
    todo = requirements(tomllib.loads(PROJECT.read_text())["project"]["dependencies"])
    found: set[str] = set()
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += requirements(metadata.requires(name) or [])
    return sorted(found)


def licences(found: metadata.PackageMetadata) -> set[str]:
    """The licences that a package names: an SPDX expression, or else classifiers, or else a line of text."""
    if expression := found.get("License-Expression"):
        return set(re.split(r"\s+(?:AND|OR)\s+", expression.strip("()")))
    classifiers = found.get_all("Classifier") or []
    named = {c.split(" :: ")[-1] for c in classifiers if c.startswith("License ::")} - {"OSI Approved"}
    return named or {(found.get("License") or "none").split("\n")[0]}


def test_all_that_the_core_installs_is_permissive() -> None:
    named = {name: licences(metadata.metadata(name)) for name in core()}
    assert len(named) > 10
    assert {name: found for name, found in named.items() if not found <= PERMISSIVE} == {}


def carried_library(file: str) -> str | None:
    """Which of ``CARRIED`` a shared library is, by its name and whatever version and digest are in it."""
    found = re.match(r"(?:lib)?([A-Za-z0-9+]+?)(?:-[\w.]+)?\.(?:so|dylib|dll)\b", file)
    return next((name for name in CARRIED if found and found[1] == name), None)


def test_no_wheel_carries_a_copyleft_library() -> None:
    files = {(name, carried_library(f.name)) for name in core() for f in metadata.files(name) or []}
    carried = {(name, library) for name, library in files if library is not None}
    assert carried <= set(REVIEWED), carried - set(REVIEWED)


@pytest.mark.parametrize(
    ("file", "library"),
    [
        ("libsocketxx.so.1.2.0", "socketxx"),
        ("libavcodec-c4204469.so.62.28.101", "avcodec"),
        ("libx264-3f2c1a.164.dylib", "x264"),
        ("socketxx.dll", "socketxx"),
        ("libjpeg-f212e7a6.so.8.3.2", None),
        ("x264.py", None),
    ],
)
def test_shared_libraries_are_known_by_their_names(file: str, library: str | None) -> None:
    assert carried_library(file) == library


@pytest.mark.parametrize(
    ("fields", "ok"),
    [
        ("License: GPL V3.0\nClassifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)", False),
        ("License-Expression: MIT OR AGPL-3.0-only", False),
        ("License-Expression: LGPL-2.1-or-later", False),
        ("License: Proprietary", False),
        ("Name: x", False),
        ("License-Expression: Apache-2.0 OR BSD-2-Clause", True),
        ("Classifier: License :: OSI Approved :: MIT License", True),
    ],
)
def test_the_rule_itself(fields: str, ok: bool, tmp_path: Path) -> None:
    (tmp_path / "METADATA").write_text(f"Metadata-Version: 2.4\n{fields}\n")
    assert (licences(metadata.PathDistribution(tmp_path).metadata) <= PERMISSIVE) is ok
