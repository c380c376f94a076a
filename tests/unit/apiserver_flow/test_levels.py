"""Seats and queues, without any clock."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bamikube.apiserver.flow import objects
from bamikube.apiserver.flow.levels import Level, Queue, flow_hash, hand, lent_to, share_out


def level(
    nominal: int = 1, queues: int = 64, hand_size: int = 6, length: int = 50, **more: Any
) -> Level[str]:
    made: Level[str] = Level("l", nominal=nominal, hand_size=hand_size, length=length, **more)
    made.queues = [Queue() for _ in range(queues)]
    return made


def test_seats_of_the_suggested_levels() -> None:
    levels = share_out(objects.LEVELS, 600)
    assert {name: one.nominal for name, one in levels.items()} == {
        "catch-all": 13,
        "exempt": 0,
        "global-default": 49,
        "leader-election": 25,
        "node-high": 98,
        "system": 74,
        "workload-high": 98,
        "workload-low": 245,
    }
    assert levels["workload-low"].lendable == 220 and levels["exempt"].exempt
    assert not levels["catch-all"].queues and len(levels["workload-low"].queues) == 128


def test_empty_seats_are_lent_once() -> None:
    a, b, c = level(10, lendable=0), level(10, lendable=5), level(10, lendable=8)
    levels = [a, b, c]
    a.borrowing = b.borrowing = 100
    assert lent_to(a, levels) == 13
    c.in_use = 6
    assert lent_to(a, levels) == 9  # four of c's are free, five of b's
    a.in_use = 15
    assert lent_to(b, levels) == 0  # a has borrowed five of the four that c spares
    assert b.fits(1, lent_to(b, levels))  # but its own are its own


def test_a_request_wider_than_its_level_goes_alone() -> None:
    narrow = level(5)
    assert narrow.fits(100, 0)
    narrow.in_use = 1
    assert not narrow.fits(100, 0)


def test_a_small_flow_does_not_wait_behind_a_flood() -> None:
    one = level(1)
    flood, small = flow_hash("s", "flood"), flow_hash("s", "small")
    for number in range(100):
        one.enqueue(flood, 1, f"flood-{number}")
    one.enqueue(small, 1, "small")
    order = []
    while (waiting := one.next()) is not None:
        one.start(waiting)
        order.append(waiting.held)
    assert order.index("small") <= 6  # the flood has filled its hand of six queues, and each has its turn
    assert len(order) == 101 and one.waiting == 0


def test_wide_requests_take_their_share_and_no_more() -> None:
    one = level(10)
    wide, slim = flow_hash("s", "wide"), flow_hash("s", "slim")
    for number in range(30):
        one.enqueue(wide, 10, f"wide-{number}")
        one.enqueue(slim, 1, f"slim-{number}")
    order = []
    for _ in range(30):
        waiting = one.next()
        assert waiting is not None
        one.start(waiting)
        order.append(waiting.held[:4])
    assert Counter(order)["slim"] >= 20


def test_a_full_hand_refuses_and_others_do_not_notice() -> None:
    one = level(1, length=2)
    flood = flow_hash("s", "flood")
    taken = [one.enqueue(flood, 1, "f") for _ in range(20)]
    assert [entry is not None for entry in taken] == [True] * 12 + [False] * 8
    assert one.enqueue(flow_hash("s", "other"), 1, "o") is not None
    first = taken[0]
    assert first is not None
    one.give_up(first)
    assert one.enqueue(flood, 1, "f") is not None


@given(st.integers(0, 2**64 - 1), st.integers(1, 128), st.integers(1, 10))
def test_a_hand_is_different_queues(flow: int, queues: int, size: int) -> None:
    dealt = hand(flow, queues, size)
    assert len(set(dealt)) == len(dealt) == min(size, queues)
    assert all(0 <= one < queues for one in dealt)


def test_two_flows_rarely_share_their_hands() -> None:
    hands = [frozenset(hand(flow_hash("s", str(number)), 128, 6)) for number in range(300)]
    assert len(set(hands)) == 300
    assert sum(len(one & hands[0]) >= 3 for one in hands[1:]) <= 6
