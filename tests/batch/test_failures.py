"""Failures that differ by names and numbers alone are one; others are not."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from cmrsr.batch.failures import alike, pattern_of, summary_line


@dataclass(frozen=True)
class Failed:
    name: str
    message: str
    pattern: str


def failed(name: str, message: str, folder: str = "/data/study") -> Failed:
    return Failed(name, message, pattern_of(message, name, [Path(folder, f"{name}.nii.gz")]))


@pytest.mark.parametrize(
    "message",
    [
        "{}: one slice, expected a short-axis stack",
        "/data/study/{}.nii.gz: truncated or damaged, expected 3 frames, failed at frame {} (12 of 768 bytes)",
        "/data/study/{}.nii.gz: shape ({}, 20, 7) may be a volume",
        "{} and 1.2.826.0.1.{} cross at 4{}.5 degrees",
        "{}: 1 NaN or infinite of 76{} voxels in frame {} of 9",
        "/other/{}/x y.dcm: not a DICOM file",
        "pixel data cut off: {} of 512 bytes in /data/study/{}.nii.gz; copy the file again",
    ],
)
def test_names_paths_and_numbers_do_not_tell_failures_apart(message: str) -> None:
    numbers = [f"{n}" for n in range(1, 30)]
    cases = [failed(f"p{n}_rest", message.replace("{}", f"p{n}_rest", 1).replace("{}", n)) for n in numbers]
    assert len({one.pattern for one in cases}) == 1
    (group,) = alike(cases)
    assert group == cases
    assert summary_line(group) == f"29 cases failed alike; the first: {cases[0].message}"


def test_other_words_are_another_failure() -> None:
    cases = [
        failed("a", "a: one slice, expected a stack"),
        failed("b", "b: one phase, expected a beat"),
        failed("c", "c: one slice, expected a stack"),
        failed("t1", "t1: a map of another quantity"),
    ]
    assert [[one.name for one in group] for group in alike(cases)] == [["a", "c"], ["b"], ["t1"]]
    assert summary_line(alike(cases)[1]) == cases[1].message


def test_a_short_name_does_not_eat_words() -> None:
    assert pattern_of("a map of a scan", "a") == "a map of a scan"
    assert pattern_of("t1: expected T1 images", "t1") == "…: expected T1 images"
