"""What ``mie`` decides before anything is evaluated: pairs of slices, inversion times, what cannot be used."""

import numpy as np
import pytest
from numpy.typing import NDArray

from cmrsr.errors import UnusableError, UsageError
from cmrsr.io.series import Series, Source
from cmrsr.tasks.mie.plan import MieOptions, inversion_times, plan_mie

TIMES = np.array([100.0, 180, 1000, 1080, 1900, 1980, 2800, 3700])


def affine(
    origin: tuple[float, float, float] = (0, 0, 0), pixel: float = 1.5, gap: float = 8.0, tilt_deg: float = 0.0
) -> NDArray[np.float64]:
    """Slices along z, turned about x."""
    c, s = np.cos(np.deg2rad(tilt_deg)), np.sin(np.deg2rad(tilt_deg))
    out = np.eye(4)
    out[:3, :3] = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.diag([pixel, pixel, gap])
    out[:3, 3] = origin
    return out


def t1_series(n: int = 8, n_z: int = 3, times: NDArray[np.float64] | None = TIMES, **place: float) -> Series:
    return Series.from_array(
        np.ones((n, n_z, 100, 100)), affine=affine(**place), times_ms=times, kind="t1", source=Source(name="t1")
    )


def cine_series(n: int = 25, n_z: int = 10, **place: float) -> Series:
    return Series.from_array(
        np.ones((n, n_z, 120, 120)), affine=affine(**place), kind="cine", source=Source(name="cine")
    )


def planned(t1: Series, cine: Series, options: MieOptions | None = None):  # type: ignore[no-untyped-def]
    return plan_mie(t1, cine, "digest", options or MieOptions())


def test_every_t1_slice_takes_the_nearest_slice_of_the_cine() -> None:
    plan = planned(t1_series(origin=(0, 0, 17), gap=16.0), cine_series())
    assert [(p.z, p.cine_z) for p in plan.slices] == [(0, 2), (1, 4), (2, 6)]
    assert [p.distance_mm for p in plan.slices] == pytest.approx([1.0, 1.0, 1.0])
    assert plan.notes == ()


def test_slices_far_from_the_cine_are_left_out_and_named() -> None:
    plan = planned(t1_series(origin=(0, 0, 60), gap=16.0), cine_series())
    assert [p.z for p in plan.slices] == [0, 1]
    assert any("3 (20 mm)" in n for n in plan.notes)


def test_distances_between_are_told() -> None:
    plan = planned(t1_series(origin=(0, 0, 4)), cine_series())
    assert any("4.0 mm apart" in n for n in plan.notes)


def test_stacks_in_opposite_order_pair_alike() -> None:
    turned = affine(origin=(0, 0, 72), gap=-8.0)
    cine = Series.from_array(np.ones((25, 10, 120, 120)), affine=turned, kind="cine")
    assert [(p.z, p.cine_z) for p in planned(t1_series(), cine).slices] == [(0, 9), (1, 8), (2, 7)]


@pytest.mark.parametrize(
    ("t1", "cine", "why"),
    [
        (t1_series(), cine_series(n=1), "one phase"),
        (t1_series(), cine_series(n=5), "5 phases"),
        (t1_series(n=3, times=TIMES[:3]), cine_series(), "3 inversion-recovery images"),
        (t1_series(times=None), cine_series(), "--ti"),
        (t1_series(times=TIMES / 1000), cine_series(), "inversion times of 0.1 to 3.7 ms"),
        (t1_series(), cine_series(tilt_deg=40), "cross at 40 degrees"),
        (t1_series(origin=(0, 0, 200)), cine_series(), "do not overlap"),
        (t1_series(origin=(150, 0, 0)), cine_series(), "share 30 mm along x"),
    ],
)
def test_what_cannot_be_used_is_refused(t1: Series, cine: Series, why: str) -> None:
    with pytest.raises(UnusableError, match=why):
        planned(t1, cine)


def test_seven_images_are_used_and_said() -> None:
    plan = planned(t1_series(n=7, times=TIMES[:7]), cine_series())
    assert len(plan.slices) == 3
    assert any("7 inversion-recovery images" in n for n in plan.notes)


def test_given_times_take_the_place_of_the_series_own() -> None:
    times = tuple(float(t) for t in range(200, 1000, 100))
    assert inversion_times(t1_series(), times)[:, 1].tolist() == list(times)
    with pytest.raises(UsageError, match="names 7 inversion times, t1 has 8 images"):
        inversion_times(t1_series(), times[:7])


def test_times_of_a_series_that_is_no_t1_are_not_taken_for_inversion_times() -> None:
    series = t1_series()
    unknown = Series.from_array(series.array(), times_ms=np.arange(1, 9) * 1000.0, source=Source(name="scan"))
    with pytest.raises(UnusableError, match="inversion times of its 8 images are not known"):
        inversion_times(unknown, None)


def test_each_slice_keeps_its_own_times() -> None:
    own = TIMES[:, None] + np.array([0, 5, 10])
    assert np.array_equal(inversion_times(t1_series(times=own), None), own)


@pytest.mark.parametrize("options", [{"steps": 0}, {"samples": 0}, {"threshold": 1.0}, {"ti": (5.0, 100.0)}])
def test_options_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        MieOptions(**options)  # type: ignore[arg-type]
