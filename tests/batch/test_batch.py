"""A batch with a stand-in for the work: what fails alone, what is recorded, what is skipped, how shards share."""

import json
import warnings
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmrsr.batch.run import (
    CaseResult,
    Listener,
    already_done,
    case_key,
    exit_code,
    mine,
    output_folder,
    parse_shard,
    remove_stale,
    run_batch,
    shard_file,
)
from cmrsr.errors import DeviceError, OutputError, UnreadableError, UnusableError, UsageError
from cmrsr.io.discover import Candidate, Refused
from cmrsr.io.outputs import sha256_file
from cmrsr.io.series import Series
from cmrsr.user_warnings import warn_user


class Watch:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.ended: list[CaseResult] = []

    def case_started(self, name: str, n_evaluations: int) -> None: ...
    def evaluated(self, n: int) -> None: ...

    def case_ended(self, result: CaseResult) -> None:
        self.ended.append(result)


def candidate(name: str) -> Candidate:
    series = Series.from_array(np.zeros((1, 1, 8, 8)))
    return Candidate(name=name, format="nifti", paths=(Path(f"{name}.nii.gz"),), open=lambda: series)


def work(one: Candidate, series: Series, listener: Listener) -> CaseResult:
    """Fails as the name says."""
    errors = {"nan": UnusableError("frame 3 is NaN"), "huge": MemoryError(), "bug": ZeroDivisionError("by\nzero")}
    if one.name in errors:
        raise errors[one.name]
    if one.name == "stop":
        raise KeyboardInterrupt
    if one.name == "odd":
        warn_user("something odd")
    if one.name == "numpy":
        warnings.warn("invalid value encountered in divide", RuntimeWarning, stacklevel=1)
        warnings.warn("write_like_original is deprecated", DeprecationWarning, stacklevel=1)
    return CaseResult(name=one.name, status="ok", outputs=(Path(f"{one.name}_sr"),), details=object())


def batch(out: Path, *names: str, refused: tuple[Refused, ...] = (), **options: Any) -> tuple[list[CaseResult], Watch]:
    watch = Watch()
    results = run_batch([candidate(n) for n in names], refused, work, out, watch, {"task": "sr"}, **options)
    return results, watch


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def test_one_failure_does_not_stop_the_others(tmp_path: Path) -> None:
    results, watch = batch(tmp_path, "a", "nan", "huge", "bug", "odd")
    assert [r.status for r in results] == ["ok", "failed", "failed", "failed", "ok"]
    assert [r.exit_code for r in results] == [0, 4, 6, 1, 0]
    assert exit_code(results) == 8
    assert results[1].message == "nan: frame 3 is NaN"
    assert "out of memory" in results[2].message
    assert results[3].message == "bug: unexpected ZeroDivisionError: by zero; run again with --debug, report it"
    assert results[4].warnings == ("something odd",)
    assert [r.name for r in watch.ended] == ["a", "nan", "huge", "bug", "odd"]


def test_the_record_says_what_became_of_every_case(tmp_path: Path) -> None:
    refused = Refused(name="broken.dcm", paths=(Path("broken.dcm"),), error=UnreadableError("broken.dcm: cut off"))
    batch(tmp_path, "a", "nan", refused=(refused,))
    record = read(tmp_path / "run.json")
    assert (record["task"], record["state"], record["exit_code"]) == ("sr", "complete", 8)
    assert [(c["case"], c["status"], c["exit_code"]) for c in record["cases"]] == [
        ("broken.dcm", "failed", 3), ("a", "ok", 0), ("nan", "failed", 4),
    ]  # fmt: skip
    audit = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [line["case"] for line in audit] == ["a", "nan"]
    assert all("time" in line for line in audit)


@pytest.mark.filterwarnings("always")
def test_what_a_library_warns_of_is_no_warning_of_the_case(tmp_path: Path) -> None:
    with pytest.warns() as caught:
        results, watch = batch(tmp_path, "numpy", "odd")
    assert [type(one.message) for one in caught] == [RuntimeWarning, DeprecationWarning]
    assert [r.warnings for r in results] == [r.warnings for r in watch.ended] == [(), ("something odd",)]
    assert [c["warnings"] for c in read(tmp_path / "run.json")["cases"]] == [[], ["something odd"]]


def test_details_reach_the_listener_but_are_not_kept(tmp_path: Path) -> None:
    results, watch = batch(tmp_path, "a", "b")
    assert all(r.details is not None for r in watch.ended)
    assert all(r.details is None for r in results)


def test_the_record_is_there_while_the_batch_runs(tmp_path: Path) -> None:
    states = []

    def look(one: Candidate, series: Series, listener: Listener) -> CaseResult:
        if one.name != "a":
            record = read(tmp_path / "run.json")
            states.append((record["state"], record["exit_code"], len(record["cases"])))
        return CaseResult(name=one.name, status="ok")

    run_batch([candidate(n) for n in "abc"], [], look, tmp_path, Watch(), {})
    assert states == [("running", None, 1), ("running", None, 2)]


def test_an_interrupt_keeps_the_record(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        batch(tmp_path, "a", "stop", "b")
    record = read(tmp_path / "run.json")
    assert (record["state"], record["exit_code"]) == ("interrupted", 130)
    assert [c["case"] for c in record["cases"]] == ["a"]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("nan", UnusableError, "nan: frame 3 is NaN"),
        ("huge", DeviceError, "huge: out of memory"),
        ("bug", ZeroDivisionError, "by"),
        ("stop", KeyboardInterrupt, None),
    ],
)
def test_a_single_series_raises_and_writes_nothing(
    tmp_path: Path, name: str, error: type[BaseException], message: str | None
) -> None:
    with pytest.raises(error, match=message):
        batch(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("codes", "wanted"), [([0, 0], 0), ([0, 4], 8), ([4, 4], 4), ([6, 3, 4], 3), ([], 0)]
)  # fmt: skip
def test_exit_codes_of_a_batch(codes: list[int], wanted: int) -> None:
    results = [CaseResult(name=str(i), status="failed" if c else "ok", exit_code=c) for i, c in enumerate(codes)]
    assert exit_code(results) == wanted


def test_a_skipped_case_counts_as_done() -> None:
    skipped = CaseResult(name="a", status="skipped")
    assert exit_code([skipped]) == 0
    assert exit_code([skipped, CaseResult(name="b", status="failed", exit_code=4)]) == 8


# ---- shards ----------------------------------------------------------------------------------------------------------


@given(st.sets(st.text(min_size=1, max_size=30), max_size=40), st.integers(1, 7))
def test_shards_are_a_partition(names: set[str], n: int) -> None:
    owners = Counter(name for name in names for i in range(1, n + 1) if mine(name, (i, n)))
    assert owners == dict.fromkeys(names, 1)


def test_shards_do_not_depend_on_the_machine() -> None:
    assert [mine(f"p{i}", (1, 3)) for i in range(6)] == [False, True, False, False, False, False]
    assert all(mine(f"p{i}", None) for i in range(6))


def test_a_shard_keeps_to_its_part(tmp_path: Path) -> None:
    names = [f"p{i}" for i in range(10)]
    parts = [[r.name for r in batch(tmp_path, *names, shard=(i, 3))[0]] for i in (1, 2, 3)]
    assert sorted(chain.from_iterable(parts)) == names
    assert all(part == sorted(part) for part in parts)
    assert sorted(p.name for p in tmp_path.glob("run*")) == [f"run-{i}-of-3.json" for i in (1, 2, 3)]
    assert len((tmp_path / "audit.jsonl").read_text().splitlines()) == 10


def test_a_failing_shard_of_one_series_is_still_a_batch(tmp_path: Path) -> None:
    """The only series of this shard, but not of the batch: its failure is recorded."""
    names = ["nan", *(n for n in map(str, range(50)) if mine(n, (1, 2)) != mine("nan", (1, 2)))]
    results, _ = batch(tmp_path, *names, shard=(1 if mine("nan", (1, 2)) else 2, 2))
    assert [(r.name, r.exit_code) for r in results] == [("nan", 4)]


def test_shard_files_have_names_of_their_own() -> None:
    assert shard_file("report.html", None) == "report.html"
    assert shard_file("report.html", (2, 4)) == "report-2-of-4.html"


SLURM = {"SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "10"}


@pytest.mark.parametrize(
    ("text", "environment", "wanted"),
    [
        (None, {}, None),
        ("2/3", SLURM | {"SLURM_ARRAY_TASK_ID": "10"}, (2, 3)),
        (None, SLURM | {"SLURM_ARRAY_TASK_ID": "10"}, (1, 4)),
        (None, SLURM | {"SLURM_ARRAY_TASK_ID": "13"}, (4, 4)),
        (None, SLURM | {"SLURM_ARRAY_TASK_ID": "14", "SLURM_ARRAY_TASK_STEP": "2"}, (3, 4)),
        (None, {"JOB_COMPLETION_INDEX": "0", "JOB_COMPLETIONS": "5"}, (1, 5)),
        (None, {"JOB_COMPLETION_INDEX": "0"}, None),
    ],
)
def test_shards_of_array_jobs(
    text: str | None, environment: dict[str, str], wanted: tuple[int, int] | None
) -> None:  # fmt: skip
    assert parse_shard(text, environment) == wanted


@pytest.mark.parametrize("text", ["3/2", "0/2", "1", "a/b", "1/0", "-1/2", "1/2/3", "", "²/3"])
def test_impossible_shards_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--shard .*expected I/N"):
        parse_shard(text, {})


@pytest.mark.parametrize(
    "environment",
    [
        SLURM | {"SLURM_ARRAY_TASK_ID": "17"},  # --array=10,12,15,17
        SLURM | {"SLURM_ARRAY_TASK_ID": "13", "SLURM_ARRAY_TASK_STEP": "2"},
        SLURM | {"SLURM_ARRAY_TASK_ID": "x"},
        {"JOB_COMPLETION_INDEX": "5", "JOB_COMPLETIONS": "5"},
    ],
)
def test_array_jobs_that_would_lose_cases_are_refused(environment: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="give --shard I/N"):
        parse_shard(None, environment)


# ---- what is done already --------------------------------------------------------------------------------------------


def test_the_key_follows_everything_it_is_made_of() -> None:
    base = ("input", "engine", "1.0", {"steps": 1, "seed": 0})
    same = case_key("input", "engine", "1.0", {"seed": 0, "steps": 1})
    assert case_key(*base) == same
    others = [
        case_key("other", *base[1:]), case_key("input", "other", *base[2:]),
        case_key("input", "engine", "2.0", base[3]), case_key(*base[:3], {"steps": 2, "seed": 0}),
    ]  # fmt: skip
    assert len({same, *others}) == 5


def sidecar_of(folder: Path, *names: str) -> Path:
    outputs = {}
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        outputs[name] = sha256_file(path)
    sidecar = folder / "a_sr.json"
    sidecar.write_text(json.dumps({"key": "k", "outputs": outputs}))
    return sidecar


def test_done_means_the_same_key_and_untouched_outputs(tmp_path: Path) -> None:
    sidecar = sidecar_of(tmp_path, "a_sr.nii.gz", "a_sr_std.nii.gz")
    outputs = [tmp_path / "a_sr.nii.gz", tmp_path / "a_sr_std.nii.gz"]
    assert already_done(sidecar, "k") == outputs
    assert already_done(sidecar, "other") is None
    outputs[1].write_text("changed")
    assert already_done(sidecar, "k") is None
    outputs[1].unlink()
    assert already_done(sidecar, "k") is None


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"key": "k"}', '{"key": "k", "outputs": {}}', '{"outputs": 1}'])
def test_a_sidecar_that_is_none_counts_as_not_done(tmp_path: Path, text: str) -> None:
    (tmp_path / "a_sr.json").write_text(text)
    assert already_done(tmp_path / "a_sr.json", "k") is None
    assert already_done(tmp_path / "absent.json", "k") is None


def test_what_the_new_run_did_not_write_goes_unless_it_was_changed(tmp_path: Path) -> None:
    sidecar = sidecar_of(tmp_path, "a_sr.nii.gz", "a_sr_std.nii.gz", "a_sr/IM_1.dcm", "a_sr/IM_2.dcm", "mine.txt")
    (tmp_path / "mine.txt").write_text("notes")
    remove_stale(sidecar, [tmp_path / "a_sr.nii.gz"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a_sr.json", "a_sr.nii.gz", "mine.txt"]


# ---- the output folder -----------------------------------------------------------------------------------------------


def fail_in(source: Path, out: Path | None, *made: str) -> None:
    """Make files and folders in the output folder, then fail."""

    def work() -> None:
        with output_folder([source], out) as folder:
            assert folder == (out or source.parent / "in_cmrsr")
            assert folder.is_dir()
            for name in made:
                (folder / name).mkdir() if name.endswith("/") else (folder / name).touch()
            raise UnusableError("no")

    with pytest.raises(UnusableError):
        work()


def test_an_error_leaves_no_folder_behind(tmp_path: Path) -> None:
    source = tmp_path / "in.nii.gz"
    source.touch()
    fail_in(source, tmp_path / "a" / "b" / "c", "sub/")
    fail_in(source, None)
    assert [p.name for p in tmp_path.iterdir()] == ["in.nii.gz"]


def test_an_error_leaves_what_was_there_before(tmp_path: Path) -> None:
    source, old = tmp_path / "in.nii.gz", tmp_path / "old"
    source.touch()
    old.mkdir()
    fail_in(source, old)
    assert old.is_dir()
    fail_in(source, tmp_path / "new", "done.nii.gz", "sub/")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["done.nii.gz"]


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "in.nii.gz"
    source.touch()
    with pytest.raises(OutputError, match="cannot be written"), output_folder([source], source / "out"):
        pytest.fail("not reached")
    with pytest.raises(OutputError, match="is inside the input"), output_folder([tmp_path], tmp_path / "out"):
        pytest.fail("not reached")
    assert [p.name for p in tmp_path.iterdir()] == ["in.nii.gz"]
