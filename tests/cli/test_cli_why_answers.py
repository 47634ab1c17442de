"""What `tbot why` says of sessions that a run does not have, and of symbols that a plugin denied."""

from __future__ import annotations

import datetime as dt

import pytest

from tbot_core.cli.commands.decisions import why_lines
from tbot_core.status.runs import recorded_sessions_text
from tbot_core.status.why_text import why_sections

DAYS = [f"2018-02-{day:02}" for day in (16, 20, 21, 22, 23, 26, 27)]


@pytest.mark.parametrize(
    ("days", "date", "near"),
    [
        (DAYS, "2018-02-24", "2018-02-22, 2018-02-23, 2018-02-26, 2018-02-27"),
        (DAYS, "2018-02-01", "2018-02-16, 2018-02-20"),
    ],
)
def test_a_session_that_is_not_there_is_answered_with_those_next_to_it(days: list[str], date: str, near: str) -> None:
    """How many there are, from when to when, and the nearest on either side; of a few all."""
    assert (
        recorded_sessions_text(days, dt.date.fromisoformat(date))
        == f"It has 7 sessions, 2018-02-16 to 2018-02-27; next to that day are {near}."
    )
    few = recorded_sessions_text(days[:2], dt.date(2018, 2, 19))
    assert few == "It has 2018-02-16, 2018-02-20."


def document(**parts: object) -> dict[str, object]:
    """The answer for a symbol that a filter denied before the bell."""
    passed = {"low": None, "reason": "ALLOWED", "plugin": "", "words": "", "applies": True}
    denied = {"reason": "SCREEN_DENIED", "plugin": "finnhub", "words": "P/E is above MAX_PE_RATIO=25, or unknown."}
    moment = "2026-03-03T14:30:00+00:00"
    return {
        "symbol": "DUNLA",
        "session": "2026-03-03",
        **dict.fromkeys(("mode", "run", "source"), "paper"),
        "simulated": False,
        "sessions_with_decisions": [],
        "note": "",
        "subscribed": True,
        "asked": None,
        "in_session": False,
        **dict.fromkeys(("minutes", "decisions", "top_ups", "orders", "trades"), ()),
        "position": None,
        "frozen": "",
        "stuck": "",
        "screening": [
            {
                "strategy": "open",
                "reason": "SCREEN_DENIED",
                "entries": [moment, moment],
                "nearest": None,
                "findings": [
                    {**passed, "check": "P/E", "value": 41.5, "high": 25.0, **denied},
                    {**passed, "check": "debt to equity", "value": None, "high": 2.5, "applies": False},
                ],
            }
        ],
        **parts,
    }


def test_a_denial_by_a_plugin_has_its_numbers_name_and_words() -> None:
    """Where the code leaves the reason to the plugin; what does not apply to funds has no number."""
    shown = document()
    found = [" ".join(line.split()) for line in why_lines(why_sections(shown))]
    at = found.index("P/E 41.5 at most 25 not met: SCREEN_DENIED")
    assert found[at + 1 : at + 3] == [
        "finnhub: P/E is above MAX_PE_RATIO=25, or unknown.",
        "debt to equity does not apply to funds",
    ]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({}, "No strategy gave a signal on it. --at HH:MM (New York) explains any minute."),
        ({"subscribed": False}, "No strategy gave a signal on it."),
        ({"screening": ()}, "No strategy gave a signal on it."),
    ],
)
def test_only_a_symbol_with_bars_is_explained_in_any_minute(parts: dict[str, object], said: str) -> None:
    """One that the universe left out has none, and without the recording there are none either."""
    found = list(why_lines(why_sections(document(**parts))))
    assert said in found
