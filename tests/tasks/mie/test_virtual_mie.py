"""Virtual slices for ``mie``: cine, T1 images and late enhancement in one window, with what is true of them."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from cmrsr.phantom.patient import draw_patient
from cmrsr.phantom.scan import LABELS
from cmrsr.phantom.scans import molli_times
from cmrsr.physics.t1_fit import after_recovery, fit_t1
from cmrsr.tasks.mie.training.virtual import INFARCT_EF, N_INVERSIONS, SHARES, InfarctSet
from cmrsr.training.cache import FULL_SCALE

SMALL = InfarctSet(n_patients=1, n_slices=1, n_phases=3, window=96, pixel_mm=2.0, seed=3)
SCARRED = 1  # a patient of this set with a scar in the slice


class Planes:
    """The planes of a slice by name."""

    def __init__(self, item: NDArray[np.uint16], n_phases: int) -> None:
        self.cine, rest = item[:n_phases], item[n_phases:]
        self.t1, self.late = rest[:N_INVERSIONS], rest[N_INVERSIONS]
        self.labels, self.start = rest[N_INVERSIONS + 1], rest[N_INVERSIONS + 2]
        self.times = rest[N_INVERSIONS + 3, 0, :N_INVERSIONS].astype(float)


@pytest.fixture(scope="module")
def item() -> NDArray[np.uint16]:
    return SMALL.render(SCARRED)


@pytest.fixture(scope="module")
def planes(item: NDArray[np.uint16]) -> Planes:
    return Planes(item[0], SMALL.n_phases)


def test_an_item_is_its_planes(item: NDArray[np.uint16], planes: Planes) -> None:
    assert item.shape == SMALL.item_shape == (1, 3 + 8 + 4, 96, 96)
    assert [int(part.max()) for part in (planes.cine, planes.t1, planes.late)] == [FULL_SCALE] * 3
    for labels in (planes.labels, planes.start):
        assert set(np.unique(labels)) <= {0, *LABELS.values()}
        assert {LABELS["myocardium"], LABELS["lv"], LABELS["scar"]} <= set(np.unique(labels).tolist())
    assert planes.times[0] == 100
    assert (np.diff(planes.times) > 0).all()


def test_a_patient_is_the_same_again(item: NDArray[np.uint16]) -> None:
    assert_array_equal(SMALL.render(SCARRED), item)


def test_scar_is_bright_late_and_long_in_t1(planes: Planes) -> None:
    """The images lie on the labels, and the signs are those of simulation.md: bright, T1 longer than the wall's."""
    grey = {name: float(np.median(planes.late[planes.labels == k])) for name, k in LABELS.items()}
    assert grey["scar"] > 2 * grey["myocardium"]
    t1 = fit_t1(planes.t1.astype(np.float32), planes.times, look_locker=True).t1_ms
    of = {name: float(np.nanmedian(t1[planes.labels == k])) for name, k in LABELS.items()}
    assert 850 < of["myocardium"] < 1300
    assert of["myocardium"] + 80 < of["scar"]
    assert of["lv"] > 1.2 * of["myocardium"]


def test_the_cine_begins_at_end_diastole(planes: Planes) -> None:
    """Blood is bright where the labels of its first phase say, and less of it is left a third of the beat on."""
    cavity, wall = (np.isin(planes.start, k) for k in ([LABELS["lv"]], [LABELS["myocardium"], LABELS["scar"]]))
    blood, muscle = (float(np.median(planes.cine[0][where])) for where in (cavity, wall))
    assert blood > 1.3 * muscle
    assert planes.cine[1][cavity].mean() < planes.cine[0][cavity].mean()


def test_the_heart_is_in_the_middle(planes: Planes) -> None:
    centre = np.argwhere(planes.labels == LABELS["lv"]).mean(0) * SMALL.pixel_mm
    assert np.abs(centre - 96).max() < 25


def test_inversion_times_are_molli() -> None:
    """5(3)3 in rising order; the three images of the second inversion were taken after a pause."""
    patient = draw_patient(0, 1)
    times, seconds, _ = molli_times(np.random.default_rng(0), patient)
    assert times.shape == seconds.shape == (N_INVERSIONS,)
    assert (np.diff(times) > 0).all()
    assert times[:2].tolist() == [100, 180]
    beat = patient.cycle.beat_ms
    in_order = np.argsort(seconds)
    assert np.diff(seconds[in_order])[4] > 3 * beat / 1000
    first, second = times[in_order[:5]], times[in_order[5:]]
    assert (first[0], second[0]) == (100, 180)
    for chain in (first, second):
        assert np.abs(np.diff(chain) / beat - 1).max() < 0.5
    assert after_recovery(times).all()


def test_most_patients_have_an_infarct() -> None:
    assert sum(SHARES.values()) == pytest.approx(1)
    assert SHARES["infarct"] >= 0.5
    low, high = INFARCT_EF
    assert low < 0.3 < 0.55 < high  # a weak heart alone says nothing


def test_sets_are_told_apart() -> None:
    assert SMALL.n_items == 1
    assert replace(SMALL, n_slices=2, n_phases=5).item_shape == (2, 5 + 8 + 4, 96, 96)
