from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cmrsr.errors import UsageError
from cmrsr.phantom.truth import heart_truth
from cmrsr.tasks.mie.evaluation import virtual as mie_virtual
from cmrsr.tasks.mie.evaluation.cases import Case
from cmrsr.tasks.mie.evaluation.virtual import INFARCT_EF, VirtualPatients, draw, parse_groups, virtual_case
from cmrsr.tasks.mie.plan import MieOptions, plan_mie, slice_centres

SMALL = VirtualPatients(n=2, n_slices=1, n_frames=8)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache") / "scans"


@pytest.fixture(scope="module")
def case(cache: Path) -> Case:
    """The second patient, who has an infarct, rendered once."""
    return virtual_case(SMALL, 2, cache)


def test_the_three_scans_are_of_the_same_slices(case: Case) -> None:
    plan = plan_mie(case.t1, case.cine, "digest", MieOptions())
    assert [(p.z, p.cine_z) for p in plan.slices] == [(0, 0)]
    assert plan.slices[0].distance_mm < 0.01
    assert_allclose(
        slice_centres(case.late.series), slice_centres(case.t1), atol=2
    )  # half a pixel, each its own matrix
    assert (case.cine.n_frames, case.t1.n_frames) == (8, 8)


def test_truth_comes_with_them(case: Case) -> None:
    assert case.group == "infarct"
    assert case.late.scar is not None
    assert case.late.labels is not None
    assert case.late.clean is not None
    assert case.late.scar.any()
    assert (case.late.labels[case.late.scar] == 2).all()
    assert 0.02 < np.abs(case.late.series.frame(0) - case.late.clean).mean() / case.late.clean.mean() < 0.5
    assert case.e_cc_percent is not None
    assert -30 < case.e_cc_percent[0] < 0
    assert case.scar_whole_g == pytest.approx(heart_truth(draw(SMALL, 2))["scar"]["mass_g"])


def test_a_scan_is_rendered_once(case: Case, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> Any:
        raise AssertionError(arguments)

    monkeypatch.setattr(mie_virtual, "_rendered", refuse)
    again = virtual_case(SMALL, 2, cache)
    assert_array_equal(again.t1.array(), case.t1.array())
    assert_array_equal(again.late.scar, case.late.scar)
    assert again.name == case.name
    more = VirtualPatients(n=5, n_slices=1, n_frames=8)  # how many others there are does not matter
    virtual_case(more, 2, cache)
    for other in (VirtualPatients(n=2, n_slices=1, n_frames=9), VirtualPatients(n=2, seed=7, n_slices=1, n_frames=8)):
        with pytest.raises(AssertionError):
            virtual_case(other, 2, cache)
    assert [path.suffix for path in cache.iterdir()] == [".npz"]


def test_groups_take_turns_and_weak_hearts_alone_are_no_sign() -> None:
    who = VirtualPatients(n=40, groups=parse_groups("normal, infarct,dilated"))
    assert [who.group(n) for n in (1, 2, 3, 4)] == ["normal", "infarct", "dilated", "normal"]
    ef = np.array([heart_truth(draw(who, n))["lv"]["ef_percent"] for n in range(2, 40, 12)])
    assert ef.max() > 40
    assert (ef > 100 * INFARCT_EF[0] - 2).all()
    assert draw(who, 1).group == "normal"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"n": 0}, "--subjects 0"),
        ({"seed": 0}, "trained on patients of seed 0"),
        ({"n_slices": 4}, "--slices 4"),
        ({"n_frames": 3}, "--frames 3"),
        ({"groups": ("healthy",)}, "--groups healthy"),
        ({"groups": ()}, "--groups"),
    ],
)
def test_numbers_out_of_range(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        VirtualPatients(**{"n": 2, **wrong})
