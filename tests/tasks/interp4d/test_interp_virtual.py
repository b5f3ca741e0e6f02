"""Virtual patients for temporal super-resolution: the phases that were scanned, faster hearts, seeds of their own."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from cmrsr.errors import UsageError
from cmrsr.tasks.interp4d.evaluation import virtual as interp_virtual
from cmrsr.tasks.interp4d.evaluation.virtual import check_virtual, virtual_case
from tests.phantom.virtual_scans import virtual_scan

SCAN = replace(virtual_scan("cine_sax"), truth={"activation": np.array([0, 0.1, 0.4, 0.9, 1, 0.8, 0.5, 0.2, 0.1])})
SCAN = replace(SCAN, times_ms=np.arange(9) * 88.0)


@pytest.fixture(autouse=True)
def _scanned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interp_virtual, "scan_patient", lambda patient, protocol: iter([SCAN]))


@pytest.mark.parametrize(("speed", "es"), [(1, 4), (2, 2), (3, 1)])
def test_a_faster_heart_moves_more_from_frame_to_frame(speed: int, es: int) -> None:
    case = virtual_case(3, 2, speed)
    assert (case.name, case.patient, case.series.source.name) == ("subject002",) * 3
    assert_array_equal(case.series.array(), SCAN.frames[::speed])
    assert case.clean is not None
    assert_array_equal(case.clean.array(), SCAN.clean[::speed])
    assert case.phases == (0, es)
    assert case.series.times_ms is not None
    assert_array_equal(np.diff(case.series.times_ms), 88.0)  # the scanner is as quick as before


@pytest.mark.parametrize(
    ("numbers", "flag"), [((0, 1, 1), "--seed"), ((1, 0, 1), "--subjects"), ((1, 1, 5), "--speed")]
)
def test_patients_that_the_engines_know_are_refused(numbers: tuple[int, int, int], flag: str) -> None:
    with pytest.raises(UsageError, match=flag):
        check_virtual(*numbers)
