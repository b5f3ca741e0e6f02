"""Cine and T1 series of studies find each other, and nothing else is taken for them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from cmrsr.errors import CmrsrError, UnreadableError, UnusableError, UsageError
from cmrsr.io.discover import Candidate, discover
from cmrsr.io.nifti.header import TimeAxis
from cmrsr.io.nifti.series import read_nifti
from cmrsr.io.series import Series
from cmrsr.tasks.mie.inputs.inversion_times import has_inversion_times, no_inversion_times, with_inversion_times
from cmrsr.tasks.mie.inputs.pairing import Pairs, pair_studies
from tests.conftest import oblique_affine
from tests.io.dicom.dicom_files import NORMAL, ROOT, images, lps_position, write_series

# MOLLI 5(3)3 as acquired, ms: the times are in no order
MOLLI = [100.0, 1010, 1930, 2840, 3750, 180, 1090, 2010]
SAX, LAX = oblique_affine(), oblique_affine()[:, [0, 2, 1, 3]]


def pairs_in(*inputs: Path, time_axis: TimeAxis = None) -> Pairs:
    return pair_studies(discover(inputs, time_axis=time_axis)[0], inputs=inputs, time_axis=time_axis)


def found(pairs: Pairs) -> dict[str, str]:
    """The cine's name for each T1 series."""
    return {one.name: one.cine.name for one in pairs.cases}


# --- NIfTI ------------------------------------------------------------------------------------------------------------


def nifti(path: Path, shape: tuple[int, ...], affine: NDArray[np.float64] = SAX, **sidecar: Any) -> Path:
    """Shape (x, y, z, t) or fewer axes, of distinct values; a sidecar where ``sidecar`` says something."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.arange(np.prod(shape), dtype=np.int16).reshape(shape), affine), path)
    if sidecar:
        path.with_name(path.name.split(".")[0] + ".json").write_text(json.dumps(sidecar))
    return path


def cine(path: Path, n: int = 12, affine: NDArray[np.float64] = SAX, n_z: int = 3) -> Path:
    return nifti(path, (6, 5, n_z, n), affine, FrameTimes=[0.07 * t for t in range(n)])


def t1(path: Path, times_ms: Sequence[float] = MOLLI, **sidecar: Any) -> Path:
    return nifti(path, (6, 5, 2, len(times_ms)), InversionTime=[t / 1000 for t in times_ms], **sidecar)


def test_a_study_of_many_series(tmp_path: Path) -> None:
    """Late enhancement, perfusion, maps, phases and labels are left alone."""
    t1(tmp_path / "t1.nii.gz")
    t1(tmp_path / "t1_ph.nii.gz")
    t1(tmp_path / "x7.nii.gz", ImageType=["ORIGINAL", "PRIMARY", "P"])
    nifti(tmp_path / "T1map.nii.gz", (6, 5, 2, 8))
    nifti(tmp_path / "t1_fitted.nii.gz", (6, 5, 2, 8), ImageType=["DERIVED", "PRIMARY", "T1 MAP"])
    nifti(tmp_path / "ti_scout.nii.gz", (6, 5, 1, 8), InversionTime=[t / 1000 for t in MOLLI])
    nifti(tmp_path / "lge.nii.gz", (6, 5, 3, 1), InversionTime=0.3)
    nifti(tmp_path / "lge_volume.nii.gz", (6, 5, 3))
    nifti(tmp_path / "perfusion_rest.nii.gz", (6, 5, 3, 12))
    nifti(tmp_path / "truth" / "t1_clean.nii.gz", (6, 5, 2, 8))
    (tmp_path / "truth.json").write_text('{"software": "cmrsr 0.1.0"}')
    nib.save(nib.Nifti1Image(np.zeros((6, 5, 2, 8), np.uint8), SAX), tmp_path / "t1_label.nii.gz")
    cine(tmp_path / "cine_sax.nii.gz")
    pairs = pairs_in(tmp_path)
    assert found(pairs) == {"t1": "cine_sax"}
    assert not pairs.refused
    assert not pairs.notes


@pytest.mark.parametrize(
    ("cine_name", "t1_name", "other"),
    [
        ("{}/cine", "{}/t1", None),
        ("{}/cine/a", "{}/t1_molli/b", None),
        ("{}_cine", "{}_t1", None),
        ("cine/{}", "t1/{}", None),
        ("{0}/anat/{0}_acq-sax_cine", "{0}/anat/{0}_IRT1", None),
        ("{}/005_cine", "{}/012_t1", "{}/006_cine_4ch"),
    ],
)
@pytest.mark.parametrize("people", [("subject1", "subject10"), ("001", "002"), ("pat12", "pat13")])
def test_several_patients(
    tmp_path: Path, cine_name: str, t1_name: str, other: str | None, people: tuple[str, str]
) -> None:
    """Each T1 series gets the cine of its own patient, and one whose patient has none gets no other's."""
    for person in people:
        cine(tmp_path / f"{cine_name.format(person)}.nii.gz")
        t1(tmp_path / f"{t1_name.format(person)}.nii.gz")
        if other:
            cine(tmp_path / f"{other.format(person)}.nii.gz", affine=LAX, n_z=1)
    alone = t1(tmp_path / f"{t1_name.format('999')}.nii.gz")
    pairs = pairs_in(tmp_path)
    assert found(pairs) == {t1_name.format(person): cine_name.format(person) for person in people}
    assert [one.paths for one in pairs.refused] == [(alone,)]
    assert "no cine in its folder" in str(pairs.refused[0].error)


def test_names_that_tell_nothing_are_not_two_patients(tmp_path: Path) -> None:
    cine(tmp_path / "anna_cine.nii.gz")
    t1(tmp_path / "bert_t1.nii.gz")
    assert not pairs_in(tmp_path).cases
    cine(tmp_path / "cine.nii.gz")
    assert found(pairs_in(tmp_path)) == {"bert_t1": "cine"}


def test_a_t1_series_that_may_be_of_either_patient(tmp_path: Path) -> None:
    t1(tmp_path / "t1.nii.gz")
    for person in ("anna", "bert"):
        cine(tmp_path / f"{person}_cine.nii.gz")
    pairs = pairs_in(tmp_path)
    assert not pairs.cases
    assert "anna_cine, bert_cine" in str(pairs.refused[0].error)


def test_a_folder_for_each_kind(tmp_path: Path) -> None:
    """Of one patient, names may differ; of several, none is given another's."""
    cine(tmp_path / "cine" / "anna.nii.gz")
    t1(tmp_path / "t1" / "bert.nii.gz")
    assert found(pairs_in(tmp_path)) == {"t1/bert": "cine/anna"}
    cine(tmp_path / "cine" / "carl.nii.gz")
    assert not pairs_in(tmp_path).cases


def test_the_cine_whose_slices_lie_there(tmp_path: Path) -> None:
    far = SAX.copy()
    far[:3, 3] += 60 * SAX[:3, 2] / np.linalg.norm(SAX[:3, 2])
    cine(tmp_path / "cine_0_long.nii.gz", affine=LAX, n=30)
    cine(tmp_path / "cine_1_far.nii.gz", affine=far)
    cine(tmp_path / "cine_2_flow.nii.gz")
    cine(tmp_path / "cine_3_sax.nii.gz")
    cine(tmp_path / "cine_4_ed.nii.gz", n=1)
    t1(tmp_path / "t1_native.nii.gz")
    t1(tmp_path / "t1_post.nii.gz", [t + 5 for t in MOLLI])
    pairs = pairs_in(tmp_path)
    assert found(pairs) == dict.fromkeys(("t1_native", "t1_post"), "cine_3_sax")
    assert "of 5" in pairs.notes[0]
    assert any("cine_3_sax" in note for note in pairs.cases[0].open().source.notes)


def test_one_phase_and_long_axes_are_paired_too(tmp_path: Path) -> None:
    """What is wrong with them is said with their numbers, later. But a whole beat goes first."""
    t1(tmp_path / "t1.nii.gz")
    cine(tmp_path / "cine.nii.gz", n=1, affine=LAX)
    assert found(pairs_in(tmp_path)) == {"t1": "cine"}
    cine(tmp_path / "cine_ed.nii.gz", n=1)
    cine(tmp_path / "cine_flow.nii.gz")
    assert found(pairs_in(tmp_path)) == {"t1": "cine_flow"}


def test_images_moved_onto_each_other_are_no_other_case(tmp_path: Path) -> None:
    cine(tmp_path / "cine.nii.gz")
    t1(tmp_path / "t1_MOCO.nii.gz")
    t1(tmp_path / "t1_molli.nii.gz")
    pairs = pairs_in(tmp_path)
    assert found(pairs) == {"t1_molli": "cine"}
    assert "t1_MOCO" in pairs.notes[0]


def test_a_shape_like_a_cine(tmp_path: Path) -> None:
    nifti(tmp_path / "patient1_4d.nii.gz", (6, 5, 3, 12))
    t1(tmp_path / "molli.nii.gz")
    assert found(pairs_in(tmp_path)) == {"molli": "patient1_4d"}


def test_no_t1_images(tmp_path: Path) -> None:
    cine(tmp_path / "cine.nii.gz")
    nifti(tmp_path / "lge.nii.gz", (6, 5, 3, 1))
    with pytest.raises(UnusableError, match=r"no T1 images beside the cine cine: .* cmrsr mie CINE T1"):
        pairs_in(tmp_path)
    t1(tmp_path / "p2" / "t1.nii.gz")
    pairs = pairs_in(tmp_path)
    assert [one.name for one in pairs.refused] == ["p2/t1"]
    assert pairs.notes == ["left alone, a cine without T1 images: cine"]


def test_broken_files(tmp_path: Path) -> None:
    """A broken T1 series fails; so does a T1 series whose cine is broken, with the reason; others do not matter."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "cine.nii.gz").write_bytes(b"no image")
    (tmp_path / "a" / "lge.nii.gz").write_bytes(b"no image")
    t1(tmp_path / "a" / "t1.nii.gz")
    cine(tmp_path / "b" / "cine.nii.gz")
    (tmp_path / "b" / "t1.nii.gz").write_bytes(b"no image")
    refused = {one.name: one.error for one in pairs_in(tmp_path).refused}
    assert set(refused) == {"a/t1", "b/t1"}
    assert all(isinstance(error, UnreadableError) for error in refused.values())
    assert "its cine cannot be used" in str(refused["a/t1"])


# --- inversion times --------------------------------------------------------------------------------------------------


def test_t1_images_without_inversion_times(tmp_path: Path) -> None:
    cine(tmp_path / "cine.nii.gz")
    nifti(tmp_path / "t1.nii.gz", (6, 5, 2, 8), FrameTimes=[float(t + 1) for t in range(8)])
    (case,) = pairs_in(tmp_path).cases
    series = case.open()
    assert series.times_ms is None  # when they were acquired is not after which inversion
    assert not has_inversion_times(series)
    assert "--ti 100,180" in str(no_inversion_times(series))
    known = with_inversion_times(series, MOLLI)
    assert has_inversion_times(known)
    np.testing.assert_array_equal(known.times_ms, MOLLI)  # type: ignore[arg-type]
    np.testing.assert_array_equal(known.array(), series.array())
    with pytest.raises(UsageError, match="names 7 inversion times, t1 has 8"):
        with_inversion_times(series, MOLLI[1:])
    with pytest.raises(UsageError, match="above 0"):
        with_inversion_times(series, [0.0, *MOLLI[1:]])


def test_inversion_times_in_the_order_of_acquisition(tmp_path: Path) -> None:
    """They make a T1 series, whatever its name, and give 3-D files of images their time axis."""
    flat = read_nifti(nifti(tmp_path / "x.nii", (6, 5, 8), InversionTime=[t / 1000 for t in MOLLI]))
    assert (flat.kind, flat.shape) == ("t1", (8, 1, 5, 6))
    np.testing.assert_allclose(flat.times_ms, MOLLI)  # type: ignore[arg-type]
    repeated = [0.3] * 6 + [0.4] * 2
    assert read_nifti(nifti(tmp_path / "y.nii", (6, 5, 1, 8), InversionTime=repeated)).kind == "unknown"
    with pytest.raises(CmrsrError, match="--time-axis"):
        read_nifti(nifti(tmp_path / "z.nii", (6, 5, 8), InversionTime=repeated))


def test_a_file_for_each_inversion_time(tmp_path: Path) -> None:
    folder = tmp_path / "sub-01"
    cine(folder / "sub-01_cine.nii.gz")
    for k, time_ms in enumerate(MOLLI):
        for part in ("", "_part-phase"):
            nifti(folder / f"sub-01_inv-{k + 1}{part}_IRT1.nii.gz", (6, 5, 2), InversionTime=time_ms / 1000)
    for k, time_ms in enumerate((250, 300, 350)):
        nifti(folder / f"sub-01_run-{k + 1}_viability.nii.gz", (6, 5, 2), InversionTime=time_ms / 1000)
    pairs = pairs_in(tmp_path)
    assert found(pairs) == {"sub-01/sub-01_IRT1": "sub-01/sub-01_cine"}
    series = pairs.cases[0].open()
    assert (series.kind, series.shape) == ("t1", (8, 2, 5, 6))
    np.testing.assert_allclose(series.times_ms, sorted(MOLLI))  # type: ignore[arg-type]
    assert [p.name for p in series.source.paths][:2] == ["sub-01_inv-1_IRT1.nii.gz", "sub-01_inv-6_IRT1.nii.gz"]
    assert series.source.header.get_data_shape() == (6, 5, 2, 8)


def test_the_time_axis_is_for_files_of_three_axes(tmp_path: Path) -> None:
    first = cine(tmp_path / "cine.nii.gz")
    second = nifti(tmp_path / "slice.nii.gz", (6, 5, 7))
    with pytest.raises(UnusableError, match="--time-axis 0, 1 or 2"):
        pairs_in(first, second)
    pairs = pairs_in(first, second, time_axis=2)
    assert pairs.cases[0].open().shape == (7, 1, 5, 6)
    assert pairs.cases[0].cine.open().shape == (12, 3, 5, 6)


# --- two inputs -------------------------------------------------------------------------------------------------------


def test_the_place_on_the_command_line_decides(tmp_path: Path) -> None:
    first = nifti(tmp_path / "a" / "lge.nii.gz", (6, 5, 3, 12))
    second = nifti(tmp_path / "b" / "cine.nii.gz", (6, 5, 3, 8))
    assert found(pairs_in(first, second)) == {"b/cine": "a/lge"}
    assert found(pairs_in(first.parent, second.parent)) == {"b/cine": "a/lge"}


def test_swapped_inputs(tmp_path: Path) -> None:
    first, second = cine(tmp_path / "cine.nii.gz", n=25), t1(tmp_path / "t1.nii.gz")
    assert found(pairs_in(first, second)) == {"t1": "cine"}
    with pytest.raises(UsageError, match=r"T1 images .* and the cine where the T1 images are; name the cine first"):
        pairs_in(second, first)
    with pytest.raises(UsageError, match=r"a cine \(25 images a slice\) where the T1 images are expected"):
        pairs_in(first, cine(tmp_path / "cine2.nii.gz", n=25))
    with pytest.raises(UsageError, match=r"T1 images .* where the cine is expected; name"):
        pairs_in(second, t1(tmp_path / "other.nii.gz"))


def test_several_series_in_one_input(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    cine(a / "cine_2ch.nii.gz", affine=LAX)
    cine(a / "cine_sax.nii.gz")
    nifti(b / "scan1.nii.gz", (6, 5, 2, 8))
    assert found(pairs_in(a, b)) == {"b/scan1": "a/cine_sax"}
    nifti(b / "scan2.nii.gz", (6, 5, 2, 8))
    with pytest.raises(UsageError, match=r"b: 2 series that may be the T1 images \(scan1, scan2\); name one"):
        pairs_in(a, b)
    t1(b / "native.nii.gz")
    t1(b / "post.nii.gz", [t + 5 for t in MOLLI])
    assert found(pairs_in(a, b)) == {"b/native": "a/cine_sax", "b/post": "a/cine_sax"}


def test_an_input_of_nothing_that_is_meant(tmp_path: Path) -> None:
    first = cine(tmp_path / "cine.nii.gz")
    for k in range(2):
        nifti(tmp_path / "maps" / f"T1map{k}.nii.gz", (6, 5, 2, 1))
    with pytest.raises(UnusableError, match="maps: none of its 2 series are the T1 images"):
        pairs_in(first, tmp_path / "maps")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnreadableError, match="empty: no series in it"):
        pairs_in(first, tmp_path / "empty")
    (tmp_path / "broken.nii").write_bytes(b"no image")
    with pytest.raises(UnreadableError, match=r"broken\.nii"):
        pairs_in(first, tmp_path / "broken.nii")


def test_two_studies_are_not_a_cine_and_t1_images(tmp_path: Path) -> None:
    for person in ("a", "b"):
        cine(tmp_path / person / "cine.nii.gz")
        t1(tmp_path / person / "t1.nii.gz")
    assert found(pairs_in(tmp_path / "a", tmp_path / "b")) == {"a/t1": "a/cine", "b/t1": "b/cine"}
    (tmp_path / "b" / "t1.nii.gz").unlink()
    assert found(pairs_in(tmp_path / "a", tmp_path / "b")) == {"a/t1": "a/cine"}


# --- DICOM ------------------------------------------------------------------------------------------------------------


def dicom_cine(folder: Path, **tags: Any) -> None:
    def edit(ds: Dataset, t: int, z: int) -> None:
        ds.TriggerTime = str(65 * t)

    tags = {"SeriesDescription": "cine sax", "SeriesNumber": 3, "SeriesInstanceUID": f"{ROOT}.3.3"} | tags
    write_series(folder, images(12, 3), edit=edit, **tags)


def dicom_t1(folder: Path, *, levels: Sequence[str] = (), number: int = 5, inversion: bool = True, **tags: Any) -> None:
    """MOLLI of three slices, each with inversion times of its own; with ``levels``, each a series of that name."""

    def edit(ds: Dataset, t: int, z: int) -> None:
        if inversion:
            ds.InversionTime = f"{MOLLI[t] + 7 * z * (MOLLI[t] > 200):.2f}"
        ds.TriggerTime = "600"
        if levels:
            ds.SeriesDescription = f"T1_MOLLI_{levels[z]}"

    tags = {"SeriesDescription": "T1_MOLLI", "SeriesNumber": number, "SeriesInstanceUID": f"{ROOT}.3.{number}"} | tags
    write_series(folder, images(8, 3), edit=edit, series_per_slice=bool(levels), **tags)


def t1_series(pairs: Pairs) -> Series:
    (case,) = pairs.cases
    return case.open()


@pytest.mark.parametrize("levels", [(), ("s1", "s2", "s3"), ("base", "mid", "apex")])
def test_slices_with_inversion_times_of_their_own(tmp_path: Path, levels: Sequence[str]) -> None:
    dicom_cine(tmp_path / "a")
    dicom_t1(tmp_path / "b", levels=levels)
    pairs = pairs_in(tmp_path)
    assert not pairs.refused
    series = t1_series(pairs)
    assert (series.kind, series.shape) == ("t1", (8, 3, 12, 10))
    expected = np.sort([[m + 7 * z * (m > 200) for z in range(3)] for m in MOLLI], axis=0)
    np.testing.assert_allclose(series.times_ms, expected)  # type: ignore[arg-type]
    np.testing.assert_array_equal(series.array()[:, 2], images(8, 3)[np.argsort(MOLLI), 2])
    assert "cine" in pairs.cases[0].cine.name


def test_levels_apart_stay_apart_where_they_are_no_stack(tmp_path: Path) -> None:
    for number, (level, mm) in enumerate((("base", 0.0), ("mid", 20.0), ("apex", 51.0)), start=5):
        dicom_t1(
            tmp_path / level, number=number, SeriesDescription=f"T1_{level}",
            ImagePositionPatient=[f"{v:.6f}" for v in lps_position(0) + mm * NORMAL],
        )  # fmt: skip
        for path in sorted((tmp_path / level).iterdir()):
            if int(path.name[1:]) % 3:
                path.unlink()
    dicom_cine(tmp_path / "cine")
    assert [one.open().shape[:2] for one in pairs_in(tmp_path).cases] == [(8, 1)] * 3


def test_dicom_t1_images_without_inversion_times(tmp_path: Path) -> None:
    dicom_cine(tmp_path / "a")
    dicom_t1(tmp_path / "b", inversion=False)
    series = t1_series(pairs_in(tmp_path))
    assert not has_inversion_times(series)
    assert "DICOM headers hold none" in str(no_inversion_times(series))
    assert has_inversion_times(with_inversion_times(series, MOLLI))


def test_dicom_studies_and_frames_of_reference(tmp_path: Path) -> None:
    dicom_cine(tmp_path / "a")
    dicom_t1(tmp_path / "b", FrameOfReferenceUID=f"{ROOT}.9")
    pairs = pairs_in(tmp_path)
    assert len(pairs.cases) == 1
    assert any("frames of reference" in note for note in pairs.notes)

    dicom_t1(tmp_path / "c", number=6, StudyInstanceUID=f"{ROOT}.8")
    both = (tmp_path / "a", tmp_path / "c")
    pairs = pairs_in(*both)
    assert any("belong to different studies" in note for note in pairs.notes)
    assert any("different studies" in note for note in t1_series(pairs).source.notes)
    joint = pair_studies(discover(both)[0], inputs=[tmp_path])  # the same files as one folder: two studies
    assert not joint.cases
    assert "no cine in its DICOM study" in str(joint.refused[0].error)


def test_a_cine_of_the_same_frame_of_reference_first(tmp_path: Path) -> None:
    dicom_cine(tmp_path / "a", FrameOfReferenceUID=f"{ROOT}.9")
    dicom_cine(tmp_path / "b", SeriesNumber=4, SeriesInstanceUID=f"{ROOT}.3.4")
    dicom_t1(tmp_path / "c")
    pairs = pairs_in(tmp_path)
    assert list(found(pairs).values()) == ["b/4_cine_sax"]


def test_derived_copies_and_maps_of_a_dicom_study(tmp_path: Path) -> None:
    dicom_cine(tmp_path / "a")
    dicom_t1(tmp_path / "b", number=7, SeriesDescription="T1_MOLLI_MOCO")
    dicom_t1(tmp_path / "c", number=8)
    write_series(
        tmp_path / "d", images(1, 3), SeriesDescription="T1_MOLLI_T1", SeriesInstanceUID=f"{ROOT}.3.9", SeriesNumber=9,
        ImageType=["DERIVED", "PRIMARY", "T1", "T1 MAP"],
    )  # fmt: skip
    pairs = pairs_in(tmp_path)
    assert [one.name for one in pairs.cases] == ["c/8_T1_MOLLI"]
    assert "7_T1_MOLLI_MOCO" in pairs.notes[0]


def test_a_real_t1_study(real_data: Path, tmp_path: Path) -> None:
    """The magnitude images alone are the T1 series: not their phase, nor the map and the parameters of its fit."""
    real = real_data / "t1-dicom-phantom"
    pairs = pairs_in(real)
    assert [one.name.split("/")[-1] for one in pairs.refused] == ["12_ShMOLLI_192i_e11"]
    dicom_cine(tmp_path / "cine")
    series = t1_series(pairs_in(tmp_path / "cine", real))
    assert series.source.header.table[0][0].component == "magnitude"
    np.testing.assert_allclose(series.times_ms, [100, 180, 260, 1100, 2100, 3100, 4100])  # type: ignore[arg-type]


def test_each_candidate_is_opened_once(tmp_path: Path) -> None:
    cine(tmp_path / "cine.nii.gz")
    t1(tmp_path / "t1.nii.gz")
    opened: list[str] = []

    def counted(one: Candidate) -> Candidate:
        def opens() -> Series:
            opened.append(one.name)
            return one.open()

        return Candidate(name=one.name, format=one.format, paths=one.paths, open=opens)

    pair_studies([counted(one) for one in discover([tmp_path])[0]], inputs=[tmp_path])
    assert sorted(opened) == ["cine", "t1"]
