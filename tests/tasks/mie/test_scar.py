from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import binary_dilation, gaussian_filter

from cmrsr.phantom.patient import draw_patient
from cmrsr.phantom.plane import short_axis
from cmrsr.phantom.scan import LABELS
from cmrsr.phantom.truth import heart_truth, maps_at
from cmrsr.physics.levels import slice_levels
from cmrsr.physics.volumes import DENSITY_G_ML, LV, MYOCARDIUM, RV
from cmrsr.physics.wall import N_SEGMENTS, ray_angles
from cmrsr.tasks.mie.features.scar import (
    LEAST_SCAR_MM2,
    SegmentTable,
    scar_mask,
    segment_map,
    segment_table,
    septum_angles,
    transmurality,
)
from tests.mie_slices import infarct, polar, ventricles

PIXEL_MM = 1.5
GAP_MM = 8.0
MATRIX = 88
SPIN = 0.3
LEVELS = (0.1, 0.5, 0.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Infarcted:
    """A virtual patient's slices (z, y, x) at end diastole: labels without scar, scar, true segments, found ones.

    Those found count from the middle of the septum as the virtual heart does, not from the middle of its RV, which
    lies up to 20 degrees off. off_deg (z,): septum's middle found, from the RV's.
    """

    labels: np.ndarray
    scar: np.ndarray
    aha: np.ndarray
    segments: np.ndarray
    off_deg: np.ndarray
    truth: dict


@cache
def infarcted(subject: int) -> Infarcted:
    patient = draw_patient(5, subject, "infarct")
    planes, gap = short_axis(patient, 0, fov=MATRIX * PIXEL_MM, thickness=7.0, gap=GAP_MM, spin=SPIN, offset=0.4)
    ed, es = ([maps_at(patient, p, MATRIX, a, np.zeros(3)) for p in planes] for a in (0.0, 1.0))
    label, aha = (np.stack([m[name] for m in ed]) for name in ("label", "aha"))
    lv = [(np.stack([m["label"] for m in phase]) == LV).sum((1, 2)) for phase in (ed, es)]
    mm = np.arange(len(planes)) * gap
    levels = slice_levels(mm, mm, *lv)
    assert levels is not None
    labels = np.where(label == LABELS["scar"], MYOCARDIUM, label).astype(np.uint8)
    septum = septum_angles(labels, PIXEL_MM)
    origin = np.pi + SPIN  # of the plane: the septum on the left, turned by its spin
    segments = [
        segment_map(one, PIXEL_MM, at, levels.base_up, origin)[0] for one, at in zip(labels, levels.level, strict=True)
    ]
    off = np.rad2deg(np.angle(np.exp(1j * (septum - (origin - patient.heart.rv.angle)))))
    return Infarcted(
        labels=labels, scar=label == LABELS["scar"], aha=aha, segments=np.stack(segments), off_deg=off,
        truth=heart_truth(patient),
    )  # fmt: skip


def table(
    labels: np.ndarray, segments: np.ndarray, scar: np.ndarray, *, t1_ms: np.ndarray | None = None,
    labels_ed: np.ndarray | None = None, e_cc: np.ndarray | None = None,
) -> SegmentTable:  # fmt: skip
    zero = np.zeros(labels.shape)
    return segment_table(
        labels, segments, scar, pixel_mm=PIXEL_MM, t1_ms=zero if t1_ms is None else t1_ms,
        labels_ed=labels if labels_ed is None else labels_ed, e_cc=zero if e_cc is None else e_cc, e_rr=zero,
    )  # fmt: skip


def drawn(scar: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, segments and scar (3, y, x) of three slices, one in each third of the ventricle."""
    labels = np.stack([ventricles()] * 3)
    segments = np.stack([segment_map(one, PIXEL_MM, level, True)[0] for one, level in zip(labels, LEVELS, strict=True)])
    return labels, segments, np.stack([scar] * 3)


@pytest.mark.parametrize("subject", [4, 7])
def test_segments_are_those_of_the_virtual_heart(subject: int) -> None:
    of = infarcted(subject)
    wall = (of.segments > 0) & (of.aha > 0) & (of.aha <= N_SEGMENTS)
    assert wall.sum() > 0.9 * (of.labels == MYOCARDIUM).sum()
    assert (of.segments == of.aha)[wall].mean() > 0.9
    assert np.abs(np.median(of.off_deg)) < 3


@pytest.mark.parametrize("subject", [4, 7])
def test_shares_by_segment_and_mass_are_those_of_the_virtual_scar(subject: int) -> None:
    of = infarcted(subject)
    found = table(of.labels, of.segments, of.scar)
    true = np.array([s["scar_share"] for s in of.truth["segments"][:N_SEGMENTS]]) * 100
    assert np.isfinite(found.scar_percent).all()
    assert np.abs(found.scar_percent - true).mean() < 2
    assert np.corrcoef(found.scar_percent, true)[0, 1] > 0.98
    mass = of.scar.sum() * PIXEL_MM**2 * GAP_MM / 1000 * DENSITY_G_ML
    assert mass == pytest.approx(of.truth["scar"]["mass_g"], rel=0.06)


@pytest.mark.parametrize("subject", [4, 7])
def test_a_blurred_probability_gives_the_scar_back(subject: int) -> None:
    of = infarcted(subject)
    rng = np.random.default_rng(subject)
    for labels, scar in zip(of.labels, of.scar, strict=True):
        blurred = gaussian_filter(scar.astype(float), 1.0) + rng.normal(0, 0.05, scar.shape)
        mask = scar_mask(blurred, labels, PIXEL_MM, 0.5)
        assert not (mask & np.isin(labels, (LV, RV))).any()
        if scar.sum() * PIXEL_MM**2 > 150:
            assert 2 * (mask & scar).sum() / (mask.sum() + scar.sum()) > 0.85


def test_the_seen_side_turns_the_segments_round() -> None:
    labels = ventricles()
    one, septum = segment_map(labels, PIXEL_MM, 0.5, True)
    assert np.rad2deg(septum) % 360 == pytest.approx(180, abs=1)
    mirrored, _ = segment_map(labels[::-1], PIXEL_MM, 0.5, False)
    assert_array_equal(mirrored[::-1], one)
    _, angle = polar()
    wall = labels == MYOCARDIUM
    for middle, segment in ((90, 7), (150, 8), (210, 9), (270, 10), (330, 11), (30, 12)):
        assert (one[wall & (np.abs(angle - middle) < 28)] == segment).all()
    assert (one[~wall] == 0).all()
    turned, _ = segment_map(labels, PIXEL_MM, 0.5, True, septum + np.pi / 3)
    assert (turned[wall & (np.abs(angle - 150) < 28)] == 7).all()


def test_without_septum_level_or_cavity_there_are_no_segments() -> None:
    labels = ventricles()
    without_rv = np.where(labels == RV, 0, labels).astype(np.uint8)
    for one, level in ((without_rv, 0.5), (labels, None), (np.where(labels == LV, 0, labels).astype(np.uint8), 0.5)):
        assert not segment_map(one, PIXEL_MM, level, True)[0].any()
    assert segment_map(without_rv, PIXEL_MM, 0.5, True, np.pi)[0].any()


def test_a_septum_that_leaps_or_is_missing_is_its_neighbours() -> None:
    labels = np.stack([ventricles()] * 4)
    labels[0][labels[0] == RV] = 0
    labels[3][:64][labels[3][:64] == RV] = 0  # half of it
    assert np.abs(np.rad2deg(septum_angles(labels[3:], PIXEL_MM)) % 360 - 180) > 20
    labels[3][:72][labels[3][:72] == RV] = 0
    assert_allclose(np.rad2deg(septum_angles(labels, PIXEL_MM)) % 360, 180, atol=1)
    assert np.isnan(septum_angles(labels[:1], PIXEL_MM)).all()


def test_transmurality_is_the_share_along_rays() -> None:
    labels = ventricles()
    found = transmurality(labels, infarct(30, 90, 0.5), PIXEL_MM)
    degrees = np.rad2deg(ray_angles())
    inside, outside = (degrees > 34) & (degrees < 86), (degrees < 26) | (degrees > 94)
    assert_allclose(found[inside], 0.5, atol=0.12)
    assert found[inside].mean() == pytest.approx(0.5, abs=0.03)
    assert (found[outside] == 0).all()
    assert_allclose(transmurality(labels, labels == MYOCARDIUM, PIXEL_MM), 1)
    open_ = np.where((polar()[1] < 90) & (labels == MYOCARDIUM), 0, labels).astype(np.uint8)
    assert_array_equal(np.isnan(transmurality(open_, labels == 9, PIXEL_MM))[5:25], True)
    assert np.isnan(transmurality(np.zeros_like(labels), labels == 9, PIXEL_MM)).all()


def test_a_table_says_where_and_how_deep() -> None:
    # half a transmural segment anterior, a third of the depth inferolateral
    found = table(*drawn(infarct(90, 120, 1.0) | infarct(300, 360, 1 / 3)))
    assert_allclose(found.scar_percent[[0, 6]], 50, atol=2)
    assert_allclose(found.transmurality_percent[[0, 6]], 100, atol=2)
    share = 100 * ((22 + 11 / 3) ** 2 - 22**2) / (33**2 - 22**2)
    assert_allclose(found.scar_percent[[4, 10]], share, atol=3)
    assert_allclose(found.transmurality_percent[[4, 10]], 100 / 3, atol=4)
    for rest in ([1, 2, 3, 5], [7, 8, 9, 11]):
        assert_allclose(found.scar_percent[rest], 0, atol=2.5)
    assert found.transmurality_percent[2] == 0


def test_scar_beside_the_wall_belongs_to_the_nearest_segment() -> None:
    labels, segments, _ = drawn(np.zeros((128, 128), bool))
    r, angle = polar()
    beyond = (labels == 0) & (r < 34.5) & (angle > 62) & (angle < 118)
    found = table(labels, segments, beyond)
    assert found.scar_percent[6] > 5
    assert_array_equal(np.delete(found.scar_percent, [0, 6, 12]), 0)


def test_what_is_not_covered_is_unknown() -> None:
    labels, segments, scar = drawn(infarct(90, 120, 1.0))
    assert np.isnan(table(labels[1:], segments[1:], scar[1:]).scar_percent[12:]).all()
    assert np.isfinite(table(labels[1:], segments[1:], scar[1:]).scar_percent[:12]).all()
    open_ = (polar()[1] > 45) & (polar()[1] < 88) & (labels == MYOCARDIUM)  # most of segments 6 and 12, not of 16
    gone = table(np.where(open_, 0, labels).astype(np.uint8), np.where(open_, 0, segments).astype(np.uint8), scar)
    assert not np.isnan(gone.scar_percent[15])
    most = (polar()[1] < 45) & (labels == MYOCARDIUM)
    gone = table(np.where(most, 0, labels).astype(np.uint8), np.where(most, 0, segments).astype(np.uint8), scar)
    assert set(np.flatnonzero(np.isnan(gone.e_cc_percent)) + 1) == {6, 12}
    assert np.isnan(table(labels, np.zeros_like(segments), scar).scar_percent).all()


def test_means_are_taken_where_they_belong() -> None:
    labels, segments, scar = drawn(np.zeros((128, 128), bool))
    inner = polar()[0]
    t1 = np.broadcast_to(np.where((inner > 23) & (inner < 32), 1000.0, 1600.0), labels.shape).copy()
    t1[:, 64, 90:98] = np.nan
    found = table(labels, segments, scar, t1_ms=t1)
    assert_allclose(found.t1_ms, 1000, atol=1)  # the edges share blood
    earlier = np.where((inner > 18) & (inner < 29), MYOCARDIUM, 0).astype(np.uint8)[None].repeat(3, 0)
    e_cc = np.where(earlier == MYOCARDIUM, np.where(np.abs(polar()[1] - 90) < 30, -0.3, -0.1), 9.0)
    found = table(labels, segments, scar, labels_ed=earlier, e_cc=e_cc)
    assert_allclose(found.e_cc_percent[[0, 6]], -30, atol=1)
    assert_allclose(np.delete(found.e_cc_percent, [0, 6, 12]), -10, atol=1)


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_small_pieces_are_dropped(size: int) -> None:
    labels = ventricles()
    probability = np.zeros(labels.shape)
    probability[60 : 60 + size, 80 : 80 + size] = 1
    assert (labels[60 : 60 + size, 80 : 80 + size] == MYOCARDIUM).all()
    kept = scar_mask(probability, labels, PIXEL_MM, 0.5)
    assert kept.any() == (size**2 * PIXEL_MM**2 >= LEAST_SCAR_MM2)


def test_a_mask_stays_in_the_wall_and_a_pixel_beyond_it() -> None:
    labels = ventricles()
    everywhere = scar_mask(np.ones(labels.shape), labels, PIXEL_MM, 0.5)
    wall = labels == MYOCARDIUM
    assert everywhere[wall].all()
    assert not everywhere[(labels == LV) | (labels == RV)].any()
    assert (everywhere & ~wall).any()
    assert not everywhere[~binary_dilation(wall, np.ones((3, 3)))].any()
    assert_array_equal(scar_mask(np.full(labels.shape, 0.4), labels, PIXEL_MM, 0.5), False)
    # a ring has a hole that is blood, a scar one that is wall
    probability = infarct(0, 90, 1.0).astype(float)
    probability[51:53, 76:78] = 0
    assert wall[51:53, 76:78].all()
    assert scar_mask(probability, labels, PIXEL_MM, 0.5)[51:53, 76:78].all()
