"""T1 of a real phantom, ShMOLLI at 3 T, against the map that the scanner computed from the same images."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, binary_opening, label, uniform_filter

from cmrsr.io.discover import discover
from cmrsr.physics.t1_fit import after_recovery, fit_t1
from cmrsr.tasks.mie.features.registration import register_inversions

AGREEMENT = 0.03  # of T1, in the median of a vial
UNIFORM = 0.03  # sd of T1 within 5 x 5 pixels of a vial, relative
SHORTEST_MS = 200  # the bottle about the vials lies below, and no tissue without contrast does
SURE_MS = 400  # below, the single early image of the first inversion may be of either sign


@pytest.fixture(scope="module")
def phantom(real_data: Path) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float32]]:
    """Magnitude images (7, y, x), their inversion times, and the scanner's T1 map."""
    found = {one.name.split("/")[-1]: one for one in discover([real_data / "t1-dicom-phantom"])[0]}
    images = found["12_ShMOLLI_192i_e11"].open()
    scanner = found["14_ShMOLLI_192i_e11_T1MAP_map_ShMOLLI_T1_Map"].open()
    assert images.times_ms is not None
    return images.array()[:, 0], images.times_ms, scanner.frame(0)[0]


def vials(t1: NDArray[np.float32]) -> list[NDArray[np.bool_]]:
    """Connected regions of uniform T1, away from their borders; the colour bar at the edge is none."""
    mean = uniform_filter(t1.astype(np.float64), 5)
    sd = np.sqrt(np.maximum(uniform_filter(t1.astype(np.float64) ** 2, 5) - mean**2, 0))
    uniform = (t1 > SHORTEST_MS) & (sd < UNIFORM * mean)
    uniform[:, -20:] = False
    regions, n = label(binary_opening(uniform, iterations=3))
    inner = [binary_erosion(regions == i, iterations=2) for i in range(1, n + 1)]
    return [region for region in inner if 100 < region.sum() < 1000]


def test_only_the_first_inversion_of_shmolli_is_used(
    phantom: tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float32]],
) -> None:
    _, times, _ = phantom
    assert times[after_recovery(times)].tolist() == [100, 1100, 2100, 3100, 4100]


def test_vials_have_the_scanners_t1(
    phantom: tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float32]],
) -> None:
    images, times, scanner = phantom
    used = after_recovery(times)
    fit = fit_t1(images[used], times[used], look_locker=True)
    found = vials(scanner)
    wanted = [float(np.median(scanner[vial])) for vial in found]
    assert len(found) >= 9
    assert min(wanted) < 350
    assert max(wanted) > 3000  # the whole range of tissues, and blood
    for vial, t1 in zip(found, wanted, strict=True):
        assert np.nanmedian(fit.t1_ms[vial]) == pytest.approx(t1, rel=AGREEMENT)
        if t1 > SURE_MS:
            assert np.isfinite(fit.t1_ms[vial]).mean() > 0.99
    everything = fit_t1(images, times, look_locker=True)  # what is gained by leaving the last two out
    wrong = [abs(np.nanmedian(everything.t1_ms[vial]) / t1 - 1) for vial, t1 in zip(found, wanted, strict=True)]
    assert np.median(wrong) > 2 * AGREEMENT


def test_a_phantom_does_not_move(
    phantom: tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float32]],
) -> None:
    images, times, scanner = phantom
    used = after_recovery(times)
    window = (slice(92, 232), slice(115, 255))  # of the vials
    found = register_inversions(images[(used, *window)], times[used])
    assert found.moved.all()
    assert np.abs(found.shift).max() < 0.3
    for vial in vials(scanner):
        inside = vial[window]
        assert np.nanmedian(found.fit.t1_ms[inside]) == pytest.approx(float(np.median(scanner[vial])), rel=AGREEMENT)
