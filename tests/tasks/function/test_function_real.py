"""The shipped engine of ``function`` on real short-axis cines, and on what is none."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cmrsr import measure_function
from cmrsr.errors import UnusableError
from cmrsr.io.discover import discover
from cmrsr.io.phases import pair_phases
from cmrsr.io.series import Series
from cmrsr.physics.volumes import LV
from cmrsr.runtime.bundle import shipped

pytestmark = pytest.mark.skipif(
    "causal-s" not in [folder.name for folder in shipped()], reason="no engine for function in this checkout"
)
EDV_ML, ESV_ML, EF = 137.4, 51.5, 62.5  # of the labels
WITHIN_EF, WITHIN_VOLUME = 5.0, 0.15


@pytest.fixture(scope="module")
def known(real_data: Path) -> Series:
    """ED and ES of a heart whose volumes are known, two files."""
    (pair,) = pair_phases(discover([real_data / "cine-ed-es-nifti"])[0])
    return pair.open()


def test_the_known_heart(known: Series, real_data: Path) -> None:
    found = measure_function(known)
    measured = found.measured
    assert measured.lv.ef_percent == pytest.approx(EF, abs=WITHIN_EF)
    assert measured.lv.edv_ml == pytest.approx(EDV_ML, rel=WITHIN_VOLUME)
    assert measured.lv.esv_ml == pytest.approx(ESV_ML, rel=WITHIN_VOLUME)
    for t, phase in enumerate(("ED", "ES")):
        label = np.asarray(nib.load(real_data / "cine-ed-es-nifti" / f"label_sa_{phase}.nii.gz").dataobj)  # type: ignore[attr-defined]
        truth, ours = label.transpose(2, 1, 0) == LV, found.labels[t] == LV
        assert 2 * (truth & ours).sum() / (truth.sum() + ours.sum()) > 0.8, phase


def test_slices_out_of_order_are_flagged(known: Series) -> None:
    order = np.random.default_rng(2).permutation(known.shape[1])
    measured = measure_function(known.with_frames(known.array()[:, order])).measured
    assert not measured.confident
    assert {"slice_order", "few_slices", "apex_missing"} & {flag.code for flag in measured.flags if flag.doubt}


def test_a_missing_base_is_flagged(known: Series) -> None:
    """The labels show which end is the base: the first slices."""
    frames = known.array()[:, 4:]
    codes = [flag.code for flag in measure_function(known.with_frames(frames)).measured.flags]
    assert {"base_missing", "few_slices", "volumes_disagree"} & set(codes)


def test_what_is_no_heart_gets_no_confident_number(known: Series, real_data: Path) -> None:
    rng = np.random.default_rng(0)
    turned = known.array().transpose(0, 2, 1, 3)[:, ::16]  # cut along another direction
    phantom = max(discover([real_data / "t1-dicom-phantom"])[0], key=lambda one: len(one.paths)).open()
    bottles = np.repeat(phantom.array()[:2], 6, axis=1)
    for name, frames in (
        ("noise", np.abs(rng.normal(100, 30, (2, 8, 128, 128)))), ("another cut", turned), ("bottles", bottles),
    ):  # fmt: skip
        series = replace(Series.from_array(frames, affine=np.diag([1.4, 1.4, 8.0, 1.0])), kind="cine")
        with suppress(UnusableError):  # refused is as well
            assert measure_function(series).measured.flags, name


def test_the_graph_of_a_still_heart_is_uniform_and_that_of_a_beating_one_is_not(known: Series) -> None:
    beating = measure_function(known).alpha
    assert np.allclose(beating.sum(1), 1, atol=1e-5)
    assert np.abs(beating - 0.5).max() > 0.05
    still = measure_function(known.with_frames(np.repeat(known.array()[:1], 4, axis=0)))
    assert np.allclose(still.alpha, 0.25, atol=1e-3)
    assert "phases_close" in [flag.code for flag in still.measured.flags]
