"""A series that is no cine is interpolated with a word of warning."""

from pathlib import Path

import pytest

from cmrsr.io.series import Kind, Series
from cmrsr.io.survey import survey
from cmrsr.runtime.bundle import load
from cmrsr.tasks.interp4d.plan import InterpOptions, plan_interp
from tests.cine import beating_frames, interp_engine
from tests.conftest import oblique_affine

__all__ = ["interp_engine"]


@pytest.mark.parametrize("kind", ["cine", "unknown", "perfusion", "t1"])
def test_the_engine_was_made_for_cine(interp_engine: Path, kind: Kind) -> None:
    series = Series.from_array(beating_frames(), affine=oblique_affine(), kind=kind)
    notes = plan_interp(series, survey(series), load(str(interp_engine), "interp4d"), InterpOptions(factor=2)).notes
    said = f"this looks like a {kind} series; the engine tiny was made for cine"
    assert notes == (() if kind in ("cine", "unknown") else (said,))
