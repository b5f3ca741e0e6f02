"""A signal after an engine has been used ends a job as it should, whatever OpenVINO did to the signal stack."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cmrsr.runtime.bundle import load
from cmrsr.runtime.choice import DeviceChoice
from cmrsr.runtime.signal_stack import signal_stack
from cmrsr.tasks.sr.engine import load_step
from tests.engines import write_engine

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signal stacks are set for Linux")
SCRIPT = """
import os, signal, sys, threading
from cmrsr.runtime.bundle import load
from cmrsr.runtime.choice import DeviceChoice
from cmrsr.tasks.sr.engine import load_step
engine = load_step(load(sys.argv[1], "sr"), (2, 16, 16), DeviceChoice(backend="openvino"))
closing = threading.Thread(target=engine.close)
closing.start()
closing.join()
del engine
held = []
signal.signal(signal.SIGTERM, lambda number, _: held.append(number))
os.kill(os.getpid(), signal.SIGTERM)
assert held == [signal.SIGTERM]
"""


def test_compiling_leaves_the_signal_stack_as_it_was(tmp_path: Path) -> None:
    before = signal_stack()
    engine = load_step(load(str(write_engine(tmp_path)), "sr"), (2, 16, 16), DeviceChoice(backend="openvino"))
    assert signal_stack() == before
    engine.close()
    assert signal_stack() == before


def test_a_signal_after_an_engine_is_gone_reaches_its_handler(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(write_engine(tmp_path))], env=os.environ, check=False)
    assert done.returncode == 0, signal.Signals(-done.returncode)
