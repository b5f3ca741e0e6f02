"""Labelled cine from folders of several layouts: the right frames and slices, on square pixels, label over image."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import scipy.ndimage
from numpy.typing import NDArray

from cmrsr.errors import UnusableError
from cmrsr.tasks.function.training.data import Beat
from cmrsr.tasks.function.training.labelled import SIZE, read_labelled

RADII = (24.0, 16.0)  # mm, of the LV cavity at ED and ES
CENTRE = (70.0, 60.0)  # mm, (x, y)
VALUE = np.array([50.0, 700.0, 200.0, 800.0])  # of background, RV, myocardium, LV


def heart(
    radius: float, spacing: tuple[float, float] = (1.5, 1.5), shape: tuple[int, int] = (90, 80), n_z: int = 4
) -> NDArray[np.uint8]:
    """Labels (x, y, z) of an LV of ``radius`` mm with a wall of 10 mm and an RV beside; none in the last slice."""
    x, y = np.meshgrid(*(np.arange(n) * mm for n, mm in zip(shape, spacing, strict=True)), indexing="ij")
    away = np.hypot(x - CENTRE[0], y - CENTRE[1])
    labels = np.zeros((*shape, n_z), np.uint8)
    labels[np.hypot(x - CENTRE[0] + 20, y - CENTRE[1]) < radius + 12] = 1
    labels[away < radius + 10] = 2
    labels[away < radius] = 3
    labels[..., -1] = 0
    return labels


def image_of(labels: NDArray[np.uint8]) -> NDArray[np.float32]:
    shades = VALUE[labels] * np.linspace(1, 0.8, labels.shape[2]).reshape(1, 1, -1, *[1] * (labels.ndim - 3))
    return np.asarray(shades, np.float32)


def save(path: Path, data: NDArray[np.generic], spacing: tuple[float, float] = (1.5, 1.5)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, np.diag([*spacing, 8.0, 1.0])), path)


def save_acdc(folder: Path, *, ed: int = 1, es: int = 12) -> None:
    for number, radius in ((ed, RADII[0]), (es, RADII[1])):
        labels = heart(radius)
        save(folder / f"{folder.name}_frame{number:02d}.nii.gz", image_of(labels))
        save(folder / f"{folder.name}_frame{number:02d}_gt.nii.gz", labels)
    (folder / "Info.cfg").write_text(f"ED: {ed}\nES: {es}\nGroup: NOR\n")


def save_mnms(folder: Path, *, n_t: int = 6, ed: int = 4, es: int = 1) -> None:
    beat = np.stack([heart(24 - 8 * np.sin(np.pi * ((t - ed) % n_t) / n_t)) for t in range(n_t)], -1)
    beat[..., ed], beat[..., es] = heart(RADII[0]), heart(RADII[1])
    save(folder / f"{folder.name}_sa.nii.gz", image_of(beat))
    beat[..., [t for t in range(n_t) if t not in (ed, es)]] = 0
    save(folder / f"{folder.name}_sa_gt.nii.gz", np.array([0, 3, 2, 1], np.uint8)[beat])


def save_beside(image: Path, label: Path) -> NDArray[np.uint8]:
    """Two phases in one file, only the LV labelled; at ES one slice less than at ED."""
    labels = np.stack([heart(radius) for radius in RADII], -1)
    save(image, image_of(labels))
    labels[labels < 3] = 0
    labels[:, :, 0, 1] = 0
    save(label, labels)
    return labels


def only(beats: dict[str, list[Beat]]) -> Beat:
    ((beat,),) = beats.values()
    return beat


def areas(beat: Beat, label: int) -> NDArray[np.float64]:
    """mm2 of a label, (t, z)."""
    assert beat.pixel_mm is not None
    return np.asarray((beat.labels == label).sum((2, 3)) * beat.pixel_mm**2)


def test_phases_of_the_acdc_challenge(tmp_path: Path) -> None:
    save_acdc(tmp_path / "training" / "patient001")
    save_acdc(tmp_path / "training" / "patient002", ed=9, es=2)
    found = read_labelled(tmp_path)
    assert sorted(found) == ["patient001", "patient002"]
    for (beat,) in found.values():
        assert beat.images.shape == beat.labels.shape == (2, 4, 80, 90)
        assert (beat.known, beat.pixel_mm, beat.gap_mm) == ((True, True, True), 1.5, 8.0)
        np.testing.assert_array_equal(beat.labels[0], heart(RADII[0]).T)  # ED first; pixels of 1.5 mm stay as they are
        np.testing.assert_array_equal(beat.labels[1], heart(RADII[1]).T)
        assert (beat.images.dtype, beat.images.max()) == (np.uint16, 65535)
        np.testing.assert_allclose(beat.images[1] / 65535 * 800, image_of(heart(RADII[1])).T, atol=0.01)


def test_labels_of_two_frames_of_a_beat(tmp_path: Path) -> None:
    save_mnms(tmp_path / "A1")
    beat = only(read_labelled(tmp_path))
    np.testing.assert_array_equal(beat.labels[0], heart(RADII[0]).T)  # ED comes last in the file, and has other codes
    np.testing.assert_array_equal(beat.labels[1], heart(RADII[1]).T)
    np.testing.assert_allclose(beat.images[1] / 65535 * 800, image_of(heart(RADII[1])).T, atol=0.01)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("set/p1.nii.gz", "set-labels/p1.nii.gz"),
        ("set/sub/p1.nii.gz", "set-labels/sub/p1.nii.gz"),
        ("set/images/p1.nii.gz", "set/images_labels/p1.nii.gz"),
        ("set/p1.nii.gz", "set/p1_label.nii.gz"),
        ("set/p1.nii.gz", "set/labels/p1.nii.gz"),
        ("set/imagesTr/p1.nii.gz", "set/labelsTr/p1.nii.gz"),
    ],
)
def test_what_is_not_labelled_is_unknown(tmp_path: Path, image: str, label: str) -> None:
    labels = save_beside(tmp_path / image, tmp_path / label)
    beat = only(read_labelled(tmp_path / "set"))
    assert beat.known == (False, False, True)
    np.testing.assert_array_equal(beat.labels, labels.T[:, 1:3])  # neither the first slice nor the last


def test_a_beat_and_its_single_phases_count_once(tmp_path: Path) -> None:
    folder = tmp_path / "patient001"
    save_acdc(folder)
    whole = np.stack([heart(RADII[0] if t == 0 else RADII[1]) for t in range(12)], -1)
    save(folder / "patient001_4d.nii.gz", image_of(whole))
    assert only(read_labelled(tmp_path)).labels.shape[0] == 2


def test_patients(tmp_path: Path) -> None:
    for name in ("p1_rest", "p1_stress", "p2", "siteB/p3", "siteB/p4", "siteC/q5/q5_sa"):
        save_beside(tmp_path / f"{name}.nii.gz", tmp_path / f"{name}_gt.nii.gz")
    seen: list[tuple[int, int]] = []
    found = read_labelled(tmp_path, on_item=lambda done, total: seen.append((done, total)))
    assert {patient: len(beats) for patient, beats in found.items()} == {"p1": 2, "p2": 1, "siteB": 2, "q5": 1}
    assert seen == [(i, 6) for i in range(1, 7)]


@pytest.mark.parametrize("spacing", [(0.7, 0.7), (1.9, 1.9), (1.2, 1.7), (2.4, 0.8)])
@pytest.mark.parametrize("pixel_mm", [1.5, 1.1])
def test_label_and_image_stay_together(tmp_path: Path, spacing: tuple[float, float], pixel_mm: float) -> None:
    shape = (int(150 / spacing[0]), int(130 / spacing[1]))
    for phase, radius in zip(("ED", "ES"), RADII, strict=True):
        labels = heart(radius, spacing, shape)
        save(tmp_path / f"p_{phase}.nii", image_of(labels), spacing)
        save(tmp_path / f"label_p_{phase}.nii", labels, spacing)
    beat = only(read_labelled(tmp_path, pixel_mm=pixel_mm))
    assert beat.pixel_mm == pixel_mm
    # square pixels: the cavity is round, as large as it was, and where the image is bright
    for t, radius in enumerate(RADII):
        for z in range(3):
            cavity = beat.labels[t, z] == 3
            assert areas(beat, 3)[t, z] == pytest.approx(np.pi * radius**2, rel=0.02)
            extent = [np.ptp(np.flatnonzero(cavity.any(axis))) for axis in (0, 1)]
            assert abs(extent[0] - extent[1]) <= 2 * max(spacing) / pixel_mm + 1
            middle = sum(np.median(beat.images[t, z][beat.labels[t, z] == label]) for label in (2, 3)) / 2
            near = scipy.ndimage.binary_dilation(cavity, iterations=3)  # the RV is bright as well
            bright = near & (beat.images[t, z] > middle)
            assert 2 * (bright & cavity).sum() / (bright.sum() + cavity.sum()) > 0.98
            place = scipy.ndimage.center_of_mass(bright)
            np.testing.assert_allclose(
                place,
                scipy.ndimage.center_of_mass(cavity),
                atol=0.2 * max(spacing) / pixel_mm,  # of a pixel in the file
            )


def test_coarser_pixels_do_not_alias(tmp_path: Path) -> None:
    labels = np.stack([heart(radius, (0.75, 0.75), (180, 160)) for radius in RADII], -1)
    stripes = 400 + 300 * (-1.0) ** np.arange(180)[:, None, None, None] * np.ones_like(labels)
    save(tmp_path / "p.nii", stripes.astype(np.float32), (0.75, 0.75))
    save(tmp_path / "p_gt.nii", labels, (0.75, 0.75))
    images = only(read_labelled(tmp_path, pixel_mm=1.3)).images
    assert images.std() / images.mean() < 0.1  # 0.75 before; 0.5 where they are only interpolated


def test_cut_around_the_heart(tmp_path: Path) -> None:
    labels = np.zeros((300, 210, 2, 2), np.uint8)
    labels[280:296, 10:30] = 3
    save(tmp_path / "p.nii", (labels * 100 + 5).astype(np.float32))
    save(tmp_path / "p_gt.nii", labels)
    beat = only(read_labelled(tmp_path))
    assert beat.labels.shape == (2, 2, SIZE, SIZE)
    assert (beat.labels == 3).sum() == 4 * 16 * 20  # all of it, at the border of the image
    inner = heart(RADII[0], shape=(300, 210))
    for name, data in (("p.nii", image_of(inner)), ("p_gt.nii", inner)):
        save(tmp_path / name, np.stack([data] * 2, -1))
    where = np.argwhere(only(read_labelled(tmp_path)).labels[0, 0] > 0)
    assert where.min(0)[1] < where.min(0)[0] + 40  # the heart lies near the corner: the window ends with the image


def test_what_cannot_be_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path / "p1.nii.gz", image_of(np.stack([heart(20)] * 2, -1)))
    with pytest.raises(UnusableError, match=r"1 series, none with labels of two phases; expected <scan>_gt\.nii\.gz"):
        read_labelled(tmp_path)
    save(tmp_path / "p1_gt.nii.gz", np.stack([heart(20), 0 * heart(20)], -1))
    with pytest.raises(UnusableError, match=r"none .*p1_gt\.nii\.gz: labels of 1 phases of p1, expected 2"):
        read_labelled(tmp_path)
    save_beside(tmp_path / "p2.nii.gz", tmp_path / "p2_gt.nii.gz")
    caplog.clear()
    assert sorted(read_labelled(tmp_path)) == ["p2"]
    assert "1 of 2 series left out, the first: p1_gt.nii.gz: labels of 1 phases" in caplog.text
    apart = np.stack([heart(20), heart(20)], -1) // 3 * 3
    apart[:, :, :2, 0] = apart[:, :, 2:, 1] = 0
    (tmp_path / "p1_gt.nii.gz").unlink()
    save(tmp_path / "p2_gt.nii.gz", apart)
    with pytest.raises(UnusableError, match="no slice is labelled in all of 2 phases"):
        read_labelled(tmp_path)


def test_real_labels(real_data: Path) -> None:
    beat = only(read_labelled(real_data / "cine-ed-es-nifti"))
    assert beat.images.shape == (2, 9, SIZE, SIZE)
    assert beat.known == (True, True, True)
    assert beat.gap_mm is not None
    volumes = areas(beat, 3).sum(1) * beat.gap_mm / 1000
    np.testing.assert_allclose(volumes, [137.4, 51.5], rtol=0.005)


def test_real_labels_of_the_left_ventricle_alone(real_data: Path, tmp_path: Path) -> None:
    for end in ("", "-labels"):
        (tmp_path / f"set{end}").mkdir()
        for name in ("SC-N-03.nii.gz", "SC-HF-I-01.nii.gz"):
            (tmp_path / f"set{end}" / name).symlink_to(real_data / f"cine-ed-es-sunnybrook{end}" / name)
    found = read_labelled(tmp_path / "set")
    assert sorted(found) == ["SC-HF-I-01", "SC-N-03"]
    for (beat,) in found.values():
        assert beat.known == (False, False, True)
        assert (areas(beat, 3) > 0).all()
