"""References by the name of a case: tables, label folders in the layouts that data sets come in, what is refused."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from cmrsr.errors import CmrsrError, UnreadableError, UnusableError
from cmrsr.io.discover import discover
from cmrsr.io.nifti.series import read_nifti
from cmrsr.io.phases import pair_phases
from cmrsr.io.references.lookup import Reference, open_references
from cmrsr.io.references.names import parse_name
from cmrsr.io.references.reference import Labelled, reference_of_labels
from cmrsr.io.series import Series, Source
from tests.conftest import oblique_affine

N_T, N_Z, N_Y, N_X = 6, 3, 32, 28
VOXEL_ML = 1.8 * 1.8 * 10 / 1000


def heart(radius: float, *, rv: bool = True, wall: bool = True) -> NDArray[np.uint8]:
    """(z, y, x): the LV cavity as a disc in a ring of myocardium, the RV beside it."""
    y, x = np.indices((N_Y, N_X))
    labels = np.zeros((N_Z, N_Y, N_X), np.uint8)
    if rv:
        labels[:, np.hypot(y - 16, x - 8) < 6] = 1
    if wall:
        labels[:, np.hypot(y - 16, x - 17) < radius + 3] = 2
    labels[:, np.hypot(y - 16, x - 17) < radius] = 3
    return labels


ED, ES = heart(6), heart(4)


def save(path: Path, volumes: NDArray[np.generic], affine: NDArray[np.float64] | None = None) -> Path:
    """(t, z, y, x) or (z, y, x) as NIfTI (x, y, z[, t])."""
    image = nib.Nifti1Image(np.ascontiguousarray(volumes.T), oblique_affine() if affine is None else affine)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def series(n_t: int = N_T, name: str = "scan", paths: tuple[Path, ...] = ()) -> Series:
    frames = np.zeros((n_t, N_Z, N_Y, N_X), np.float32)
    kind = Source(name=name, format="nifti" if paths else "memory", paths=paths)
    return Series.from_array(frames, affine=oblique_affine(), source=kind)


def ml(labels: NDArray[np.uint8], label: int) -> float:
    return float((labels == label).sum() * VOXEL_ML)


def reference(path: Path, case: str, scan: Series) -> Reference:
    found = open_references(path).of(case, scan)
    assert found is not None
    return found


def assert_both_phases(found: Reference) -> None:
    assert found.edv_ml is not None
    assert_allclose([found.edv_ml, found.esv_ml], [ml(ED, 3), ml(ES, 3)], rtol=1e-6)
    assert_allclose(found.ef_percent, 100 * (1 - ml(ES, 3) / ml(ED, 3)), rtol=1e-6)
    assert_allclose([found.rv_edv_ml, found.mass_g], [ml(ED, 1), 1.05 * ml(ED, 2)], rtol=1e-6)


# --- labels -----------------------------------------------------------------------------------------------------------


def beat() -> NDArray[np.uint8]:
    """Labels of frames 2 and 5 alone."""
    frames = np.zeros((N_T, N_Z, N_Y, N_X), np.uint8)
    frames[1], frames[4] = ED, ES
    return frames


@pytest.mark.parametrize(
    ("files", "case"),
    [
        (["p1_sa.nii.gz"], "p1_sa"),
        (["p1_sa_gt.nii.gz"], "p1_sa"),  # M&Ms
        (["sub/p1_sa_label.nii.gz"], "sub/p1_sa"),
        (["sub/label_p1_sa.nii.gz"], "p1_sa"),
        (["patient001/patient001_frame02_gt.nii.gz", "patient001/patient001_frame05_gt.nii.gz"],
         "patient001/patient001_4d"),  # ACDC
    ],
)  # fmt: skip
def test_labels_are_found_by_the_layouts_of_data_sets(tmp_path: Path, files: list[str], case: str) -> None:
    for name, volume in zip(files, (ED, ES) if len(files) == 2 else (beat(),), strict=True):
        save(tmp_path / name, volume)
    found = reference(tmp_path, case, series())
    assert_both_phases(found)
    assert sorted(found.labels) == [1, 4]
    assert_array_equal(found.labels[4], ES)
    assert found.structures == (1, 2, 3)
    assert open_references(tmp_path).of("another", series()) is None


def test_labels_beside_the_images(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 900, (N_T, N_Z, N_Y, N_X)).astype(np.int16)
    save(tmp_path / "p1" / "p1_4d.nii.gz", images)
    for t, labels in ((1, ED), (4, ES)):
        save(tmp_path / "p1" / f"p1_frame{t + 1:02d}.nii.gz", images[t])
        save(tmp_path / "p1" / f"p1_frame{t + 1:02d}_gt.nii.gz", labels)
    scan = read_nifti(tmp_path / "p1" / "p1_4d.nii.gz")
    assert_both_phases(reference(tmp_path, "p1/p1_4d", scan))


@pytest.mark.parametrize(
    ("images", "labels", "root"),
    [
        ("study/p1.nii.gz", "study-labels/p1.nii.gz", ""),
        ("study/p1.nii.gz", "truth/p1.nii.gz", "truth"),
        ("a/imagesTr/p1.nii.gz", "a/labelsTr/p1.nii.gz", ""),
        ("study/b/p1.nii.gz", "drawn/p1.nii.gz", "drawn"),
    ],
)
def test_labels_of_the_same_name_in_another_folder(tmp_path: Path, images: str, labels: str, root: str) -> None:
    save(tmp_path / "b" / "labelsTr" / "p1.nii.gz", np.zeros_like(beat()))  # of another scan
    scan = read_nifti(save(tmp_path / images, np.ones(beat().shape, np.int16)))
    save(tmp_path / labels, beat())
    name = str(Path(images).with_name("p1"))
    assert_both_phases(reference(tmp_path / root, name, scan))


def test_an_image_among_images_is_no_label(tmp_path: Path) -> None:
    scan = read_nifti(save(tmp_path / "a" / "p1.nii.gz", beat()))
    save(tmp_path / "b" / "p1.nii.gz", beat())
    assert open_references(tmp_path).of("a/p1", scan) is None


def test_an_image_is_not_its_own_reference(tmp_path: Path) -> None:
    path = save(tmp_path / "p1.nii.gz", beat())
    assert open_references(tmp_path).of("p1", read_nifti(path)) is None


@pytest.mark.parametrize("names", [("sa_ED", "sa_ES"), ("x_dias", "x_sys"), ("p_frame01", "p_frame09")])
def test_two_files_of_one_phase_each(tmp_path: Path, names: tuple[str, str]) -> None:
    rng = np.random.default_rng(1)
    for name, labels in zip(names, (ED, ES), strict=True):
        save(tmp_path / f"{name}.nii.gz", rng.integers(0, 900, ED.shape).astype(np.int16))
        save(tmp_path / f"label_{name}.nii.gz", labels)
    (pair,) = pair_phases(discover([tmp_path])[0])
    scan = pair.open()
    found = reference(tmp_path, pair.name, scan)
    assert_both_phases(found)
    assert sorted(found.labels) == [0, 1]


def test_a_single_phase_knows_its_own_volume_alone(tmp_path: Path) -> None:
    save(tmp_path / "sa_ED_gt.nii.gz", ED)
    save(tmp_path / "sa_ES_gt.nii.gz", ES)
    found = reference(tmp_path, "sa_ES", series(1))
    assert (found.edv_ml, found.ef_percent, list(found.labels)) == (None, None, [0])
    assert_allclose(found.esv_ml, ml(ES, 3), rtol=1e-6)


def test_phases_of_unknown_frames_give_volumes_but_no_masks(tmp_path: Path) -> None:
    save(tmp_path / "p1_sa_ED_gt.nii.gz", ED)
    save(tmp_path / "p1_sa_ES_gt.nii.gz", ES)
    found = reference(tmp_path, "p1_sa_cine", series())
    assert_both_phases(found)
    assert not found.labels
    assert "not said" in found.notes[0]


def test_labels_of_the_lv_alone(tmp_path: Path) -> None:
    frames = np.stack([heart(6, rv=False, wall=False), heart(4, rv=False, wall=False)])
    found = reference(save(tmp_path / "a.nii.gz", frames), "a", series(2))
    assert found.ef_percent is not None
    assert (found.mass_g, found.rv_edv_ml, found.rv_ef_percent, found.structures) == (None, None, None, (3,))


def test_exchanged_cavities_are_recognised(tmp_path: Path) -> None:
    exchanged = np.array([0, 3, 2, 1], np.uint8)[beat()]
    found = reference(save(tmp_path / "p1_sa_gt.nii.gz", exchanged), "p1_sa", series())
    assert_both_phases(found)
    assert_array_equal(found.labels[1], ED)
    assert "M&Ms" in found.notes[0]


def test_scar_is_myocardium(tmp_path: Path) -> None:
    scarred = beat()
    scarred[:, :, 16:][scarred[:, :, 16:] == 2] = 4
    assert_both_phases(reference(save(tmp_path / "p1_gt.nii.gz", scarred), "p1", series()))


@pytest.mark.parametrize("flip", [(0,), (1, 2), (0, 1, 2)])
def test_labels_stored_in_another_order_are_turned(tmp_path: Path, flip: tuple[int, ...]) -> None:
    """As converters store rows and slices: the same voxels by the affine."""
    affine, volume = oblique_affine(), beat()
    for axis in flip:  # of (z, y, x)
        column = 2 - axis
        affine[:3, 3] += affine[:3, column] * (ED.shape[axis] - 1)
        affine[:3, column] *= -1
        volume = np.flip(volume, axis + 1)
    affine, volume = affine[:, [1, 0, 2, 3]], volume.transpose(0, 1, 3, 2)
    found = reference(save(tmp_path / "p1_gt.nii.gz", volume, affine), "p1", series())
    assert_both_phases(found)
    assert_array_equal(found.labels[1], ED)


def test_a_badly_drawn_frame_of_a_whole_beat_is_no_phase() -> None:
    radii = 5 + np.cos(2 * np.pi * np.arange(20) / 20)
    radii[5] = 9
    found = [Labelled(labels=heart(r), frame=t) for t, r in enumerate(radii)]
    values = reference_of_labels("x", found, (10.0, 1.8, 1.8), n_frames=20)
    assert_allclose([values.edv_ml, values.esv_ml], [ml(heart(6), 3), ml(heart(4), 3)], rtol=1e-6)


def moved(mm: float) -> NDArray[np.float64]:
    affine = oblique_affine()
    affine[:3, 3] += mm * affine[:3, 0] / np.linalg.norm(affine[:3, 0])
    return affine


@pytest.mark.parametrize(
    ("volume", "affine", "words"),
    [
        (beat()[:, :, :-2], None, "28 x 30 x 3 voxels, expected the grid of the images, 28 x 32 x 3"),
        (beat(), moved(5.0), "2.8 voxels from the images"),
        (beat(), oblique_affine((1.8, 1.8, 8.0)), "labels every 8 mm, expected every 10 mm"),
        (beat(), np.diag([1.8, 1.8, 10.0, 1.0]), "the grid of the images"),
        (beat()[:4], None, "labels of 4 frames, expected 6"),
        (np.full(beat().shape, 7, np.uint8), None, "the value 7 is no label"),
        (np.zeros_like(beat()), None, "no voxel is labelled"),
        ((beat() == 3).astype(np.uint8), None, "the only label is 1"),
        ((beat() == 2).astype(np.uint8) * 2, None, "no voxel has the label 3"),
    ],
)
def test_labels_that_do_not_fit_are_refused_in_a_line(
    tmp_path: Path, volume: NDArray[np.uint8], affine: NDArray[np.float64] | None, words: str
) -> None:
    save(tmp_path / "p1_gt.nii.gz", volume, affine)
    with pytest.raises(UnusableError, match=words) as caught:
        open_references(tmp_path).of("p1", series())
    assert "p1_gt.nii.gz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_small_differences_of_position_are_rounding(tmp_path: Path) -> None:
    save(tmp_path / "p1_gt.nii.gz", beat(), moved(0.2))
    assert_both_phases(reference(tmp_path, "p1", series()))


def test_several_that_could_be_meant(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        save(tmp_path / folder / "sa_gt.nii.gz", beat())
    assert_both_phases(reference(tmp_path, "b/sa", series()))
    with pytest.raises(UnusableError, match="several label files"):
        open_references(tmp_path).of("c/sa", series())
    save(tmp_path / "b" / "sa_label.nii.gz", beat())
    with pytest.raises(UnusableError, match="several labels of frame 2"):
        open_references(tmp_path).of("b/sa", series())


def test_names() -> None:
    assert parse_name("patient001_frame01_gt").phases == ("1",)
    assert parse_name("sa_ED_ES").phases == ("ED", "ES")
    assert {parse_name(n).base for n in ("sa_ED", "label_sa_ED", "sa_ED_ES", "SA", "sa_4d", "sa_es_seg")} == {"sa"}
    assert not parse_name("SC-HF-I-01").phases


def test_paths_that_are_no_references(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.xlsx").write_bytes(b"x")
    for name, kind in (("empty", UnreadableError), ("missing", UnreadableError), ("a.xlsx", UnusableError)):
        with pytest.raises(kind, match=name):
            open_references(tmp_path / name)


def test_real_scans_of_two_phases(real_data: Path) -> None:
    folder = real_data / "cine-ed-es-sunnybrook"
    if not folder.is_dir():
        pytest.skip("no Sunnybrook scans")
    path = folder / "SC-HF-I-01.nii.gz"
    found = reference(folder.with_name("cine-ed-es-sunnybrook-labels"), "SC-HF-I-01", read_nifti(path))
    assert_allclose(found.ef_percent, 100 * (10816 - 8068) / 10816)
    assert (found.structures, sorted(found.labels)) == ((3,), [0, 1])


# --- tables -----------------------------------------------------------------------------------------------------------


def table(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_table_of_any_columns(tmp_path: Path) -> None:
    path = table(tmp_path / "f.csv", "case,lv_edv_ml,lv_esv_ml,rv_ef_percent,flags\nP1/sa,120,48,,x\np2,100,,55.5,\n")
    found = reference(path, "p1/sa", series())
    assert (found.edv_ml, found.esv_ml, found.ef_percent, found.rv_ef_percent) == (120, 48, 60, None)
    other = reference(path, "p2/cine_4d", series())
    assert (other.edv_ml, other.ef_percent, other.rv_ef_percent) == (100, None, 55.5)
    assert not other.labels
    assert open_references(path).of("p3", series()) is None


@pytest.mark.parametrize(
    "text", ["Patient;LVEDV (mL);LV EF (%)\nsa;120,5;61,5\n", "\ufeffname\tEDV\tEF\nsa_ED_ES\t120.5\t61.5\n"]
)
def test_tables_as_others_write_them(tmp_path: Path, text: str) -> None:
    found = reference(table(tmp_path / "f.csv", text), "sa_ED_ES", series(2))
    assert (found.edv_ml, found.ef_percent) == (120.5, 61.5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "an empty file"),
        ("lv_edv_ml\n120\n", "columns lv_edv_ml; expected case"),
        ("case,height\np1,170\n", "columns case, height; expected case"),
        ("case,lv_edv_ml\n", "no row"),
        ("case,lv_edv_ml\np1,many\n", "line 2: edv_ml is 'many'"),
        ("case,lv_edv_ml\np1,-3\n", "edv_ml is -3, expected 0 to"),
        ("case,lv_ef_percent\np1,0.55\n", "looks like a fraction"),
        ("case,lv_ef_percent\np1,55\nP1,56\n", "line 3: the case P1 is there twice"),
        ("case,lv_ef_percent\n,55\n", "line 2: no case"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(CmrsrError, match=words) as caught:
        open_references(table(tmp_path / "f.csv", text))
    assert "f.csv" in str(caught.value)
