from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from cmrsr.errors import UsageError
from cmrsr.phantom import examination, scans
from cmrsr.phantom.chest import draw_chest
from cmrsr.phantom.clutter import Warp
from cmrsr.phantom.examination import INTENSITY, KINDS, Examination, Protocol, acquire_scan, held_shift
from cmrsr.phantom.heart import LV_CAVITY, RV_CAVITY, WALL
from cmrsr.phantom.patient import GROUPS, VirtualPatient, draw_patient
from cmrsr.phantom.plane import FINE, Plane, short_axis
from cmrsr.phantom.render import Pose
from cmrsr.phantom.scan import LABELS, Identity, VirtualScan
from cmrsr.phantom.scanner import Scanner
from cmrsr.phantom.scans import MOLLI, STILL, scan_patient
from cmrsr.phantom.truth import maps_at
from cmrsr.physics.kspace import degrade, n_lines
from cmrsr.physics.t1_fit import fit_t1

FLOAT32 = 1e-5
NAMES = ["cine_sax", "perfusion_stress", "perfusion_rest", "t1", "lge"]
LONG = ["cine_2ch", "cine_3ch", "cine_4ch"]
SMALL = {"matrix": 64, "n_frames": 8}


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    """Little clutter, and every second slice of a stack."""

    def coarse(patient: VirtualPatient, n: int, *, gap: float | None, **settings: Any) -> tuple[list[Plane], float]:
        return short_axis(patient, n, gap=None if gap is None else 2 * gap, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examination, "draw_chest", partial(draw_chest, n_leaves=150))
        patch.setattr(examination, "short_axis", coarse)
        yield


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole stacks, and no chest around the heart."""
    monkeypatch.setattr(examination, "draw_chest", lambda patient: None)
    monkeypatch.setattr(examination, "short_axis", short_axis)


@pytest.fixture(scope="module")
def patient() -> VirtualPatient:
    return draw_patient(15, 2, "infarct")


@pytest.fixture(scope="module")
def study(patient: VirtualPatient) -> dict[str, VirtualScan]:
    return {scan.name: scan for scan in scan_patient(patient, Protocol(**SMALL))}


@pytest.fixture(scope="module")
def exam(patient: VirtualPatient) -> Examination:
    return Examination(patient, Protocol())


@pytest.fixture(scope="module")
def asked(patient: VirtualPatient) -> dict[str, SimpleNamespace]:
    """What every scan of a study hands to the scanner, by name."""

    def record(exam, name, kind, sections, poses, signals, scanner, rng, header, times_ms, **rest):  # type: ignore[no-untyped-def]
        return SimpleNamespace(
            exam=exam, name=name, sections=sections, poses=poses, signals=signals, header=header,
            times_ms=times_ms, **rest,
        )  # fmt: skip

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examination, "Section", lambda patient, chest, plane: SimpleNamespace(plane=plane))
        patch.setattr(scans, "acquire_scan", record)
        return {one.name: one for one in scan_patient(patient, Protocol(long_axis=True))}


def _perfect(matrix: int) -> Scanner:
    return Scanner(
        matrix=matrix, sampled=(1.0, 1.0), filter_strength=0.0, filter_start=0.5, blur=0.0, noise=0.0,
        partial_fourier=1.0, shading=np.ones((FINE, FINE), np.complex64),
        correction=np.ones((matrix, matrix), np.float32), noise_map=np.ones((matrix, matrix), np.float32), bend=None,
    )  # fmt: skip


def _wall(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.isin(labels, (LABELS["myocardium"], LABELS["scar"]))


def test_a_study_has_all_scans_with_their_truth(study: dict[str, VirtualScan]) -> None:
    assert list(study) == NAMES
    for name, scan in study.items():
        n_t, n_z = scan.frames.shape[:2]
        assert scan.name == name
        assert scan.kind == name.split("_")[0]
        assert n_t == (1 if name == "lge" else 8)
        assert scan.frames.shape == scan.clean.shape == scan.labels.shape == (n_t, n_z, 64, 64)
        assert (scan.frames.dtype, scan.clean.dtype, scan.labels.dtype) == (np.float32, np.float32, np.uint8)
        assert np.isfinite(scan.frames).all()
        assert scan.frames.min() >= 0
        assert set(np.unique(scan.labels)) <= {0, *LABELS.values()}
        assert (scan.frames != scan.clean).mean() > 0.9
        for volume in scan.volumes.values():
            assert volume.shape[:4] == scan.labels.shape
        assert_array_equal(scan.volumes["aha"] > 0, _wall(scan.labels))
        assert (scan.header.inversion_ms is not None) == (name in ("t1", "lge"))
        assert scan.header.contrast == (name == "lge" or scan.kind == "perfusion")
        for field in (scan.header.trigger_ms, scan.header.acquired_s):
            assert field.shape == (n_t, n_z)
        series = scan.series()
        assert (series.kind, series.phase_axis, series.shape) == (scan.kind, "y", scan.frames.shape)


def test_times_rise(study: dict[str, VirtualScan]) -> None:
    for name, scan in study.items():
        assert scan.times_ms.shape in ((len(scan.frames),), scan.frames.shape[:2])
        assert np.all(np.diff(scan.times_ms, axis=0) > 0)
        if scan.kind != "t1":  # sorted by inversion time, as scanners write them; two inversions interleave
            assert np.all(np.diff(scan.header.acquired_s, axis=0) > 0)
        assert np.all(scan.header.trigger_ms >= 0)
        assert np.all(scan.header.trigger_ms <= 1.3 * scan.header.beat_ms), name
    ends = [(scan.header.acquired_s.min(), scan.header.acquired_s.max()) for scan in study.values()]
    ordered = sorted(ends)
    assert all(before[1] < after[0] for before, after in pairwise(ordered))
    assert study["lge"].header.acquired_s.min() - study["perfusion_rest"].header.acquired_s.max() > 600  # minutes
    assert study["t1"].header.acquired_s.max() < study["perfusion_stress"].header.acquired_s.min()  # native


def test_inversion_times_are_those_of_molli(study: dict[str, VirtualScan]) -> None:
    scan = study["t1"]
    inversion = scan.header.inversion_ms
    assert inversion is not None
    assert_array_equal(inversion, scan.times_ms)
    for z in range(inversion.shape[1]):
        assert_allclose(inversion[:2, z], [MOLLI[0][0], MOLLI[1][0]])
        # each image but the first two is a beat or two after one of the same inversion
        order = np.argsort(scan.header.acquired_s[:, z])
        first, second = inversion[order, z][:5], inversion[order, z][5:]
        for several, start in ((first, 100.0), (second, 180.0)):
            assert several[0] == start
            assert_allclose(np.diff(several), scan.header.beat_ms, rtol=0.5)
        assert scan.header.acquired_s[order[5], z] - scan.header.acquired_s[order[4], z] > 2.5


def test_scans_share_one_patients_space(study: dict[str, VirtualScan], exam: Examination) -> None:
    stack = study["cine_sax"]
    assert_allclose(study["lge"].affine, stack.affine)
    origins = [stack.affine @ [0, 0, z, 1] for z in range(stack.frames.shape[1])]
    for name in ("perfusion_stress", "perfusion_rest", "t1"):
        scan = study[name]
        for z, level in enumerate(exam.levels()):
            assert_allclose(scan.affine @ [0, 0, z, 1], origins[level], atol=1e-9)
        assert_allclose(np.linalg.norm(scan.affine[:3, 2]), scan.header.gap_mm)
    assert stack.header.thickness_mm <= stack.header.gap_mm


def test_labels_lie_where_the_images_say(study: dict[str, VirtualScan]) -> None:
    """Blood is brighter than muscle in a cine, and no shift of the image makes the difference larger."""
    scan = study["cine_sax"]
    for t in (0, 3, 6):
        image, blood, wall = scan.clean[t], scan.labels[t] == LABELS["lv"], _wall(scan.labels[t])
        contrast = {
            (dy, dx): (shifted := np.roll(image, (dy, dx), (1, 2)))[blood].mean() - shifted[wall].mean()
            for dy in range(-3, 4) for dx in range(-3, 4)
        }  # fmt: skip
        assert contrast[0, 0] > 0.25 * image[blood].mean()
        assert max(contrast, key=lambda shift: contrast[shift]) == (0, 0)


def test_scar_is_bright_in_late_enhancement_and_remote_muscle_is_dark(study: dict[str, VirtualScan]) -> None:
    scan = study["lge"]
    mean = {name: scan.clean[scan.labels == label].mean() for name, label in LABELS.items()}
    assert (scan.labels == LABELS["scar"]).sum() > 20
    assert mean["scar"] > 1.5 * mean["myocardium"]
    assert mean["lv"] > mean["myocardium"]


def test_contrast_reaches_the_right_ventricle_first_and_the_muscle_last(patient: VirtualPatient) -> None:
    protocol = Protocol(kinds=("perfusion",), n_frames=32, matrix=64, n_slices=1)
    scan = next(scans.perfusion(Examination(patient, protocol)))
    curves = {
        name: np.array([scan.clean[t][scan.labels[t] == LABELS[name]].mean() for t in range(32)])
        for name in ("rv", "lv", "myocardium")
    }
    peak = {name: curve.argmax() for name, curve in curves.items()}
    rise = {name: curve.max() / curve[0] for name, curve in curves.items()}
    assert peak["rv"] < peak["lv"] < peak["myocardium"]
    assert min(rise.values()) > 1.3
    assert rise["lv"] > rise["myocardium"]


def test_a_scan_alone_is_the_one_of_the_whole_study(study: dict[str, VirtualScan], patient: VirtualPatient) -> None:
    (alone,) = scan_patient(patient, Protocol(**SMALL, kinds=("t1",)))
    together = study["t1"]
    for name in ("frames", "clean", "labels", "affine", "times_ms"):
        assert getattr(alone, name).tobytes() == getattr(together, name).tobytes()
    for name, volume in alone.volumes.items():
        assert volume.tobytes() == together.volumes[name].tobytes()


def test_what_else_is_scanned_does_not_move_the_slices(patient: VirtualPatient, bare: None) -> None:
    whole = Examination(patient, Protocol())
    for kind in KINDS:
        alone = Examination(patient, Protocol(kinds=(kind,)))
        assert_array_equal([p.centre for p in alone.planes], [p.centre for p in whole.planes])
        assert_array_equal([p.along_x for p in alone.planes], [p.along_x for p in whole.planes])
        assert (alone.fov, alone.thickness, alone.gap) == (whole.fov, whole.thickness, whole.gap)
        assert alone.levels() == whole.levels()


def test_a_fraction_of_the_phase_lines_truncates_the_first_pass_along_y(patient: VirtualPatient) -> None:
    protocol = {**SMALL, "kinds": ("perfusion",), "n_slices": 1}
    full, low = (next(scan_patient(patient, Protocol(**protocol, fraction=f))) for f in (1.0, 0.6))
    lines = n_lines(0.6, 64)
    assert_allclose(low.clean, degrade(full.clean, lines, -2), atol=1e-2)
    assert_allclose(low.frames, degrade(full.frames, lines, -2), atol=1e-2)
    assert_array_equal(low.labels, full.labels)
    assert low.header.phase_lines <= lines < 64
    assert low.truth["acquired_fraction"] == 0.6


def test_long_axis_views_are_single_slices_of_the_same_beat(asked: dict[str, SimpleNamespace]) -> None:
    assert list(asked) == [NAMES[0], *LONG, *NAMES[1:]]
    sax = asked["cine_sax"]
    for name in LONG:
        one = asked[name]
        assert one.poses.shape == (len(sax.times_ms), 1)
        assert_array_equal(one.times_ms, sax.times_ms)
        m = one.exam.chest.materials
        assert_array_equal(one.signals(m, 0), sax.signals(m, 0))
    normals = [asked[name].sections[0].plane.normal for name in ("cine_sax", *LONG)]
    assert_allclose(np.array(normals[1:]) @ normals[0], 0, atol=1e-9)


def test_cine_shows_the_balanced_steady_state(asked: dict[str, SimpleNamespace]) -> None:
    one = asked["cine_sax"]
    m = one.exam.chest.materials
    a = np.deg2rad(one.header.flip_deg)
    ratio = m.t1_ms / m.t2_ms
    expected = m.rho * np.sin(a) / ((ratio + 1) - np.cos(a) * (ratio - 1)) * np.exp(-one.header.te_ms / m.t2_ms)
    assert_allclose(one.signals(m, 0), expected[None])
    assert one.header.te_ms == one.header.tr_ms / 2


def test_cine_follows_the_beat_and_every_slice_has_its_breath_hold(asked: dict[str, SimpleNamespace]) -> None:
    one = asked["cine_sax"]
    exam, cycle = one.exam, one.exam.patient.cycle
    n_t, n_z = one.poses.shape
    assert 20 <= n_t <= 30
    assert n_z == len(exam.planes)
    assert_allclose(one.times_ms, np.arange(n_t) * cycle.beat_ms / n_t)
    activation = np.array([[pose.activation for pose in row] for row in one.poses])
    assert_allclose(activation[0], 0)
    assert np.all(activation.max(0) == 1)  # end systole is seen in every slice
    assert np.abs(activation - cycle.activation(one.times_ms)[:, None]).mean() < 0.1
    for z in range(n_z):
        breath = np.array([pose.breath_mm for pose in one.poses[:, z]])
        assert np.ptp(breath, axis=0).max() == 0
        assert abs(breath[0] @ exam.planes[0].normal) < 1e-9  # the stack still tiles the ventricle
    assert np.ptp([pose.breath_mm for pose in one.poses[0]], axis=0).max() > 0


def test_banding_darkens_what_lies_off_resonance(patient: VirtualPatient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "Section", lambda patient, chest, plane: SimpleNamespace(plane=plane))
    exam, found = Examination(patient, Protocol()), {}
    for hertz in (0.0, 30.0, 150.0):
        same = Warp(wave=np.zeros((1, 3)), phase=np.array([np.pi / 2]), amplitude=np.array([[hertz, 0.0, 0.0]]))
        monkeypatch.setattr(scans, "draw_warp", lambda rng, size, same=same: same)
        monkeypatch.setattr(scans, "acquire_scan", lambda *args, gain, **rest: gain(args[3][0]))
        found[hertz] = next(scans.cine(exam))
        assert found[hertz].shape == (FINE, FINE)
        assert np.ptp(found[hertz]) < 1e-6
    assert_allclose(found[0.0], 1, rtol=1e-6)
    assert 0.8 < found[30.0].mean() < 1.2  # the pass band
    assert found[150.0].mean() < 0.7  # 1 / (2 TR) is 147 to 192 Hz


def test_first_pass_slices_see_another_phase_of_the_beat_each(asked: dict[str, SimpleNamespace]) -> None:
    for name in ("perfusion_stress", "perfusion_rest"):
        one = asked[name]
        exam = one.exam
        trigger, stress = one.header.trigger_ms, name.endswith("stress")
        assert np.all(np.diff(trigger, axis=1) > 30)
        assert trigger.max() < one.header.beat_ms
        truth = one.truth
        assert truth["stress"] == stress
        flow = exam.patient.perfusion.stress if stress else exam.patient.perfusion.rest
        assert_allclose(truth["mbf_ml_g_min_by_segment"], flow.mean(1))
        assert_allclose(one.times_ms, 1000 * truth["times_s"])
        # before contrast arrives: saturation recovery from native T1
        m, a = exam.chest.materials, np.deg2rad(truth["flip_deg"])
        mz = 1 - np.exp(-truth["delay_ms"] / m.t1_ms)
        for _ in range(truth["n_before_centre"] - 1):
            mz = 1 - (1 - mz * np.cos(a)) * np.exp(-truth["tr_ms"] / m.t1_ms)
        native = m.rho * np.sin(a) * mz
        seen = native > 0
        signals = one.signals(m, 0)
        assert signals.shape == (len(one.times_ms), len(m.rho))
        assert_allclose(signals[0][seen], native[seen], rtol=1e-4)
        typical = one.signals(exam.chest.sample, 0).max(0)
        assert np.mean(typical < one.unit) == pytest.approx(0.9, abs=0.01)  # most tissues stay below it


def test_t1_images_are_inversion_recovery_in_diastasis(asked: dict[str, SimpleNamespace]) -> None:
    one = asked["t1"]
    exam, m = one.exam, one.exam.chest.materials
    for t, z in ((0, 0), (3, 1), (7, 2)):
        expected = m.rho * np.abs(1 - 2 * np.exp(-one.times_ms[t, z] / m.t1_ms))
        assert_allclose(one.signals(m, z)[t], expected)
    activation = exam.patient.cycle.activation(STILL * exam.patient.cycle.beat_ms)
    assert {pose.activation for pose in one.poses.ravel()} == {float(activation)}
    assert max(np.linalg.norm(pose.breath_mm) for pose in one.poses.ravel()) < 9


def test_late_enhancement_nulls_healthy_muscle(asked: dict[str, SimpleNamespace]) -> None:
    one = asked["lge"]
    exam, m = one.exam, one.exam.chest.materials
    recovery = 2 * exam.patient.cycle.beat_ms
    t1, inversion = m.late_t1_ms, one.truth["inversion_ms"]
    expected = m.rho * np.abs(1 - 2 * np.exp(-inversion / t1) + np.exp(-recovery / t1))
    assert_allclose(one.signals(m, 0), expected[None])
    healthy, scar = WALL, WALL + 1
    null = 1 - 2 * np.exp(-one.truth["null_ms"] / t1[healthy]) + np.exp(-recovery / t1[healthy])
    assert null == pytest.approx(0, abs=1e-9)
    assert expected[healthy] < 0.2 * expected[LV_CAVITY]
    assert expected[scar] > 2 * expected[healthy]
    assert abs(inversion - one.truth["null_ms"]) < 40


@pytest.mark.parametrize("unit", [1.0, 0.4, None])
def test_a_perfect_scanner_shows_every_tissue_at_its_signal(exam: Examination, unit: float | None) -> None:
    m = replace(exam.chest.materials, texture=np.zeros_like(exam.chest.materials.texture))
    flat = SimpleNamespace(chest=SimpleNamespace(materials=m), patient=exam.patient)
    signals = m.t1_ms / 2000
    pose = np.array([[Pose(activation=0.3, breath_mm=np.array([0.0, 1.0, 2.0]))]], object)
    level = exam.levels()[1]
    scan = acquire_scan(
        flat, "x", "t1", [exam.section(level)], pose, lambda some, z: some.t1_ms[None] / 2000, _perfect(FINE),
        np.random.default_rng(0), SimpleNamespace(gap_mm=8.0), np.zeros(1), truth={}, maps=(), unit=unit,
    )  # fmt: skip
    assert_allclose(scan.frames, scan.clean)  # without noise
    labels = exam.section(level).at(pose[0, 0]).labels
    uniform = (labels == labels[0]).all(0)
    assert uniform.mean() > 0.5
    unit = unit or float(np.quantile(signals[labels].mean(0), 0.98))
    assert_allclose(scan.clean[0, 0][uniform], (INTENSITY / unit * signals[labels[1]])[uniform], rtol=1e-4)
    for name, label in (("lv", LV_CAVITY), ("rv", RV_CAVITY)):
        middle = binary_erosion(scan.labels[0, 0] == LABELS[name], iterations=4)
        assert np.median(scan.clean[0, 0][middle]) == pytest.approx(INTENSITY / unit * signals[label], rel=1e-4)


def test_t1_of_the_images_is_that_of_the_tissue() -> None:
    with_scar = 0
    for subject in (4, 8):
        exam = Examination(draw_patient(15, subject, "infarct"), Protocol(kinds=("t1",), matrix=160, n_slices=1))
        (scan,) = scans.t1(exam)
        assert scan.header.inversion_ms is not None
        t1 = fit_t1(scan.clean, scan.header.inversion_ms, look_locker=False).t1_ms[0]
        m = exam.chest.materials.t1_ms
        for name, label in (("myocardium", WALL), ("scar", WALL + 1), ("lv", LV_CAVITY), ("rv", RV_CAVITY)):
            inside = np.all([binary_erosion(one == LABELS[name]) for one in scan.labels[:, 0]], 0)
            if inside.sum() < 10:
                assert name == "scar"
                continue
            with_scar += name == "scar"
            # a scar is ragged: within a thick slice some of the healthy wall lies behind or before it
            assert np.nanmedian(t1[inside]) == pytest.approx(m[label], rel=0.03 if name == "scar" else 0.02)
    assert with_scar > 0


def test_ejection_fraction_of_the_slices_is_that_of_the_heart(bare: None) -> None:
    """Summation of discs over the stack at end diastole and end systole, each slice in its own breath-hold."""
    errors = []
    for i, group in enumerate(GROUPS):
        patient = draw_patient(16, 1 + i, group)
        exam, rng = Examination(patient, Protocol()), np.random.default_rng(i)
        volume = np.zeros(2)
        for plane in exam.planes:
            breath = held_shift(rng, plane.normal)
            for when, a in enumerate((0.0, 1.0)):
                label = maps_at(patient, plane, 208, a, breath)["label"]
                volume[when] += (label == LABELS["lv"]).sum() * (exam.fov / 208) ** 2 * exam.gap / 1000
        edv, esv = (patient.heart.motion.cavity_ml(patient.heart.quadrature, a) for a in (0.0, 1.0))
        assert volume[0] == pytest.approx(edv, rel=0.03)
        errors.append(100 * (esv / edv - volume[1] / volume[0]))
    assert np.abs(errors).max() < 1.0
    assert np.sqrt(np.mean(np.square(errors))) <= 0.5


def test_volumes_from_labels_are_sums_of_discs(study: dict[str, VirtualScan]) -> None:
    scan = study["cine_sax"]
    found = scan.truth["from_labels"]
    voxel_ml = np.abs(np.linalg.det(scan.affine[:3, :3])) / 1000
    for name, mask in (("lv_ml", scan.labels == LABELS["lv"]), ("rv_ml", scan.labels == LABELS["rv"]),
                       ("myocardium_ml", _wall(scan.labels))):  # fmt: skip
        assert_allclose(found[name], mask.sum((1, 2, 3)) * voxel_ml)
    assert "from_labels" in study["t1"].truth


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_slices": 0}, "--slices 0: expected 1 to 20"),
        ({"n_slices": 21}, "--slices 21"),
        ({"n_frames": 7}, "--frames 7: expected 8 to 500"),
        ({"n_frames": 501}, "--frames 501"),
        ({"matrix": 63}, f"--matrix 63: expected 64 to {FINE}"),
        ({"matrix": FINE + 1}, f"--matrix {FINE + 1}"),
        ({"fraction": 0.05}, "--fraction 0.05: expected 0.1 to 1"),
        ({"fraction": 1.1}, "--fraction 1.1"),
    ],
)
def test_a_protocol_out_of_range_is_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Protocol(**settings)


def test_a_protocol_may_be_at_its_limits() -> None:
    assert Protocol(n_slices=20, n_frames=8, matrix=FINE, fraction=0.1).kinds == KINDS


def test_more_levels_than_a_stack_has_are_refused() -> None:
    with pytest.raises(UsageError, match="--slices 9: expected 1 to 8"):
        Protocol(kinds=("t1",), n_slices=9)
    assert Protocol(kinds=("t1", "cine"), n_slices=9).n_slices == 9
    for subject in range(1, 30):  # even the smallest heart has as many
        patient = draw_patient(2, subject)
        gap = max(8.0, patient.heart.lv.top_z / 11.4)
        assert np.ceil(patient.heart.lv.top_z / gap) >= 8


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_levels_lie_between_apex_and_base_in_even_steps(bare: None, n: int) -> None:
    for subject in range(1, 8):
        patient = draw_patient(16, subject)
        exam = Examination(patient, Protocol(kinds=("perfusion", "t1"), n_slices=n))
        levels = exam.levels()
        assert len(levels) == n
        assert len(set(np.diff(levels))) <= 1
        heights = [(exam.planes[z].centre - patient.apex_mm) @ patient.turn[:, 2] for z in levels]
        assert heights == sorted(heights)
        assert heights[0] / patient.heart.lv.base_z > 0.05
        assert heights[-1] / patient.heart.lv.base_z < 1


def test_sections_are_drawn_once(exam: Examination) -> None:
    assert exam.section(2) is exam.section(2)


def test_body_surface_area_by_mosteller() -> None:
    one = Identity(seed=0, subject=3, sex="F", age_years=50, height_cm=180.0, weight_kg=80.0)
    assert one.bsa_m2 == pytest.approx(2.0)
    assert one.name == "subject003"
