"""How many messages go out, when routine ones wait, and that a message is one line whatever it quotes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.alerts.delivery import MessageWriter
from tbot_core.alerts.rate_limit import LIMITS, MessageLimit, SentMessage, due_messages, in_quiet_hours, limit_ends
from tbot_core.alerts.store import StoredAlert
from tbot_core.contracts import Urgency

NOW = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def row(number: int, what: str) -> StoredAlert:
    """A critical alert that waits."""
    return StoredAlert(id=number, key=f"k{number}", urgency=Urgency.CRITICAL, what=what, command="tbot status",
               opened=NOW, stands=True, times=1, cleared=None, sent=None, via=None, message=None, told=None, acked=None,
               actor=None)  # fmt: skip


@pytest.mark.parametrize(
    ("waiting", "sent", "sizes"),
    [
        (0, [], []),
        (3, [], [1, 1, 1]),
        (5, [], [1] * 5),
        (9, [], [1] * 5 + [4]),
        (2, [1, 1, 1, 1], [1, 1]),
        (1, [1] * 5, [1]),
        (1, [1] * 6, []),
        (4, [1, 3], []),
        (9, [1] * 4, [1, 8]),
    ],
)
def test_single_messages_then_one_of_the_rest_then_none(waiting: int, sent: list[int], sizes: list[int]) -> None:
    """Up to the limit each alert is a message, the next one holds the rest, and then the span has to pass."""
    gone = [SentMessage(NOW - timedelta(minutes=1), size) for size in sent]
    assert [len(rows) for rows in due_messages(range(waiting), gone, MessageLimit(5, HOUR), NOW)] == sizes


@given(st.lists(st.integers(0, 4), max_size=200), st.sampled_from(list(Urgency)))
def test_no_storm_goes_over_the_limit_and_nothing_is_left_out(storm: list[int], urgency: Urgency) -> None:
    """However alerts come, no span sees more than the limit and one message more; all are reported in order, once."""
    limit, waiting, sent, delivered, now, number = (
        LIMITS[urgency],
        list[int](),
        list[SentMessage](),
        list[int](),
        NOW,
        0,
    )
    for fresh in (*storm, *[0] * 200):
        waiting += range(number, number + fresh)
        number += fresh
        for rows in due_messages(waiting, sent, limit, now):
            sent.append(SentMessage(now, len(rows)))
            delivered += rows
        waiting = [one for one in waiting if one not in delivered]
        assert sum(now - one.time < limit.span for one in sent) <= limit.messages + 1
        now += timedelta(minutes=1)
    assert delivered == list(range(number))


@pytest.mark.parametrize(
    ("hours", "hour", "silent"),
    [("", 3, False), ("22:00-07:00", 23, True), ("22:00-07:00", 6, True), ("22:00-07:00", 7, False),
     ("09:00-11:00", 10, True), ("09:00-11:00", 12, False)],
)  # fmt: skip
def test_quiet_hours_are_new_york_time_and_may_go_past_midnight(hours: str, hour: int, silent: bool) -> None:
    """The first minute is quiet, the last is not; an empty span never is."""
    assert in_quiet_hours(hours, datetime(2026, 11, 24, hour, 0, tzinfo=UTC) + timedelta(hours=5)) is silent


def test_whatever_a_broker_says_stays_in_its_line() -> None:
    """Breaks and control characters become blanks: they cannot begin a header, a row or another message."""
    alert = MessageWriter(mode="live", identity="US_NY_IB_001").compose(
        [row(1, "Rejected: x\r\nBcc: you@example.com\x1b[2J\u2028y")]
    )
    assert alert.title == "[LIVE US_NY_IB_001] Rejected: x Bcc: you@example.com [2J y"
    assert len(alert.text.splitlines()) == 3


def test_a_merged_message_names_ten_and_counts_the_rest() -> None:
    """A storm of any size is a message that can be read."""
    alert = MessageWriter(mode="paper", identity="").compose([row(number, f"what {number}") for number in range(1, 40)])
    assert alert.title == "[PAPER] 39 critical alerts, the first: what 1"
    lines = alert.text.splitlines()
    assert (lines[2], lines[11], lines[12]) == ("- what 1", "- what 10", "- and 29 more")
    assert (lines[-1], alert.key) == ("Next: tbot alerts log", "tbot-1-20261124T150000")


def test_a_merged_message_counts_what_only_the_log_has() -> None:
    """Also where all of its own are listed."""
    rows = [row(number, f"what {number}") for number in range(1, 3)]
    alert = MessageWriter(mode="paper", identity="").compose(rows, kept=9_000)
    assert alert.title == "[PAPER] 9,002 critical alerts, the first: what 1"
    assert alert.text.splitlines()[2:] == ["- what 1", "- what 2", "- and 9,000 more", "Next: tbot alerts log"]


@pytest.mark.parametrize(
    ("sent", "end"),
    [
        ([], None),
        ([(50, 1), (40, 1), (30, 1), (20, 1), (10, 1)], None),
        ([(50, 1), (40, 1), (30, 1), (20, 1), (10, 1), (5, 1)], 10),
        ([(50, 1), (40, 3)], 20),
        ([(70, 9), (50, 1)], None),
    ],
)
def test_the_end_of_a_limit_is_when_the_next_message_may_go(sent: list[tuple[int, int]], end: int | None) -> None:
    """Each message counts for the span; until then nothing is due, and from then on something is."""
    limit = LIMITS[Urgency.CRITICAL]
    messages = [SentMessage(NOW - timedelta(minutes=ago), alerts) for ago, alerts in sent]
    found = limit_ends(messages, limit, NOW)
    assert found == (None if end is None else NOW + timedelta(minutes=end))
    assert bool(due_messages(["one"], messages, limit, NOW)) is (found is None)
    assert due_messages(["one"], messages, limit, found or NOW)
