"""Threads that make items ahead of their use, and that share calls."""

from __future__ import annotations

import hashlib
import itertools
import queue
import threading
from typing import TYPE_CHECKING

import pytest

from tbot_core.system.threads import iterate_ahead, map_in_threads

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

WAIT_S = 20


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Each iterator ends its thread."""
    before = set(threading.enumerate())
    yield
    assert not [one for one in threading.enumerate() if one.name == "iterate ahead" and one not in before]


def test_one_item_is_made_ahead_of_its_use() -> None:
    """The thread makes the next item while the caller has the last one, and none beyond that."""
    begun: queue.Queue[tuple[int, str]] = queue.Queue()

    def made() -> Generator[int, None, None]:
        for number in itertools.count():
            begun.put((number, threading.current_thread().name))
            yield number

    items = iterate_ahead(made())
    for number in range(3):
        assert next(items) == number
        assert begun.get(timeout=WAIT_S) == (number, "iterate ahead")
    assert begun.get(timeout=WAIT_S)[0] == 3
    items.close()
    assert begun.empty()


def test_items_end_as_they_do_without_a_thread() -> None:
    """All of them in their order; none of none."""
    assert list(iterate_ahead(number for number in range(5))) == [0, 1, 2, 3, 4]
    assert list(iterate_ahead(number for number in range(0))) == []


def test_an_error_is_raised_in_its_place() -> None:
    """The items before it are served first, whatever the caller's pace; it is the error of the thread itself."""
    fault = ValueError("third")

    def items() -> Generator[int, None, None]:
        yield from (1, 2)
        raise fault

    ahead = iterate_ahead(items())
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(ValueError, match="third") as caught:
        next(ahead)
    assert caught.value is fault


def test_an_iterator_that_is_closed_closes_its_items() -> None:
    """What the items hold is released, in their thread, before closing returns."""
    released = list[str]()

    def items() -> Generator[int, None, None]:
        try:
            yield from itertools.count()
        finally:
            released.append(threading.current_thread().name)

    ahead = iterate_ahead(items())
    next(ahead)
    ahead.close()
    assert released == ["iterate ahead"]


def test_calls_that_are_not_awaited_any_more_are_left_out() -> None:
    """An iterator that is closed while its thread shares out calls waits for those that run, not for the others."""
    calls: queue.Queue[int] = queue.Queue()
    data = bytes(1 << 20)

    def call(number: int) -> None:
        hashlib.sha256(data).digest()
        calls.put(number)

    def items() -> Generator[int, None, None]:
        yield 0
        map_in_threads(call, range(100_000), threads=2)
        yield 1

    ahead = iterate_ahead(items())
    next(ahead)
    calls.get(timeout=WAIT_S)
    ahead.close()
    assert calls.qsize() < 10_000


@pytest.mark.parametrize("threads", [1, 3])
def test_calls_run_at_the_same_time(threads: int) -> None:
    """So many threads, of which the caller's is one, have a call each before any of them ends."""
    together, seen = threading.Barrier(threads), list[tuple[int, int]]()

    def call(number: int) -> None:
        together.wait(WAIT_S)
        seen.append((number, threading.get_ident()))

    map_in_threads(call, range(threads), threads=threads)
    assert sorted(number for number, _ in seen) == list(range(threads))
    assert len({thread for _, thread in seen}) == threads
    assert threading.get_ident() in {thread for _, thread in seen}


def test_each_item_is_called_once() -> None:
    """By as many threads as the machine has processors; none for no items."""
    seen = list[int]()
    map_in_threads(seen.append, range(500))
    assert sorted(seen) == list(range(500))
    map_in_threads(seen.append, [])
    assert len(seen) == 500


def test_the_first_error_in_the_order_of_the_items_is_raised() -> None:
    """Whichever thread fails first; then no other item is begun."""
    later_failed, together, seen = threading.Event(), threading.Barrier(2), list[int]()

    def call(number: int) -> None:
        seen.append(number)
        together.wait(WAIT_S)
        if number == 0:
            assert later_failed.wait(WAIT_S)
        else:
            later_failed.set()
        raise ValueError(f"item {number}")

    with pytest.raises(ValueError, match="item 0"):
        map_in_threads(call, range(9), threads=2)
    assert sorted(seen) == [0, 1]


def test_an_interrupt_ends_the_calls_of_all_threads() -> None:
    """Ctrl-C arrives in the caller's thread, and is raised there; the others begin no other call."""
    caller, interrupted, seen = threading.get_ident(), threading.Event(), list[int]()

    def call(number: int) -> None:
        seen.append(number)
        if threading.get_ident() == caller:
            interrupted.set()
            raise KeyboardInterrupt
        assert interrupted.wait(WAIT_S)
        hashlib.sha256(bytes(1 << 20)).digest()

    with pytest.raises(KeyboardInterrupt):
        map_in_threads(call, range(100_000), threads=2)
    assert len(seen) < 10_000
