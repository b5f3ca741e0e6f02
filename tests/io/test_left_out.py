"""Names decide nothing alone: what is left out of a folder, and that naming it brings it back."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from cmrsr.errors import UnreadableError, UnusableError
from cmrsr.io.discover import discover, find_series
from cmrsr.io.nifti.label_maps import MAX_LABELS, holds_labels, label_folder, named_label
from tests.io.dicom.dicom_files import images, write_series

SHAPE = (12, 10, 2, 4)
OURS = {"software": "cmrsr 0.1.0"}


def scan() -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16)


def labels(*values: int, dtype: str = "uint8") -> NDArray[Any]:
    """Mostly background, and a little of each value."""
    data = np.zeros(SHAPE, dtype)
    for n, value in enumerate(values):
        data[2 + n, 2:5] = value
    return data


def save(path: Path, data: NDArray[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, np.eye(4)), path)
    return path


def names(*inputs: Path) -> list[str]:
    return [one.name for one in find_series(inputs).candidates]


# ---- label maps ------------------------------------------------------------------------------------------------------

LABEL_NAMES = [
    "a_label", "label_sa_ED", "x_mask2", "MASK", "x_seg", "x-segmentation", "p1_gt", "p1_frame01_gt", "x_dseg",
    "lv roi",     "ground_truth_x", "labelsTr/x", "labelsTs/x", "my masks/x", "segmentations/deep/x", "study-labels/x",
]  # fmt: skip
OTHER_NAMES = [
    "unmasked", "p1_masked_cine", "CINE_segmented_SAX", "CINE_segmented_LAX_4Ch", "sa_segK10_trufi", "tfisegs3x",
    "labyrinth",     "x_gtv", "Presegment", "masked/x", "segmented/x", "labels of 2019/x", "heroism", "p1_rest",
]  # fmt: skip


@pytest.mark.parametrize("name", LABEL_NAMES)
def test_a_label_map_by_name_and_voxels_is_left_out(tmp_path: Path, name: str) -> None:
    label = save(tmp_path / f"{name}.nii.gz", labels(1, 2, 3))
    save(tmp_path / "scan.nii.gz", scan())
    assert names(tmp_path) == ["scan"]
    assert names(label) == [label.name[:-7]]


@pytest.mark.parametrize("name", LABEL_NAMES)
def test_an_image_of_such_a_name_is_a_series(tmp_path: Path, name: str) -> None:
    save(tmp_path / f"{name}.nii.gz", scan())
    save(tmp_path / "scan.nii.gz", scan())
    assert sorted(names(tmp_path)) == sorted([name, "scan"])


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_words_inside_a_name_say_nothing(tmp_path: Path, name: str) -> None:
    save(tmp_path / f"{name}.nii.gz", scan())
    assert not named_label(tmp_path / f"{Path(name).name}.nii.gz", Path(name).parts[:-1])
    assert names(tmp_path) == [name]


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (labels(1), True),
        (labels(), True),  # an empty mask
        (labels(205, 420, 850, dtype="int16"), True),
        (labels(1, 2, 3, dtype="float32"), True),
        (labels(1, 2, dtype="float64"), True),
        (labels(1, dtype="float32") * 0.25, False),  # a probability
        (scan(), False),
        (scan().astype("float32"), False),
        (np.arange(np.prod(SHAPE)).reshape(SHAPE).astype("int16") % (MAX_LABELS + 1), False),
        (np.arange(np.prod(SHAPE)).reshape(SHAPE).astype("int16") % 4, False),  # no background
        (np.where(labels(1) > 0, np.nan, 0).astype("float32"), False),
        (labels(1).astype("complex64"), False),
    ],
)
def test_voxels_of_a_label_map(tmp_path: Path, data: NDArray[Any], wanted: bool) -> None:
    assert holds_labels(save(tmp_path / "x.nii", data)) is wanted
    assert holds_labels(save(tmp_path / "x.nii.gz", data)) is wanted


def test_an_image_that_begins_with_background_is_read_on(tmp_path: Path) -> None:
    data = np.zeros((256, 256, 8), np.int16)
    data[:, :, 6:] = np.random.default_rng(1).integers(0, 500, (256, 256, 2))
    assert not holds_labels(save(tmp_path / "x.nii.gz", data))


def test_scaled_labels_and_scaled_images(tmp_path: Path) -> None:
    image = nib.Nifti1Image(labels(2, 4), np.eye(4))
    for slope, wanted in ((0.5, True), (0.3, False)):
        image.header.set_slope_inter(slope, 0)
        nib.save(image, tmp_path / "x.nii")
        assert holds_labels(tmp_path / "x.nii") is wanted


@pytest.mark.parametrize("content", [b"", b"text", b"\x5c\x01\0\0" + b"\xff" * 344])
def test_what_cannot_be_read_is_no_label_map(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x_label.nii").write_bytes(content)
    assert not holds_labels(tmp_path / "x_label.nii")
    assert names(tmp_path) == ["x_label"]  # and fails there with its own message


def test_a_folder_of_labels_that_is_named_is_taken_whole(tmp_path: Path) -> None:
    save(tmp_path / "labelsTr" / "p1.nii.gz", labels(1))
    save(tmp_path / "labelsTr" / "p2_label.nii.gz", labels(1))
    assert label_folder("labelsTr")
    assert names(tmp_path / "labelsTr") == ["p1", "p2_label"]
    with pytest.raises(UnreadableError, match=r"all images were left out; .*2 x label map.*name the file"):
        discover([tmp_path])


# ---- results of ours -------------------------------------------------------------------------------------------------


def test_results_are_what_their_own_json_lists(tmp_path: Path) -> None:
    for name in ("a", "a_sr", "a_sr_std", "b_sr", "c_sr", "d_function", "sub/x_masks"):
        save(tmp_path / f"{name}.nii.gz", scan())
    (tmp_path / "a_sr.json").write_text(json.dumps({**OURS, "outputs": {"a_sr.nii.gz": "1", "a_sr_std.nii.gz": "2"}}))
    (tmp_path / "c_sr.json").write_text(json.dumps({"software": "dcm2niix", "outputs": {"c_sr.nii.gz": "1"}}))
    (tmp_path / "d_function.json").write_text('{"EchoTime": 0.001}')
    assert names(tmp_path) == ["a", "b_sr", "c_sr", "d_function", "sub/x_masks"]
    assert names(tmp_path / "a_sr.nii.gz") == ["a_sr"]
    (left_out,) = (one for one in find_series([tmp_path]).left_out if one.notable)
    assert (left_out.rule, left_out.count) == ("earlier result of cmrsr", 2)


def test_dicom_results_are_listed_by_the_json_above_them(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "out" / "x_sr", images(3, 1))
    outputs = {f"x_sr/{path.name}": "digest" for path in paths}
    save(tmp_path / "scan.nii.gz", scan())
    (tmp_path / "out" / "x_sr.json").write_text(json.dumps({**OURS, "outputs": outputs}))
    assert names(tmp_path) == ["scan"]
    assert len(find_series([tmp_path / "out" / "x_sr"]).candidates) == 1


def test_results_of_a_stream_are_listed_by_its_log(tmp_path: Path) -> None:
    for name in ("raw", "f1_sr", "f2_sr"):
        save(tmp_path / f"{name}.nii.gz", scan())
    line = {"frame": "f1.nii.gz", "status": "ok", "key": "k", "outputs": {"f1_sr.nii.gz": "digest"}}
    (tmp_path / "stream.jsonl").write_text(json.dumps(line) + '\n{"frame": "cut')
    assert names(tmp_path) == ["f2_sr", "raw"]


@pytest.mark.parametrize("record", ["run.json", "run-2-of-4.json"])
def test_a_folder_of_results_has_their_name_and_a_record(tmp_path: Path, record: str) -> None:
    save(tmp_path / "study_cmrsr" / "raw.nii.gz", scan())
    save(tmp_path / "scan.nii.gz", scan())
    assert names(tmp_path) == ["scan", "study_cmrsr/raw"]  # somebody's own folder
    (tmp_path / "study_cmrsr" / record).write_text(json.dumps(OURS))
    assert names(tmp_path) == ["scan"]
    assert names(tmp_path / "study_cmrsr") == ["raw"]
    (tmp_path / "study_cmrsr").rename(tmp_path / "archive")  # the output of -o may hold other things
    assert names(tmp_path) == ["archive/raw", "scan"]


@pytest.mark.parametrize(
    "content", ["[]", "{", '{"software": "cmrsr 1"}', '{"software": "cmrsr 1", "outputs": [1]}', "\xff"]
)
def test_json_that_lists_nothing_hides_nothing(tmp_path: Path, content: str) -> None:
    save(tmp_path / "x_sr.nii.gz", scan())
    (tmp_path / "x_sr.json").write_bytes(content.encode("latin-1"))
    assert names(tmp_path) == ["x_sr"]


# ---- what is said about it -------------------------------------------------------------------------------------------


def test_a_rule_says_how_many_which_and_the_way_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path / "scan.nii.gz", scan())
    paths = [save(tmp_path / f"p{n:02d}_label.nii.gz", labels(1)) for n in range(12)]
    (tmp_path / "notes.pdf").write_text("x")
    found = find_series([tmp_path])
    rule, other = found.left_out
    assert (rule.rule, rule.count, list(rule.examples), rule.notable) == ("label map", 12, paths[:3], True)
    assert (other.rule, other.notable) == (".pdf file", False)
    assert rule.record()["way_out"] == "name the file itself to use it"
    discover([tmp_path])
    assert caplog.messages == [f"left out: 12 x label map, such as {paths[0]}; name the file itself to use it"]
    assert names(*paths[:2], tmp_path) == ["p00_label", "p01_label", "scan"]  # as it says


def test_only_what_is_of_no_use_and_labels(tmp_path: Path) -> None:
    save(tmp_path / "x_label.nii.gz", labels(1))
    write_series(tmp_path / "ct", images(2, 1), Modality="CT")
    with pytest.raises(UnusableError) as caught:
        discover([tmp_path])
    assert "2 x DICOM image of no use here (wrong modality: CT, expected MR)" in str(caught.value)
    assert "1 x label map" in str(caught.value)


# ---- pairs of header and image ---------------------------------------------------------------------------------------


def test_a_pair_of_header_and_image_is_one_series(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(scan(), np.eye(4)), tmp_path / "x.hdr")
    (tmp_path / "lonely.hdr").write_bytes(b"x")
    for source in (tmp_path, tmp_path / "x.hdr", tmp_path / "x.img"):
        (one,) = find_series([source]).candidates
        assert (one.name, one.format, one.paths) == ("x", "nifti", (tmp_path / "x.hdr",))
