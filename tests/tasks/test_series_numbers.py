"""DICOM results of the tasks on one series have series numbers of their own."""

from cmrsr.tasks.function.files import FunctionFiles
from cmrsr.tasks.interp4d.files import InterpFiles
from cmrsr.tasks.mie.files import MieFiles
from cmrsr.tasks.sr.files import SrFiles


def test_numbers_do_not_change_and_none_is_taken_twice() -> None:
    assert [files.number for files in (SrFiles, InterpFiles, FunctionFiles, MieFiles)] == [0, 1, 2, 3]
