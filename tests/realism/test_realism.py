"""Distances between groups that were made to differ in a known way."""

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cmrsr.errors import UnusableError
from cmrsr.realism import distance as realism
from cmrsr.realism.distance import distance, gaps, n_patients, pixel_mm, realism_record, widest_gap
from cmrsr.realism.image_statistics import RADII, ImageStatistics


def hump(centre: float) -> np.ndarray:
    """Shares over 64 bins."""
    shares = np.exp(-(((np.arange(64) - centre) / 8) ** 2))
    return shares / shares.sum()


def statistics(name: str = "p1", **changes: object) -> ImageStatistics:
    """A made-up series: a falling spectrum, grey values and gradients in a broad hump."""
    made = ImageStatistics(
        name=name, patient=name.split("_")[0], kind="perfusion", n_images=10, pixel_mm=(2.0, 2.0),
        spectrum_db=-20 * np.log10(RADII), grey=hump(30), gradients=hump(30),
        temporal_db=np.full(47, -10.0), kurtosis=4.0, edge_px=2.0, black=5.0, noise=3.0, temporal_noise=4.0,
    )  # fmt: skip
    return replace(made, **changes)


def group(n: int, seed: int, *, roll: int = 0, **changes: object) -> list[ImageStatistics]:
    """Patients whose statistics scatter about those of ``statistics``, the grey values ``roll`` bins higher."""
    rng = np.random.default_rng(seed)
    plain = statistics(**changes)
    return [
        replace(
            plain, name=f"s{seed}p{i}", patient=f"s{seed}p{i}",
            spectrum_db=plain.spectrum_db + rng.normal(0, 1, 47), temporal_db=plain.temporal_db + rng.normal(0, 1, 47),
            grey=np.roll(hump(30 + 3 * rng.normal()), roll), gradients=hump(30 + 3 * rng.normal()),
            kurtosis=plain.kurtosis + rng.normal(), edge_px=plain.edge_px + 0.2 * rng.normal(),
            black=plain.black + rng.normal(), noise=plain.noise + rng.normal(),
            temporal_noise=plain.temporal_noise + rng.normal(),
        )
        for i in range(n)
    ]  # fmt: skip


def test_groups_of_one_population_are_one_spread_apart() -> None:
    for one in distance(group(150, 1), group(150, 2)).values():
        assert one.ratio == pytest.approx(1, abs=0.35), one.statistic.key
        assert one.spread is not None
        assert one.gap < one.spread
        assert one.covered > 0.85
    assert all(abs(gap.spreads) < 1 for gap in gaps(group(150, 1), group(150, 2)))


def test_distances_of_known_shifts() -> None:
    real = [statistics("p1"), statistics("p2")]
    virtual = [
        statistics(
            spectrum_db=real[0].spectrum_db + 5, kurtosis=1.0,
            grey=np.roll(real[0].grey, 4), gradients=np.roll(real[0].gradients, -4),
        )
    ]  # fmt: skip
    found = distance(real, virtual)
    assert found["spectrum_db"].gap == pytest.approx(5)
    assert found["grey"].gap == pytest.approx(4 / 64, rel=0.01)  # of the grey scale
    assert found["gradients"].gap == pytest.approx(4 * 2 / 64, rel=0.01)  # decades
    assert found["kurtosis"].gap == pytest.approx(3)
    assert found["noise"].gap == 0
    assert found["spectrum_db"].covered == 0
    assert found["noise"].covered == 1
    assert (found["spectrum_db"].spread, found["spectrum_db"].ratio) == (0, None)


def test_the_spread_leaves_out_all_series_of_the_patient() -> None:
    rest, stress, other = statistics("p1_rest"), statistics("p1_stress"), statistics("p2_rest", noise=7.0)
    assert distance([rest, stress, other], [rest])["noise"].spread == pytest.approx(4)
    assert distance([rest, stress], [rest])["noise"].spread is None
    with pytest.raises(UnusableError, match="only p1"):
        gaps([rest, stress], [rest])


def test_patients_count_equally_however_many_series_they_have() -> None:
    one, other = statistics("p1"), statistics("p2", noise=9.0)
    assert_allclose(realism.average([one] * 5 + [other], "noise"), realism.average([one, other], "noise"))


def test_the_covered_share_grows_with_the_range_of_the_virtual() -> None:
    real = group(20, 1)
    narrow, wide = [statistics(noise=v) for v in (2.9, 3.1)], [statistics(noise=v) for v in (0.0, 8.0)]
    assert distance(real, narrow)["noise"].covered < 0.3
    assert distance(real, wide)["noise"].covered == 1


@pytest.mark.parametrize(
    ("changes", "key", "band", "sign"),
    [
        ({"spectrum_db": -20 * np.log10(RADII) + 12.0 * (np.abs(RADII - 27.5) < 4)},
         "spectrum_db", "radii 24-31", 1),
        ({"black": -6.0}, "black", "", -1),
        ({"temporal_db": -10 - 30.0 * (RADII >= 40)}, "temporal_db", "radii 40-47", -1),
        ({"roll": 32}, "grey", "87.5 to 100 % of the grey scale", 1),
    ],
)  # fmt: skip
def test_the_widest_gap_is_the_one_that_was_made(changes: dict[str, object], key: str, band: str, sign: int) -> None:
    odd_scanner = statistics("odd", spectrum_db=np.linspace(0, -80, 47), black=60.0)
    found = widest_gap([*group(12, 1), odd_scanner], group(12, 2, **changes))
    assert (found.statistic.key, found.band) == (key, band)
    assert np.sign(found.spreads) == sign
    assert np.sign(found.virtual - found.real) == sign
    assert found.statistic.title in str(found)


def test_bands_begin_and_end_at_the_radii_of_their_names() -> None:
    real = group(4, 1)
    for low, high in realism.RADIUS_BANDS:
        for edge in (low, high):
            virtual = [replace(s, spectrum_db=s.spectrum_db + 100.0 * (edge == RADII)) for s in real]
            moved = {gap.band for gap in gaps(real, virtual) if abs(gap.spreads) > 1}
            assert moved == {f"radii {low}-{high}"}


def test_statistics_that_a_group_lacks_are_left_out() -> None:
    still = [replace(one, temporal_db=None, temporal_noise=None) for one in group(3, 1)]
    assert not {"temporal_db", "temporal_noise"} & set(distance(group(3, 2), still))
    assert "temporal_db" not in {gap.statistic.key for gap in gaps(still, group(3, 2))}
    assert "temporal_db" not in {gap.statistic.key for gap in gaps([*still, *group(1, 4)], group(3, 2))}  # no spread
    assert "temporal_db" in {gap.statistic.key for gap in gaps([*still, *group(2, 4)], group(3, 2))}
    for real, virtual in (([], still), (still, [])):
        with pytest.raises(UnusableError, match=r"no (real|virtual) series"):
            distance(real, virtual)


def test_the_record_is_plain_values_of_the_kinds_in_both() -> None:
    real = [*group(4, 1), *group(2, 2, kind="cine"), *group(1, 3, kind="t1")]
    virtual = [*group(4, 4, noise=9.0), *group(2, 5, kind="t1")]
    record = realism_record(real, virtual)
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert list(record) == ["perfusion", "t1"]
    perfusion, t1 = record.values()
    assert perfusion["real"]["patients"] == 4
    assert perfusion["widest_gaps"][0]["statistic"] == "noise"
    assert perfusion["distances"]["noise"]["ratio"] > 2
    assert t1["widest_gaps"] == []  # one real patient: no spread
    assert t1["distances"]["noise"]["ratio"] is None
    assert realism_record(group(2, 1), group(2, 2, kind="cine")) == {}


def test_patients_and_pixels_of_a_group() -> None:
    found = [statistics("p1_rest", pixel_mm=(1.0, 4.0)), statistics("p1_stress", pixel_mm=(3.0, 3.0)), statistics("p2")]
    assert n_patients(found) == 2
    assert pixel_mm(found) == pytest.approx(2)  # of squares of 2, 3 and 2 mm


def test_by_kind_keeps_the_order() -> None:
    ordered = [statistics("a"), statistics("b", kind="cine"), statistics("c")]
    assert {kind: [s.name for s in found] for kind, found in realism.by_kind(ordered).items()} == {
        "perfusion": ["a", "c"],
        "cine": ["b"],
    }
