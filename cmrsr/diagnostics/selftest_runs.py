"""Every task once on a small virtual patient, made on the spot, whose truth is known: does the result make sense?"""

import warnings

from cmrsr.errors import CmrsrWarning
from cmrsr.metrics.outcome import Outcome
from cmrsr.phantom.one_patient import VirtualScans
from cmrsr.runtime.choice import DeviceChoice
from cmrsr.tasks.rooms import selftest_of


def run_task(task: str, engine: str, patient: VirtualScans, choice: DeviceChoice) -> Outcome:
    """One run through the public call of the task; what it remarks on the small patient is no news."""
    _, run = selftest_of(task)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CmrsrWarning)
        return run(engine, patient, choice)
