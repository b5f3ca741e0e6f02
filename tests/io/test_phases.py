"""Two volumes of one heart become one series of two phases; everything else stays as it is, and the log says why."""

import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from cmrsr.errors import UnusableError
from cmrsr.io.derivation import Derivation
from cmrsr.io.dicom.write.series import dicom_writer
from cmrsr.io.discover import Candidate, discover
from cmrsr.io.nifti.series import nifti_writer, read_nifti
from cmrsr.io.phases import pair_phases
from cmrsr.io.survey import survey
from tests.conftest import oblique_affine
from tests.io.dicom.dicom_files import images, write_series

VOLUME = (9, 10, 3)


def save(
    path: Path, seed: int = 0, *, shape: tuple[int, ...] = VOLUME, affine: NDArray[np.float64] | None = None,
    dtype: str = "int16", slope: float = 1.0,
) -> NDArray[np.float64]:  # fmt: skip
    """A NIfTI file (x, y, z[, t]) in an oblique plane; its values, (z, y, x)."""
    stored = np.random.default_rng(seed).integers(0, 900, shape).astype(dtype)
    image = nib.Nifti1Image(stored, oblique_affine() if affine is None else affine)
    image.header.set_slope_inter(slope, 0.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    stored = np.asanyarray(nib.load(path).dataobj)
    return np.asarray(stored, np.float64).T


def pairs_of(*inputs: Path, **options: Any) -> list[Candidate]:
    return pair_phases(discover(inputs, **options)[0], **options)


def names(found: list[Candidate]) -> list[str]:
    return [one.name for one in found]


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        ("sa_ED", "sa_ES", "sa_ED_ES"),
        ("ED", "ES", "ED_ES"),
        ("p1.es_x", "p1.ed_x", None),  # sorts the other way round
        ("heart-diastole", "heart-systole", "heart_diastole_systole"),
        ("p1_end_diastolic", "p1_end_systolic", "p1_end_diastolic_end_systolic"),
        ("patient001_frame01", "patient001_frame12", "patient001_frame01_frame12"),
        ("p_frame9", "p_frame10", "p_frame9_frame10"),
    ],
)
def test_names_that_differ_by_the_phase(tmp_path: Path, first: str, second: str, name: str | None) -> None:
    values = {stem: save(tmp_path / f"{stem}.nii.gz", k) for k, stem in enumerate((first, second))}
    (one,) = pairs_of(tmp_path)
    series = one.open()
    order = [second, first] if name is None else [first, second]
    if name is not None:
        assert one.name == series.source.name == name
    assert series.shape == (2, *VOLUME[::-1])
    np.testing.assert_array_equal(series.array(), [values[stem] for stem in order])
    assert one.paths == series.source.paths == tuple(tmp_path / f"{stem}.nii.gz" for stem in order)
    assert (series.kind, series.times_ms) == ("cine", None)
    assert "two volumes of one time point joined" in series.source.notes[0]
    assert all(stem in series.source.notes[0] for stem in order)
    np.testing.assert_allclose(series.affine, oblique_affine(), atol=1e-5)


def test_the_acdc_challenge_names_its_phases(tmp_path: Path) -> None:
    folder = tmp_path / "patient001"
    early, late = save(folder / "patient001_frame04.nii.gz", 1), save(folder / "patient001_frame12.nii.gz", 2)
    for number in ("04", "12"):
        nib.save(nib.Nifti1Image(np.zeros(VOLUME, np.uint8), np.eye(4)), folder / f"patient001_frame{number}_gt.nii.gz")
    whole = folder / "patient001_4d.nii.gz"
    save(whole, shape=(*VOLUME, 5))
    (folder / "Info.cfg").write_text("ED: 12\nES: 4\nGroup: DCM\n")
    found = pairs_of(tmp_path)
    assert names(found) == ["patient001/patient001_4d", "patient001/patient001_frame12_frame04"]
    np.testing.assert_array_equal(found[1].open().array(), [late, early])
    (folder / "Info.cfg").write_text("ED: 1\nES: 4\nGroup: DCM\n")  # of other frames: the numbers decide
    np.testing.assert_array_equal(pairs_of(tmp_path)[1].open().array(), [early, late])


def test_many_patients_in_one_folder(tmp_path: Path) -> None:
    for k, stem in enumerate(("p2_SA_ED", "p2_SA_ES", "p2_LA_ED", "p2_LA_ES", "p10_SA_ED", "p10_SA_ES")):
        save(tmp_path / f"{stem}.nii.gz", k)
    assert names(pairs_of(tmp_path)) == ["p2_LA_ED_ES", "p2_SA_ED_ES", "p10_SA_ED_ES"]
    named = [tmp_path / "p2_SA_ES.nii.gz", tmp_path / "p2_SA_ED.nii.gz"]
    assert names(pairs_of(*named)) == ["p2_SA_ED_ES"]


def test_a_pair_has_a_name_of_its_own(tmp_path: Path) -> None:
    save(tmp_path / "sa_ED.nii.gz")
    save(tmp_path / "sa_ES.nii.gz")
    save(tmp_path / "SA_ed_es.nii.gz", shape=(*VOLUME, 4))
    found = pairs_of(tmp_path)
    assert sorted(names(found)) == ["SA_ed_es", "sa_ED_ES_2"]
    assert {one.open().n_frames for one in found} == {2, 4}


def test_a_pair_depends_on_both_volumes(tmp_path: Path) -> None:
    digests = set()
    for seed in (0, 1, 2):
        save(tmp_path / "sa_ED.nii.gz", seed % 2)
        save(tmp_path / "sa_ES.nii.gz", 5 + seed // 2)
        digests.add(survey(pairs_of(tmp_path)[0].open()).digest)
    assert len(digests) == 3


@pytest.mark.parametrize(("slope", "dtype", "stored"), [(1.0, "int16", "int16"), (0.5, "int16", "float32")])
def test_a_result_of_a_pair_is_one_file_of_two_frames(tmp_path: Path, slope: float, dtype: str, stored: str) -> None:
    first, second = save(tmp_path / "sa_ED.nii", 1), save(tmp_path / "sa_ES.nii", 2, dtype=dtype, slope=slope)
    series = pairs_of(tmp_path)[0].open()
    result = tmp_path / "result.nii.gz"
    with nifti_writer(
        result, series, shape=series.shape, affine=series.affine, times_ms=None, description="as it was"
    ) as writer:
        for frame in series:
            writer.write(frame)
    again = read_nifti(result)
    np.testing.assert_array_equal(again.array(), [first, second])
    np.testing.assert_allclose(again.affine, series.affine, atol=1e-5)
    assert again.times_ms is None
    assert again.source.header.get_data_dtype() == stored


@pytest.mark.parametrize(
    ("stems", "why"),
    [
        (["sa_ED"], "sa_ED: a single phase"),
        (["p_frame01", "p_frame05", "p_frame12"], "p_frame01, p_frame05, p_frame12: 3 volumes"),
        (["p_ED", "p_ES", "p_es"], "3 volumes"),
        (["p_ED", "p_frame12"], "2 volumes"),
        (["sa_ED", "la_ES"], "a single phase"),
        (["sa"], None),
        (["fed", "yes"], None),  # letters of a word are no phase
    ],
)
def test_what_is_not_a_pair_stays(
    tmp_path: Path, stems: list[str], why: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    for stem in stems:
        save(tmp_path / f"{stem}.nii.gz")
    before = discover([tmp_path])[0]
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert pair_phases(before) == before
    assert why in caplog.text if why else not caplog.text
    with pytest.raises(UnusableError, match="--time-axis"):  # of one volume alone, as ever
        before[0].open()


def test_two_hearts_are_not_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    moved, nearly, turned = oblique_affine(), oblique_affine(), oblique_affine()
    moved[:3, 3] += [0.0, 0.0, 0.2]
    nearly[:3, 3] += [0.0, 0.0, 0.05]
    turned[:3, :2] *= 1.05  # the first voxels lie in one place
    for k, (affine, joined) in enumerate([(moved, False), (nearly, True), (turned, False)]):
        save(tmp_path / str(k) / "sa_ED.nii.gz")
        save(tmp_path / str(k) / "sa_ES.nii.gz", affine=affine)
        assert len(pairs_of(tmp_path / str(k))) == (1 if joined else 2)
    save(tmp_path / "sa_ED.nii.gz")
    save(tmp_path / "sa_ES.nii.gz", shape=(9, 10, 4))
    caplog.clear()
    assert len(pairs_of(tmp_path / "sa_ED.nii.gz", tmp_path / "sa_ES.nii.gz")) == 2
    assert "sa_ED, sa_ES: not joined into one series, their shapes or places differ" in caplog.text


def test_names_without_a_phase_need_a_plane_of_their_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for stem in ("sa_b", "sa_c"):
        save(tmp_path / "oblique" / f"{stem}.nii.gz")
        save(tmp_path / "along" / f"{stem}.nii.gz", affine=np.diag([1.5, 1.5, 8.0, 1.0]))
        save(tmp_path / "lge" / f"lge_{stem}.nii.gz")
        save(tmp_path / "three" / f"{stem}.nii.gz")
    save(tmp_path / "three" / "sa_d.nii.gz")
    assert len(pairs_of(tmp_path)) == 9  # 3-D files may be images over time
    caplog.clear()
    found = pairs_of(tmp_path, time_axis="none")
    assert [name for name in names(found) if name.startswith("oblique")] == ["oblique/sa_b_c"]
    assert len(found) == 8
    assert "sa_b to sa_c: 2 volumes alike are not joined, nothing says that they are one heart" in caplog.text
    assert "sa_b to sa_d: 3 volumes alike are not joined" in caplog.text
    assert "lge" not in caplog.text


def test_series_over_time_are_left_alone(tmp_path: Path) -> None:
    for stem in ("sa_ED", "sa_ES"):
        save(tmp_path / "four" / f"{stem}.nii.gz", shape=(*VOLUME, 4))
        save(tmp_path / "three" / f"{stem}.nii.gz", shape=(9, 10, 6))
    assert len(pairs_of(tmp_path / "four")) == 2
    found = pairs_of(tmp_path / "three", time_axis=2)
    assert [one.open().shape for one in found] == [(6, 1, 10, 9)] * 2
    (tmp_path / "four" / "sa_ED.nii.gz").write_bytes(b"no image")
    assert len(pairs_of(tmp_path / "four")) == 2


# --- DICOM ------------------------------------------------------------------------------------------------------------


def save_series(folder: Path, number: int, description: str, trigger_ms: float, **tags: Any) -> NDArray[np.uint16]:
    """A series of one time point, (1, z, y, x)."""
    frames = images(1, 3) + np.uint16(number)
    uid = f"1.2.826.0.1.3680043.8.498.7.3.{number}"
    write_series(
        folder / str(number), frames, SeriesNumber=number, SeriesInstanceUID=uid, SeriesDescription=description,
        TriggerTime=str(trigger_ms), **tags,
    )  # fmt: skip
    return frames


@pytest.mark.parametrize(
    ("descriptions", "triggers", "order", "name"),
    [
        (("cine SA ES", "cine SA ED"), (320, 10), (1, 0), "5_cine_SA_ED_ES"),
        (("SA diastole", "SA systole"), (700, 320), (0, 1), "4_SA_diastole_systole"),  # by the words, not the times
        (("cine sa 1", "cine sa 2"), (320, 10), (1, 0), None),
    ],
)
def test_two_dicom_series_of_one_phase_each(
    tmp_path: Path, descriptions: tuple[str, str], triggers: tuple[float, float], order: tuple[int, int],
    name: str | None,
) -> None:  # fmt: skip
    data = [save_series(tmp_path, 4 + k, descriptions[k], triggers[k]) for k in (0, 1)]
    (one,) = pairs_of(tmp_path)
    series = one.open()
    assert (one.format, len(one.paths), series.shape) == ("dicom", 6, (2, 3, 12, 10))
    assert name is None or Path(one.name).name == name
    np.testing.assert_array_equal(series.array(), np.concatenate([data[k] for k in order]))

    derivation = Derivation(
        task="function", engine="e", engine_version="1", engine_digest="0" * 64, software_version="1"
    )
    with dicom_writer(tmp_path / "out", series, derivation, shape=series.shape, affine=series.affine) as writer:
        for frame in series:
            writer.write(frame)
    (result,), _, _ = discover([tmp_path / "out"])
    again = result.open()
    np.testing.assert_array_equal(again.array(), series.array())
    np.testing.assert_allclose(again.affine, series.affine, atol=1e-6)
    written = [image for row in again.source.header.table for image in row]
    assert [image.trigger_time_ms for image in written] == [float(triggers[k]) for k in order for _ in range(3)]
    assert len({image.series_uid for image in written}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("SA", 10, {}), ("SA", 12, {})),  # one phase, repeated
        (("SA", 10, {}), ("LA", 320, {})),
        (("SA", 10, {"EchoTime": "1.2"}), ("SA", 320, {"EchoTime": "2.4"})),
        (("SA ED", 10, {}), ("SA ED", 320, {})),
        (("SA ED", 10, {}), ("SA ES", 320, {"FrameOfReferenceUID": "1.2.3"})),
        (("SA ED", 10, {}), ("SA ES", 320, {"ImageType": ["ORIGINAL", "PRIMARY", "P"]})),
        (("T1 map 1", 10, {}), ("T1 map 2", 320, {})),
        (("LGE 1", 10, {}), ("LGE 2", 320, {})),
    ],
)
def test_dicom_series_that_are_no_phases_of_one_heart(tmp_path: Path, one: Any, other: Any) -> None:
    for number, (description, trigger_ms, tags) in enumerate((one, other)):
        save_series(tmp_path, 4 + number, description, trigger_ms, **tags)
    before = discover([tmp_path])[0]
    assert len(before) == 2
    assert pair_phases(before) == before


def test_real_phases(real_data: Path) -> None:
    (one,) = pairs_of(real_data / "cine-ed-es-nifti")  # labels lie beside them
    assert (one.name, [path.name for path in one.paths]) == ("sa_ED_ES", ["sa_ED.nii.gz", "sa_ES.nii.gz"])
    series = one.open()
    assert series.shape == (2, 9, 256, 216)
    assert series.array().max(axis=(1, 2, 3)).tolist() == [474.0, 521.0]
    assert survey(series).scale > 0
