import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cmrsr.errors import UsageError
from cmrsr.phantom.anatomy import FINE, LABELS, draw_chest
from cmrsr.phantom.clutter import smooth_field
from cmrsr.phantom.scanner import acquire, draw_scanner
from cmrsr.phantom.write import PerfusionRequest, VirtualScan, labels_as_scanned, perfusion_study, write_perfusion

REQUEST = PerfusionRequest(n_frames=8, n_slices=1, matrix=64)


@pytest.fixture(scope="module")
def study() -> list[VirtualScan]:
    return list(perfusion_study(4, 1, REQUEST))


def test_a_subject_is_the_same_however_many_are_made(study: list[VirtualScan]) -> None:
    other = next(perfusion_study(4, 0, REQUEST))
    again = next(perfusion_study(4, 1, REQUEST))
    assert again.series.array().tobytes() == study[0].series.array().tobytes()
    assert again.labels.tobytes() == study[0].labels.tobytes()
    assert_array_equal(again.series.affine, study[0].series.affine)
    assert other.series.array().tobytes() != study[0].series.array().tobytes()


def test_stress_and_rest_of_one_patient(study: list[VirtualScan]) -> None:
    assert [s.name for s in study] == ["stress", "rest"]
    stress, rest = (s.truth["mbf_ml_g_min_by_segment"] for s in study)
    assert stress.max() > 2 * rest.max()
    assert_array_equal(study[0].series.affine, study[1].series.affine)
    for scan in study:
        assert scan.series.shape == (8, 1, 64, 64) == scan.labels.shape
        assert (scan.series.kind, scan.series.phase_axis) == ("perfusion", "y")
        assert_allclose(scan.series.times_ms, scan.truth["times_s"] * 1000)
        assert set(np.unique(scan.labels)) == {0, *LABELS.values()}
        frames = scan.series.array()
        assert np.isfinite(frames).all()
        assert frames.min() >= 0
        z, y, x = scan.series.spacing_mm
        assert z == pytest.approx(10)
        assert y == pytest.approx(x)
        assert 300 / 64 <= x <= 380 / 64
        assert np.linalg.det(scan.series.affine[:3, :3]) > 0


@pytest.mark.parametrize("matrix", [64, 65, 160])
@pytest.mark.parametrize("bent", [False, True])
def test_labels_lie_where_the_image_shows_them(matrix: int, bent: bool) -> None:
    chest = draw_chest(np.random.default_rng(0), 320.0, n_leaves=10)
    scanner = draw_scanner(np.random.default_rng(1), FINE, matrix)
    bend = None
    if bent:
        rng = np.random.default_rng(2)
        bend = 4 * np.stack([smooth_field(rng, matrix, 2.5, 0.06), smooth_field(rng, matrix, 2.5, 0.06)])
    scanner = replace(
        scanner, sampled=(1.0, 1.0), filter_strength=0.0, blur=0.0, partial_fourier=1.0, bend=bend,
        shading=np.ones((FINE, FINE), np.complex64), correction=np.ones((matrix, matrix), np.float32),
    )  # fmt: skip
    left = np.isin(chest.truth, [LABELS["lv_blood"], LABELS["myocardium"]])  # one solid disc
    shown = acquire(left.astype(np.float32), scanner, np.random.default_rng(0), noisy=False) > 0.5
    labels = labels_as_scanned(chest.truth, scanner)
    assert labels.shape == (matrix, matrix)
    labelled = np.isin(labels, [LABELS["lv_blood"], LABELS["myocardium"]])
    pixels = np.argwhere(shown).mean(0), np.argwhere(labelled).mean(0)
    assert np.abs(pixels[0] - pixels[1]).max() < 0.25
    assert 2 * (shown & labelled).sum() / (shown.sum() + labelled.sum()) > 0.96


def test_files_of_a_subject(tmp_path: Path, study: list[VirtualScan]) -> None:
    write_perfusion(tmp_path, 4, 1, REQUEST, "nifti")
    folder = tmp_path / "subject002"
    assert {p.name for p in folder.iterdir()} == {
        "perfusion_stress.nii.gz", "perfusion_stress_label.nii.gz",
        "perfusion_rest.nii.gz", "perfusion_rest_label.nii.gz", "truth.json",
    }  # fmt: skip
    truth = json.loads((folder / "truth.json").read_text())
    assert (truth["seed"], truth["subject"], truth["labels"]) == (4, 2, LABELS)
    for scan in study:
        image, labels = (nib.load(folder / f"perfusion_{scan.name}{end}.nii.gz") for end in ("", "_label"))
        frames = np.asarray(image.dataobj, dtype=np.float32).transpose(3, 2, 1, 0)
        assert_allclose(frames, scan.series.array(), atol=0.01 * scan.series.array().max())
        assert_array_equal(np.asarray(labels.dataobj).transpose(3, 2, 1, 0), scan.labels)
        assert_allclose(image.affine, scan.series.affine, atol=1e-3)
        assert_allclose(labels.affine, image.affine)
        assert_allclose(truth[scan.name]["mbf_ml_g_min_by_segment"], scan.truth["mbf_ml_g_min_by_segment"])


def test_fraction_is_the_acquired_share() -> None:
    from cmrsr.physics.fourier import fft1c

    request = replace(REQUEST, fraction=0.4)
    frames = next(perfusion_study(4, 1, request)).series.array()
    power = (np.abs(fft1c(frames, 2)) ** 2).mean((0, 1, 3))
    inside = np.abs(np.arange(64) - 32) <= 12  # 26 of 64 lines
    assert power[inside].min() > 5 * power[~inside & (np.abs(np.arange(64) - 32) > 14)].max()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_frames": 3}, "--frames 3: expected 8 to 500"),
        ({"n_slices": 0}, "--slices 0"),
        ({"matrix": 1000}, "--matrix 1000"),
        ({"fraction": 0.0}, "--fraction 0.0"),
    ],
)
def test_requests_out_of_range(change: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PerfusionRequest(**change)  # type: ignore[arg-type]
