"""What is drawn anew of a labelled beat: labels stay on their tissues; shapes and signals change as meant."""

import numpy as np
import pytest
import torch
from torch import Tensor

from cmrsr.physics.volumes import LV, MYOCARDIUM, RV
from cmrsr.tasks.function.training import augment
from cmrsr.tasks.function.training.augment import degraded, placed, recontrasted, with_muscles

GREYS = torch.tensor([0.1, 0.5, 0.3, 0.9])  # of background, RV, myocardium, LV


def heart(size: int = 72) -> tuple[Tensor, Tensor]:
    """(image, label) (2, 3, y, x): a ring about a disc, a blob beside it; every tissue has one grey value."""
    y, x = torch.meshgrid(*[torch.arange(size) - size / 2] * 2, indexing="ij")
    label = torch.zeros(2, 3, size, size)
    for t, inner in enumerate((12, 7)):
        label[t, :, torch.hypot(y, x - 16) < inner] = RV
        label[t, :, torch.hypot(y, x) < inner + 5] = MYOCARDIUM
        label[t, :, torch.hypot(y, x) < inner] = LV
    return GREYS[label.long()], label


@pytest.mark.parametrize("seed", range(8))
def test_labels_stay_on_the_image_under_every_warp(seed: int) -> None:
    """However a beat is turned, bent and reshaped, the median inside a label is the grey of its tissue."""
    image, label = placed(*heart(), 64, np.random.default_rng(seed))
    assert image.shape == label.shape == (2, 3, 64, 64)
    for structure in (RV, MYOCARDIUM, LV):
        inside = image[label == structure]
        if len(inside) > 200:
            assert float((inside.median() - GREYS[structure]).abs()) < 0.02


def test_cavities_are_widened_and_narrowed_within_the_heart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Share of the LV's body that is cavity: between a third and nearly all, where it is about half in the beat."""
    monkeypatch.setattr(augment, "RESHAPED_SHARE", 1.0)
    shares = []
    for seed in range(30):
        _, label = placed(*heart(), 96, np.random.default_rng(seed))
        cavity, wall = int((label[0] == LV).sum()), int((label[0] == MYOCARDIUM).sum())
        shares.append(cavity / max(cavity + wall, 1))
    _, label = heart()
    plain = float((label[0] == LV).sum() / ((label[0] == LV) | (label[0] == MYOCARDIUM)).sum())
    assert min(shares) < plain - 0.08
    assert max(shares) > plain + 0.08


def test_contrast_changes_by_tissue_but_blood_stays_brighter_than_muscle() -> None:
    image, label = heart()
    ratios = []
    for seed in range(20):
        out = recontrasted(image, label, np.random.default_rng(seed))
        ratios.append(float(out[label == LV].median() / out[label == MYOCARDIUM].median()))
    assert min(ratios) > 1
    assert np.std(ratios) > 0.3


def test_muscles_lie_in_the_cavity_alone() -> None:
    image, label = heart()
    for seed in range(10):
        changed = (with_muscles(image, label, np.random.default_rng(seed)) - image).abs() > 0.25
        assert bool((label[changed] == LV).all())


def test_full_resolution_is_left_as_it_is() -> None:
    image = heart()[0].numpy()
    rng = np.random.default_rng(0)
    assert degraded(image, (0.5, 0.5), 1.0, rng, augment=True) is image
    cut = degraded(image, (0.5, 0.5), 0.0, rng, augment=False)
    spectrum = np.abs(np.fft.fftshift(np.fft.fft2(cut[0, 0] - cut[0, 0].mean())))
    assert spectrum[:12].max() < 0.02 * spectrum.max()
