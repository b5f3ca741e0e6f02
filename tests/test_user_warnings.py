"""What the user is warned of: collected where a case is at work, else a Python warning."""

import threading
import warnings

import pytest

from cmrsr.errors import CmrsrWarning
from cmrsr.user_warnings import user_warnings, warn_user


def test_collected_in_order() -> None:
    with user_warnings() as texts:
        warn_user("first")
        warn_user("second")
        warn_user("first")
    assert texts == ["first", "second", "first"]


def test_a_python_warning_where_nobody_collects() -> None:
    with user_warnings():
        pass
    with pytest.warns(CmrsrWarning, match="^the CPU is used$") as caught:
        warn_user("the CPU is used")
    assert caught[0].filename == __file__


def test_the_innermost_collects() -> None:
    with user_warnings() as outer:
        with user_warnings() as inner:
            warn_user("inside")
        warn_user("outside")
    assert (outer, inner) == (["outside"], ["inside"])


def test_an_error_ends_the_collection() -> None:
    with user_warnings() as outer:
        with pytest.raises(ZeroDivisionError), user_warnings():
            raise ZeroDivisionError
        warn_user("after it")
    assert outer == ["after it"]


@pytest.mark.filterwarnings("always")
def test_another_thread_is_not_heard() -> None:
    with user_warnings() as texts, warnings.catch_warnings(record=True) as caught:
        other = threading.Thread(target=warn_user, args=("from a thread",))
        other.start()
        other.join()
    assert texts == []
    assert [str(one.message) for one in caught] == ["from a thread"]


@pytest.mark.filterwarnings("always")
def test_python_warnings_are_not_collected() -> None:
    with user_warnings() as texts, pytest.warns(RuntimeWarning):
        warnings.warn("divide by zero", RuntimeWarning, stacklevel=1)
    assert texts == []
