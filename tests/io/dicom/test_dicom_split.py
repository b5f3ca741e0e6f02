"""A second dimension never becomes time: what separates images of equal place and time separates series."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import ROOT, cine, clock, groups_in, images, put_unchecked, series_in
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from cmrsr.errors import UnusableError
from cmrsr.io.dicom.read.group import assemble
from cmrsr.io.series import Series

FRAMES = images(8, 2)


def private(ds: Dataset, creator: str, group: int, element: int, vr: str, value: Any) -> None:
    block = ds.private_block(group, creator, create=True)
    block.add_new(element, vr, value)


def twice(folder: Path, tell: Any, *, n: int = 2, per_slice: bool = False) -> list[Series]:
    """``n`` scans of the same 4 phases and places in one series; ``tell(ds, k, z)`` writes the difference."""

    def edit(ds: Dataset, t: int, z: int) -> None:
        k, phase = divmod(t, 8 // n)
        ds.TriggerTime = str(100 * phase)
        ds.AcquisitionTime = ds.ContentTime = clock(0)
        tell(ds, k, z)

    cine(folder, FRAMES, edit=edit, series_per_slice=per_slice)
    return [assemble(g) for g in groups_in(folder)]


TELL: dict[str, Any] = {
    "acquisition number": lambda ds, k, z: setattr(ds, "AcquisitionNumber", k + 1),
    "acquisition number of every slice": lambda ds, k, z: setattr(ds, "AcquisitionNumber", 2 * z + k + 1),
    "clock of the breath-hold": lambda ds, k, z: setattr(ds, "AcquisitionTime", clock(20_000 * (2 * z + k))),
    "b-value": lambda ds, k, z: setattr(ds, "DiffusionBValue", 500.0 * k),
    "b-value of Siemens": lambda ds, k, z: private(ds, "SIEMENS MR HEADER", 0x0019, 0x0C, "IS", 500 * k),
    "velocity encoding in the sequence name": lambda ds, k, z: setattr(ds, "SequenceName", f"fl2d1_v{50 + 100 * k}in"),
    "echo number": lambda ds, k, z: setattr(ds, "EchoNumbers", k + 1),
    "echo time": lambda ds, k, z: setattr(ds, "EchoTime", str(1.1 + 2 * k)),
    "flip angle": lambda ds, k, z: setattr(ds, "FlipAngle", str(12 + 3 * k)),
    "dynamic": lambda ds, k, z: setattr(ds, "TemporalPositionIdentifier", k + 1),
    "frame of reference": lambda ds, k, z: setattr(ds, "FrameOfReferenceUID", f"{ROOT}.2.{k}"),
    "image type": lambda ds, k, z: setattr(ds, "ImageType", ["ORIGINAL", "PRIMARY", "M", ["IN", "OUT"][k]]),
}


@pytest.mark.parametrize("name", TELL)
def test_two_scans_of_one_cine_in_one_series(tmp_path: Path, name: str) -> None:
    found = twice(tmp_path, TELL[name])
    assert [s.shape[:2] for s in found] == [(4, 2)] * 2
    by_first = sorted(found, key=lambda s: float(s.frame(0)[0, 0, 0]) != FRAMES[0, 0, 0, 0])
    for k, series in enumerate(by_first):
        np.testing.assert_array_equal(series.array(), FRAMES[4 * k : 4 * k + 4])
        np.testing.assert_array_equal(series.times_ms, [0, 100, 200, 300])


def test_four_scans(tmp_path: Path) -> None:
    found = twice(tmp_path, TELL["acquisition number"], n=4)
    np.testing.assert_array_equal([s.array() for s in found], FRAMES.reshape(4, 2, *FRAMES.shape[1:]))


def test_two_scans_that_nothing_tells_apart_are_refused_with_the_tags_that_differ(tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match="several scans in one series, which differ only in InstanceNumber; sort"):
        twice(tmp_path, lambda ds, k, z: None)


def test_the_advice_to_sort_the_files_helps(tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match=r"such as I000 and I008: .* folders of their own"):
        twice(tmp_path / "all", lambda ds, k, z: None)
    for k in range(2):
        (tmp_path / str(k)).mkdir()
        for t in range(4):
            for z in range(2):
                name = f"I{(4 * k + t) * 2 + z:03d}"
                (tmp_path / "all" / name).rename(tmp_path / str(k) / name)
        np.testing.assert_array_equal(series_in(tmp_path / str(k)).array(), FRAMES[4 * k : 4 * k + 4])


def test_a_real_time_scan_over_two_beats_stays_one_scan(tmp_path: Path) -> None:
    """Trigger times repeat from beat to beat where the heart rate is even, but the clock goes on."""

    def real_time(ds: Dataset, t: int, z: int) -> None:
        ds.TriggerTime = str(100 * (t % 4))
        ds.AcquisitionTime = clock(100 * t + 5000 * z)

    cine(tmp_path, FRAMES, edit=real_time)
    series = series_in(tmp_path)
    np.testing.assert_array_equal(series.array(), FRAMES)
    assert series.times_ms is not None
    np.testing.assert_allclose(series.times_ms[:, 0], np.arange(8) * 100.0)


GE, PHILIPS, SIEMENS = ("GEMS_PARM_01", 0x0043, 0x2F), ("Philips MR Imaging DD 001", 0x2005, 0x11), (
    "SIEMENS MR HEADER", 0x0051, 0x16,
)  # fmt: skip


@pytest.mark.parametrize(
    ("where", "magnitude", "other", "suffix"),
    [
        ("ComplexImageComponent", "MAGNITUDE", "PHASE", "phase"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "M_FFE", "M"], ["ORIGINAL", "PRIMARY", "PHASE MAP", "P"], "phase"),
        ((*GE, "SS"), 0, 1, "phase"),
        ((*GE, "SS"), 0, 2, "real"),
        ((*PHILIPS, "CS"), "M", "I", "imaginary"),
        ((*SIEMENS, "LO"), "p2 M/NORM/DIS2D", "p2 P/DIS2D", "phase"),
    ],
)
@pytest.mark.parametrize("lost_vr", [False, True])
def test_parts_of_the_signal(
    tmp_path: Path, where: Any, magnitude: Any, other: Any, suffix: str, lost_vr: bool
) -> None:
    """Interleaved in one series; also where an archive has lost the value representation of private tags."""

    def component(ds: Dataset, t: int, z: int) -> None:
        ds.TriggerTime = str(100 * (t // 2))
        value = other if t % 2 else magnitude
        if isinstance(where, str):
            setattr(ds, where, value)
            return
        creator, group, element, vr = where
        private(ds, creator, group, element, vr, value)
        if lost_vr:
            raw = value.to_bytes(2, "little", signed=True) if vr == "SS" else value.encode()
            tag = (group << 16) | 0x1000 | element
            ds[tag] = DataElement(tag, "UN", raw + b" " * (len(raw) % 2))

    cine(tmp_path, FRAMES, edit=component)
    found = {s.source.name: s.array() for s in map(assemble, groups_in(tmp_path))}
    assert sorted(found) == ["5_cine_sax", f"5_cine_sax_{suffix}"]
    np.testing.assert_array_equal(found["5_cine_sax"], FRAMES[::2])
    np.testing.assert_array_equal(found[f"5_cine_sax_{suffix}"], FRAMES[1::2])


def test_a_word_alone_makes_no_map(tmp_path: Path) -> None:
    """A cine of a mapping protocol is a cine; a single image that is called a map is one, as is a stack of them."""
    cine(tmp_path / "cine", FRAMES, SeriesDescription="cine T1 map planning")
    assert series_in(tmp_path / "cine").source.header.table[0][0].component == "magnitude"
    for k, n in enumerate((1, 3)):
        cine(tmp_path / str(n), FRAMES[:1, :1].repeat(n, 1)[:, :2], SeriesDescription="T1 map", SeriesNumber=20 + k)
        assert series_in(tmp_path / str(n)).source.header.table[0][0].component == "map"


def test_a_private_tag_of_another_creator_says_nothing(tmp_path: Path) -> None:
    cine(tmp_path, FRAMES, edit=lambda ds, t, z: private(ds, "SOMEBODY", 0x0043, 0x2F, "SS", t % 2))
    np.testing.assert_array_equal(series_in(tmp_path).array(), FRAMES)


def test_the_standard_tag_counts_more_than_the_flavour(tmp_path: Path) -> None:
    cine(
        tmp_path, FRAMES, ImageType=["ORIGINAL", "PRIMARY", "VELOCITY", "NONE"], ComplexImageComponent="MAGNITUDE",
    )  # fmt: skip
    assert series_in(tmp_path).source.name == "5_cine_sax"


def test_garbled_private_values_are_no_error(tmp_path: Path) -> None:
    def garbled(ds: Dataset, t: int, z: int) -> None:
        private(ds, "GEMS_PARM_01", 0x0043, 0x2F, "LO", "many")
        put_unchecked(ds, "AcquisitionNumber", "x")

    cine(tmp_path, FRAMES, edit=garbled)
    np.testing.assert_array_equal(series_in(tmp_path).array(), FRAMES)
