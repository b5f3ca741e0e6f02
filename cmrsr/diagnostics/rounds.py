"""Times of several calls side by side: in turn, round after round, so that a drift of the machine hits all alike."""

import time
from collections.abc import Callable, Mapping

Calls = Mapping[str, Callable[[], object]]
LEAST, MOST = 3, 15  # rounds
TURN = 0.01  # s: a call that is over sooner is repeated in its turn


def rounds(calls: Calls, seconds: float, clock: Callable[[], float] = time.perf_counter) -> dict[str, list[float]]:
    """Seconds of each call in every round a b c a b c ..., as many rounds as fit in ``seconds``.

    A turn begins with a call that is not timed: it brings the caller's weights back into the caches, and the threads of
    the caller before have come to rest when it is over.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    begun = clock()
    for done in range(MOST):
        if done >= LEAST and (clock() - begun) * (done + 1) / done > seconds:
            break
        for name, call in calls.items():
            call()
            times[name].append(_timed(call, clock))
    return times


def _timed(call: Callable[[], object], clock: Callable[[], float]) -> float:
    """Mean seconds of a call over one turn."""
    start, n = clock(), 0
    while not n or clock() - start < TURN:
        call()
        n += 1
    return (clock() - start) / n
