"""Files as they appear: what is reported, once, in which order, and when it is said to have changed."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cmrsr.tasks.sr.stream import arrivals as module
from cmrsr.tasks.sr.stream.arrivals import IN_TURN, MISSING, Arrival, Arrivals, FolderArrivals
from cmrsr.tasks.sr.stream.arrivals_listed import ListedArrivals

PATIENCE_S = 10.0
NAMES = ["b.dcm", "a.nii.gz", "c.nii", "IM0001", "1.2.840.5", "x.IMA"]


def write(path: Path, data: bytes = b"x", at: float | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    if at is not None:
        os.utime(path, (at, at))
    return path


def names(found: list[Arrival]) -> list[str]:
    return [one.name.as_posix() for one in found]


def until(source: Arrivals, enough: Callable[[list[Arrival]], bool]) -> list[Arrival]:
    """What is reported until there is enough of it."""
    found: list[Arrival] = []
    end = time.monotonic() + PATIENCE_S
    while not enough(found):
        assert time.monotonic() < end, found
        found += source.poll()
    return found


def test_what_is_there_comes_first_in_order_of_time(tmp_path: Path) -> None:
    for k, name in enumerate(NAMES):
        write(tmp_path / name, at=1e9 - k)
    source = FolderArrivals(tmp_path)
    first = source.poll()
    assert names(first) == NAMES[::-1]
    assert all(one.early for one in first)
    write(tmp_path / "later.dcm")
    (later,) = until(source, bool)
    assert (later.name, later.early) == (Path("later.dcm"), False)
    assert not any(source.poll() for _ in range(20))


def test_equal_times_are_in_natural_order(tmp_path: Path) -> None:
    for k in (10, 9, 1):
        write(tmp_path / f"I{k}.dcm", at=1e9)
    assert names(FolderArrivals(tmp_path).poll()) == ["I1.dcm", "I9.dcm", "I10.dcm"]


@pytest.mark.parametrize("how", ["grown", "touched", "shorter"])
def test_a_file_that_changes_comes_again(tmp_path: Path, how: str) -> None:
    path = write(tmp_path / "a.dcm", b"four", at=time.time())
    source = FolderArrivals(tmp_path)
    source.poll()
    if how == "touched":
        os.utime(path, (2e9, 2e9))
    else:
        write(path, {"grown": b"longer", "shorter": b"x"}[how])
    assert names(until(source, bool)) == ["a.dcm"]
    assert not source.poll()


def test_files_long_at_rest_are_looked_at_in_turn(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"I{k}.dcm", at=1e9) for k in range(5 * IN_TURN)]
    source = FolderArrivals(tmp_path)
    source.poll()
    os.utime(paths[-1], (2e9, 2e9))
    found = [one for _ in range(7) for one in source.poll()]
    assert names(found) == [paths[-1].name]


def test_only_images_under_their_final_names(tmp_path: Path) -> None:
    ignored = [".hidden.dcm", "a.dcm.partial", "b.nii.tmp", "c.dcm~", "notes.txt", "truth/p.nii.gz", "p_sr.nii.gz"]
    ignored += ["old_cmrsr/p.nii.gz", ".cache/p.dcm"]
    for name in ignored:
        write(tmp_path / name)
    for name in ("truth.json", "old_cmrsr/run.json"):
        (tmp_path / name).write_text('{"software": "cmrsr 0.1.0"}')
    (tmp_path / "p_sr.json").write_text('{"software": "cmrsr 0.1.0", "outputs": {"p_sr.nii.gz": "digest"}}')
    source = FolderArrivals(tmp_path)
    assert not source.poll()
    assert source.left_out == {
        ".txt file": 1, ".json file": 2, "earlier result of cmrsr": 1,
        "folder of earlier results of cmrsr, or of a virtual patient's truth": 2,
    }  # fmt: skip
    (tmp_path / "a.dcm.partial").rename(tmp_path / "a.dcm")
    assert names(until(source, bool)) == ["a.dcm"]


def test_folders_that_appear_are_followed(tmp_path: Path) -> None:
    root = tmp_path / "incoming"
    root.mkdir()
    source = FolderArrivals(root)
    source.poll()
    write(tmp_path / "made" / "deep" / "a.dcm")
    (tmp_path / "made").rename(root / "series")
    assert names(until(source, bool)) == ["series/deep/a.dcm"]
    write(root / "series" / "deep" / "b.dcm")
    assert names(until(source, bool)) == ["series/deep/b.dcm"]


@pytest.mark.parametrize("looked_in_between", [True, False])
def test_a_folder_made_anew_is_followed_again(tmp_path: Path, looked_in_between: bool) -> None:
    path = write(tmp_path / "series" / "a.dcm", b"one")
    source = FolderArrivals(tmp_path)
    source.poll()
    path.unlink()
    path.parent.rmdir()
    if looked_in_between:
        assert not source.poll()
    write(path, b"other")
    assert names(until(source, bool)) == ["series/a.dcm"]


def test_a_link_to_a_folder_above_does_not_go_round(tmp_path: Path) -> None:
    write(tmp_path / "series" / "a.dcm")
    (tmp_path / "series" / "up").symlink_to(tmp_path)
    assert names(FolderArrivals(tmp_path).poll()) == ["series/a.dcm"]


def test_a_share_that_is_away_for_a_while(tmp_path: Path) -> None:
    root = write(tmp_path / "share" / "a.dcm").parent
    source = FolderArrivals(root)
    source.poll()
    root.rename(tmp_path / "away")
    assert not source.poll()
    write(tmp_path / "away" / "b.dcm")
    (tmp_path / "away").rename(root)
    assert names(until(source, bool)) == ["b.dcm"]


@pytest.mark.parametrize("stamp", [1.0, 4e9])
def test_a_change_lies_between_two_looks_whatever_the_clock_of_the_server(tmp_path: Path, stamp: float) -> None:
    source = FolderArrivals(tmp_path)
    before = time.time()
    source.poll()
    write(tmp_path / "a.dcm", at=stamp)
    (found,) = until(source, bool)
    assert before <= found.changed_at <= time.time()


def test_a_file_moved_into_place_counts_from_the_move(tmp_path: Path) -> None:
    if os.name == "nt":
        pytest.skip("Windows keeps no time of the last move")
    made = write(tmp_path / "made", at=time.time() - 3600)
    root = tmp_path / "incoming"
    root.mkdir()
    source = FolderArrivals(root)
    source.poll()
    time.sleep(0.02)  # longer than a tick of the file system's clock
    before = time.time() - 0.01
    made.rename(root / "a.dcm")
    (found,) = until(source, bool)
    assert found.changed_at >= before


def test_a_quiet_folder_is_not_read_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.dcm")
    source = FolderArrivals(tmp_path)
    monkeypatch.setattr(module, "TICK_S", 0.0)
    monkeypatch.setattr(module, "RELIST_S", 3600.0)
    source.poll()
    source.poll()
    monkeypatch.setattr(module.os, "scandir", lambda path: pytest.fail("read again"))
    for _ in range(5):
        assert not source.poll()


# --- names on standard input ------------------------------------------------------------------------------------------


@pytest.fixture
def pipe() -> tuple[int, int]:
    return os.pipe()


def test_names_are_reported_as_their_lines_come(tmp_path: Path, pipe: tuple[int, int]) -> None:
    source = ListedArrivals(pipe[0])
    a, b = write(tmp_path / "a.dcm"), write(tmp_path / ".b.partial")
    assert not source.poll()
    os.write(pipe[1], f"{a}\n\n{str(b)[:5]}".encode())
    (first,) = until(source, bool)
    assert (first.path, first.name, first.explicit) == (a, a.relative_to(a.anchor), True)
    assert not source.ended
    os.write(pipe[1], f"{str(b)[5:]}".encode())  # no line end behind the last
    os.close(pipe[1])
    (second,) = until(source, bool)
    assert second.path == b
    until(source, lambda _: source.ended)


def test_a_listed_file_is_watched_until_it_is_released(tmp_path: Path, pipe: tuple[int, int]) -> None:
    source = ListedArrivals(pipe[0])
    path = tmp_path / "a.dcm"
    os.write(pipe[1], f"{path}\r\n".encode())
    (absent,) = until(source, bool)
    assert absent.version == MISSING
    write(path)
    (there,) = until(source, bool)
    assert there.version[0] == 1
    source.release(path)
    write(path, b"longer")
    assert not any(source.poll() for _ in range(5))
    os.write(pipe[1], f"{path}\n".encode())
    assert until(source, bool)[0].version[0] == 6
    os.close(pipe[1])


def test_relative_names_keep_their_folders(
    tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "p1" / "a.dcm")
    write(tmp_path / "b.dcm")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    source = ListedArrivals(pipe[0])
    os.write(pipe[1], b"../p1/a.dcm\n")
    os.close(pipe[1])
    (found,) = until(source, bool)
    whole = (tmp_path / "p1" / "a.dcm").resolve()
    assert found.name == whole.relative_to(whole.anchor)


def test_a_listed_file_counts_from_its_line(tmp_path: Path, pipe: tuple[int, int]) -> None:
    path = write(tmp_path / "a.dcm", at=1e9)
    source = ListedArrivals(pipe[0])
    before = time.time()
    os.write(pipe[1], f"{path}\n".encode())
    os.close(pipe[1])
    (found,) = until(source, bool)
    assert before <= found.changed_at <= time.time()
