"""How the dashboard shows a bot that is dead, prepares, is halted, or trades."""

from __future__ import annotations

import asyncio
import re
import shutil
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from tbot_extension_web.app import create_app
from tbot_extension_web.testing.client import ask

from tbot_core.instance import Instance
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tbot_extension_web.site import Site

VIEWER = {"cookie": "tbot-session=viewer"}
POSITION = {
    "strategy": "open",
    "broker": "alpaca",
    "id": "forja-1",
    "symbol": "FORJA",
    "side": "long",
    "quantity": "13",
    "entry_price": "58.32",
    "last": "57.84",
    "stop": "57.1536",
    "covered": "13",
    "protection": "resting",
    "pnl": "-6.24",
}
TRADES: dict[str, Any] = {
    "mode": "paper",
    "of_account": True,
    "simulated": False,
    "in_session": True,
    "running": True,
    "ended": None,
    "ran_until": "2026-03-02T15:01:07+00:00",
    "preparing": None,
    "session": "2026-03-02",
    "now": "2026-03-02T14:55:34+00:00",
    "marks_at": "2026-03-02T14:55:05+00:00",
    "last_event": "2026-03-02T14:54:59+00:00",
    "phase": "open: entries",
    "next_event": {"event": "open: positions are managed", "time": "2026-03-02T15:00:00+00:00"},
    "positions": [POSITION],
    "trades": {"open": 2, "mid": 0},
    "most_trades": 4,
    "accounts": [{"broker": "alpaca", "latency_s": 0.027}],
    "attention": [],
}
DEAD = {
    "running": False,
    "ended": {"how": "interrupted", "open": []},
    "attention": ["Positions are open and not managed by any bot: FORJA."],
}


@pytest.fixture
def parts(traded: Path, site_of: Callable[[Path], Site]) -> Callable[..., dict[str, str]]:
    """Makes the parts of the dashboard of a bot that trades, with these changes of its status."""

    def made(**changes: object) -> dict[str, str]:
        site = site_of(traded)
        found = asyncio.run(site.live.snapshot())
        return site._parts(attrs.evolve(found, status={**found.status, **TRADES, **changes}))

    return made


def words(html: str) -> str:
    """The text of a part."""
    return " ".join(re.sub("<[^>]*>", " ", html).split()).replace(" .", ".")


def test_a_bot_that_trades_has_the_time_of_now_and_what_comes_next(parts: Callable[..., dict[str, str]]) -> None:
    """Without the date of today, which it says of another day."""
    found = parts()
    assert "Running: open: entries As of 09:55:34 Next: open: positions are managed at 10:00" in words(found["state"])
    assert "answers in 27 ms" in found["health"]
    assert "marks of" not in found["figures"] + found["state"]
    tomorrow = parts(next_event={"event": "opening bell", "time": "2026-03-03T14:30:00+00:00"})
    assert "Next: opening bell at 2026-03-03 09:30" in words(tomorrow["state"])


def test_after_the_death_of_the_bot_all_figures_keep_the_time_of_their_marks(
    parts: Callable[..., dict[str, str]],
) -> None:
    """No time of now, no next event and no latency beside them; the state and what is open stand out."""
    found = parts(**DEAD)
    said = words(found["state"])
    assert "It was interrupted at 09:54:59. The figures are those of its last moment, the marks of 09:55:05." in said
    assert "09:55:34" not in "".join(found.values())
    assert "Next:" not in said
    assert 'class="state normal off unmanaged"' in found["state"]
    assert '<p class="warning grave">Positions are open and not managed by any bot: FORJA.' in found["state"]
    assert "at the marks of 09:55:05" in words(found["figures"])
    assert "resting at 09:54" in found["positions"]
    assert "answers in" not in found["health"]


def test_without_marks_the_figures_are_those_of_the_fills(parts: Callable[..., dict[str, str]]) -> None:
    """With the time of the last event; where no session is open the band says only that no bot runs."""
    assert "the fills of 09:54:59." in words(parts(**DEAD, marks_at=None)["state"])
    closed = parts(**DEAD, in_session=False, positions=[])["state"]
    assert 'class="state normal off"' in closed
    assert "last moment" not in closed


def test_a_rehearsal_that_ended_is_started_by_the_command_of_its_venue(parts: Callable[..., dict[str, str]]) -> None:
    """`tbot run` alone would trade the account."""
    said = words(parts(**DEAD, mode="REHEARSAL")["state"])
    assert "or with the command that tbot rehearse --serve printed." in said
    assert "tbot run" not in said


def test_a_rehearsal_of_before_is_not_taken_for_the_account(parts: Callable[..., dict[str, str]]) -> None:
    """It is the newest run; the band says how the account is traded, the figures whose they are."""
    ended = {"how": "finished", "open": []}
    found = parts(**DEAD | {"ended": ended}, mode="REHEARSAL", of_account=False, in_session=False, positions=[])
    assert "An admin starts it under" in words(found["state"])
    assert "SIMULATION What follows is of a rehearsal, finished at 2026-03-02 10:01" in words(found["figures"])
    assert "Equity of the rehearsal" in words(found["figures"])


def test_a_run_that_was_stopped_says_so_and_when(parts: Callable[..., dict[str, str]]) -> None:
    """Of a rehearsal whose session was not over, with what its stop left open, and no age of its data."""
    feed: dict[str, Any] = {"source": "Alpaca IEX", "age_s": None, "lost_minutes": 0, "halted": []}
    ended = {"how": "stopped", "open": ["FORJA"]}
    found = parts(**DEAD | {"ended": ended}, mode="REHEARSAL", of_account=False, positions=[], feed=feed)
    assert "What follows is of a rehearsal, stopped at 2026-03-02 10:01 with FORJA left open :" in words(
        found["figures"]
    )
    assert "It was stopped" not in words(found["state"])
    own = parts(**DEAD | {"ended": ended})
    assert "It was stopped at 09:54:59 with FORJA left open. The figures" in words(own["state"])
    assert "Of the rehearsal, stopped;" in words(found["events"])
    assert "Alpaca IEX Alerts" in words(found["health"])


def test_a_halted_bot_sends_no_entries_and_has_no_next_event(parts: Callable[..., dict[str, str]]) -> None:
    """The clock goes on, and nothing follows from it."""
    said = words(parts(state="halted")["state"])
    assert "open: entries, but none are sent: the state is halted" in said
    assert "Next:" not in said


def test_a_bot_that_has_stopped_is_neither_normal_nor_in_a_phase(parts: Callable[..., dict[str, str]]) -> None:
    """Its process may need some seconds to end: nothing is traded meanwhile, and nothing comes next."""
    found = parts(phase="stopped")["state"]
    assert words(found).startswith("Stopped: nothing is traded. As of")
    assert "NORMAL" not in found
    assert "Next:" not in found


def test_closed_trades_and_used_entries_have_their_own_words(parts: Callable[..., dict[str, str]]) -> None:
    """In one card: two entries may be used while no trade is closed."""
    found = words(parts()["figures"])
    assert re.search(r"Trades today \d+ closed Entries used, of 4 each: open 2, mid 0", found)


def test_while_a_rehearsal_prepares_every_page_names_it(
    traded: Path, tmp_path: Path, site_of: Callable[[Path], Site]
) -> None:
    """The dashboard says what is done, and has no figure of the run before."""
    home = copied(traded, tmp_path / "own")
    with filesystem.hold_lock(Instance.at(home).lock, "rehearsal-20261124T153000"):
        app = create_app(site_of(home))
        page = words(ask(app, "GET", "/", VIEWER).text)
        assert "REHEARSAL" in page.partition("Dashboard")[0]
        assert "Running: preparing the session of " in page
        assert "is being prepared: account, companies and history are read." in page
        assert "The windows of the session appear when it is traded." in page
        assert "No bot has traded here yet" not in page
        assert "Equity" not in page
        assert "SIMULATION" not in page
        assert ">REHEARSAL</span>" in ask(app, "GET", "/alerts", VIEWER).text


def copied(source: Path, home: Path) -> Path:
    """A copy of an instance that may be written to."""
    return shutil.copytree(source, home)
