"""Results never touch the input, appear whole or not at all, and say plainly when they cannot be written."""

import hashlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from cmrsr.errors import OutputError, UnreadableError
from cmrsr.io.outputs import (
    append_audit,
    refuse_overwriting,
    remove_partials,
    replacing,
    resolve_output,
    sha256_file,
    write_json_atomic,
    write_text_atomic,
)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "perf"
    (folder / "sub").mkdir(parents=True)
    for name in ("scan.nii.gz", "IM1.dcm", "I05", "p.1"):
        (folder / name).write_text("x")
    return folder


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", "../perf_cmrsr"),
        ("sub/..", "../perf_cmrsr"),
        ("scan.nii.gz", "scan_cmrsr"),
        ("IM1.dcm", "IM1_cmrsr"),
        ("I05", "I05_cmrsr"),
        ("p.1", "p.1_cmrsr"),
    ],
)
def test_default_output_is_beside_the_first_input(scans: Path, source: str, expected: str) -> None:
    out = resolve_output([scans / source, scans / "I05"] if source else [scans], None)
    assert out.resolve() == (scans / expected).resolve()
    assert list(out.iterdir()) == []


def test_the_current_folder_as_input(scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(scans)
    assert resolve_output([Path()], None) == scans.parent / "perf_cmrsr"
    assert resolve_output([Path("scan.nii.gz")], Path("../res")).resolve() == scans.parent / "res"


def test_default_output_of_a_list(scans: Path) -> None:
    (scans.parent / "cases.txt").write_text("# both\nperf\n")
    assert resolve_output([scans.parent / "cases.txt"], None) == scans.parent / "cases_cmrsr"


@pytest.mark.parametrize(
    "out", ["data/perf", "data/perf/out", "data/perf/sub/a/b", "data/../data/perf/sub", "link/out"]
)
def test_output_over_or_inside_the_input_is_refused(scans: Path, tmp_path: Path, out: str) -> None:
    (tmp_path / "link").symlink_to(scans)
    (tmp_path / "cases.txt").write_text("data/perf\n")
    for source in (scans, tmp_path / "link", tmp_path / "cases.txt"):
        with pytest.raises(OutputError, match=r"the input .*perf.* -o|the input .*link.* -o") as caught:
            resolve_output([source], tmp_path / out)
        assert "\n" not in str(caught.value)
    assert not (scans / "out").exists()


def test_output_onto_an_input_file_is_refused(scans: Path) -> None:
    with pytest.raises(OutputError, match="is the input"):
        resolve_output([scans / "scan.nii.gz"], scans / "scan.nii.gz")
    assert (scans / "scan.nii.gz").read_text() == "x"


@pytest.mark.parametrize("out", ["data", "data/perf_out", "."])
def test_a_parent_or_a_sibling_is_fine(scans: Path, tmp_path: Path, out: str) -> None:
    assert resolve_output([scans], tmp_path / out).is_dir()
    assert resolve_output([scans / "scan.nii.gz"], scans) == scans  # beside a file: names differ


def test_planned_files_over_inputs_are_refused(scans: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(scans)
    inputs = [scans / "scan.nii.gz", scans / "I05"]
    refuse_overwriting([scans / "scan_sr.nii.gz", tmp_path / "I05"], inputs)
    with pytest.raises(OutputError, match="would overwrite an input"):
        refuse_overwriting([scans / "other", tmp_path / "link" / "I05"], inputs)


def test_output_below_a_file_or_onto_a_file_is_one_line(scans: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "deep" / "er"):
        with pytest.raises(OutputError, match="cannot be written") as caught:
            resolve_output([scans], out)
        assert "\n" not in str(caught.value)


def test_output_in_a_read_only_place(scans: Path) -> None:
    proc = Path("/proc/sys")  # refuses root as well, unlike permission bits
    if not proc.is_dir():
        pytest.skip("no /proc")
    with pytest.raises(OutputError, match="cannot be written"):
        resolve_output([scans], proc)
    with pytest.raises(OutputError, match="cannot be written"):
        resolve_output([scans], proc / "cmrsr")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permission bits do not stop root")
def test_output_without_permission(scans: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        resolve_output([scans], tmp_path / "locked")


def test_a_missing_input_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="no such file"):
        resolve_output([tmp_path / "nothing"], None)
    assert list(tmp_path.iterdir()) == []


def test_json_is_plain_and_whole(tmp_path: Path) -> None:
    record = {
        "scale": np.float32(1.5),
        "shape": (np.int64(3), 4),
        "curve": np.array([1.0, np.nan]),
        "inf": float("inf"),
        "path": tmp_path,
        "ok": np.True_,
        "name": "Übung",
        3: None,
    }
    path = tmp_path / "new" / "run.json"
    write_json_atomic(path, record)
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "scale": 1.5,
        "shape": [3, 4],
        "curve": [1.0, None],
        "inf": None,
        "path": str(tmp_path),
        "ok": True,
        "name": "Übung",
        "3": None,
    }
    assert [p.name for p in path.parent.iterdir()] == ["run.json"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_text_atomic(path, "old\n")
    with pytest.raises(TypeError):
        write_json_atomic(path, {"what": object()})

    def fail() -> None:
        with replacing(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"old\n"
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_a_folder_in_the_way_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "run.json").mkdir()
    with pytest.raises(OutputError, match=r"run\.json: cannot be written"):
        write_text_atomic(tmp_path / "run.json", "new")
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_audit_lines_of_many_writers_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    before = datetime.now(UTC)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: append_audit(path, {"case": i, "text": "x" * 2000}), range(100)))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(line["case"] for line in lines) == list(range(100))
    stamp = datetime.fromisoformat(lines[0]["time"])
    assert stamp.utcoffset() is not None
    assert abs((stamp - before).total_seconds()) < 60
    assert lines[0]["time"].endswith("Z")


def test_sha256_of_a_file(tmp_path: Path) -> None:
    data = os.urandom(100_000)
    (tmp_path / "x").write_bytes(data)
    assert sha256_file(tmp_path / "x") == hashlib.sha256(data).hexdigest()


def test_only_old_partials_are_removed(tmp_path: Path) -> None:
    old, fresh, kept = tmp_path / "a" / ".x.nii.gz.partial", tmp_path / ".y.json.partial", tmp_path / "x.partial.txt"
    folder = tmp_path / ".series.partial"
    folder.mkdir()
    old.parent.mkdir()
    for path in (old, fresh, kept, folder / "1.dcm"):
        path.write_text("")
    for path in (old, folder):
        os.utime(path, (time.time() - 1e6,) * 2)
    assert remove_partials(tmp_path) == [folder, old]
    assert fresh.exists()
    assert kept.exists()
    assert remove_partials(tmp_path, older_than_s=-1) == [fresh]
