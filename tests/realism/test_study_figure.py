from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cmrsr.phantom.examination import Protocol
from cmrsr.phantom.write import Study, write_study
from cmrsr.realism.study import study_figure
from cmrsr.report import style

SMALL = Protocol(n_frames=8, n_slices=3, matrix=64)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    out = tmp_path_factory.mktemp("figure")
    study = Study(out=out, n_subjects=1, seed=2, protocol=SMALL, file_format="nifti", group="infarct")
    list(write_study(study))
    return study


def _words(folder: Path) -> list[str]:
    figure = study_figure(folder)
    return [text.get_text() for text in figure.texts]


def test_every_scan_has_a_row_of_images_and_a_curve(study: Study) -> None:
    figure = study_figure(study.out / "subject001")
    names = [text.get_text() for text in figure.texts]
    assert {"cine", "stress", "rest", "native T1", "late enhancement"} <= set(names)
    assert any("infarct" in name for name in names)
    images = [axes for axes in figure.axes if axes.images]
    assert len(images) == 5 * 6
    assert len(figure.axes) == 5 * 7
    assert all(np.ptp(axes.images[0].get_array()) > 0 for axes in images)
    assert style.png(figure, 40).startswith(b"\x89PNG")


def test_scans_that_are_not_there_stay_out(study: Study) -> None:
    folder = study.out / "subject001"
    hidden = folder / "t1.nii.gz"
    hidden.rename(folder / "hidden")
    try:
        assert "native T1" not in _words(folder)
        assert "cine" in _words(folder)
    finally:
        (folder / "hidden").rename(hidden)


def test_dicom_shows_the_same_picture(study: Study, tmp_path: Path) -> None:
    list(write_study(replace(study, out=tmp_path, file_format="dicom")))
    nifti, dicom = study_figure(study.out / "subject001"), study_figure(tmp_path / "subject001")
    for a, b in zip(nifti.axes, dicom.axes, strict=True):
        if a.images:
            assert np.array_equal(a.images[0].get_array(), b.images[0].get_array())
