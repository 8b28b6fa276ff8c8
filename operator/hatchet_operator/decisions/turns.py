"""Whose turn it is among priorities: the highest that waits, unless others were passed over too often.

A priority that waits gets at least one of every `BOUND` slots that a worker fills while it could take something
of it. It ages by slots and not by time: yesterday's backlog does not delay what is urgent today, however long it
is, and the bound applies however slow the steps are.
"""

from collections.abc import Collection, Mapping

BOUND = 10
_LOWER = 2  # priorities below the highest
_MOST_PASSED_OVER = BOUND - _LOWER  # all lower ones may reach it at once, and are then served one after the other


def whose_turn(waiting: Collection[int], passed_over: Mapping[int, int]) -> int:
    """Return the priority that gets a slot.

    Args:
        waiting: The priorities that have something waiting for the slot; at least one.
        passed_over: How often each of them waited since its last turn, while another one got a slot.
    """
    aged = [priority for priority in waiting if passed_over.get(priority, 0) >= _MOST_PASSED_OVER]
    return max(aged, key=lambda priority: (passed_over[priority], priority)) if aged else max(waiting)


def after_turn(waiting: Collection[int], passed_over: Mapping[int, int], *, turn: int) -> dict[int, int]:
    """Return how often each priority was passed over, now that one of those that waited got a slot."""
    counted = {priority: passed_over.get(priority, 0) + 1 for priority in waiting}
    return {**passed_over, **counted, turn: 0}
