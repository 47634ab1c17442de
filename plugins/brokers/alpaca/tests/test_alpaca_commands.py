"""The commands before the first session, at the test venue that TBOT_REHEARSAL names."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import contextmanager
from functools import cache
from queue import Queue
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from tbot_broker_alpaca import tbot_broker

from tbot_core import cli
from tbot_core.actions.secrets import put_values
from tbot_core.actions.trials import try_login
from tbot_core.engine.rehearsal_run import rehearsal_clock
from tbot_core.engine.rehearsal_target import RehearsalTarget
from tbot_core.instance.folder import REHEARSAL_VARIABLE
from tbot_core.model.clock import SystemClock
from tbot_core.plugins import discovery
from tbot_core.plugins.loader import LoadedPlugin, PluginLoader
from tbot_core.rehearsal.broker_rehearsal import trading_venue
from tbot_core.rehearsal.demo_market import demo_market
from tbot_core.testing.canaries import canary
from tbot_core.testing.scripted_server import ScriptedServer, ServerReply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tbot_core.rehearsal.prices import SimulatedMarket

SESSION = "2026-02-27"


@cache
def market() -> SimulatedMarket:
    """The demo's companies; made once."""
    return demo_market(1)


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch, loopback: None) -> Iterator[RehearsalTarget]:  # noqa: ARG001  -- its effect
    """A venue in a thread of its own, whose session opens now; TBOT_REHEARSAL names it."""
    targets: Queue[tuple[RehearsalTarget, asyncio.AbstractEventLoop]] = Queue()
    opens, ended = SystemClock().now().replace(microsecond=0), asyncio.Event()

    def serve() -> None:
        with (
            asyncio.Runner() as runner,
            trading_venue(tbot_broker(), runner, rehearsal_clock(opens), market()) as venue,
        ):
            at = RehearsalTarget(url=venue.server.url, stream=venue.server.socket_url, opens=opens)
            targets.put((at, runner.get_loop()))
            runner.run(ended.wait())

    thread = threading.Thread(target=serve)
    thread.start()
    found, loop = targets.get(timeout=30)
    monkeypatch.setenv(REHEARSAL_VARIABLE, found.text)
    yield found
    loop.call_soon_threadsafe(ended.set)
    thread.join()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance that trades at Alpaca."""
    given = {"broker": {"alpaca": {"api_key": canary("key"), "api_secret": canary("secret"), "mode": "paper"}}}
    (tmp_path / "in.json").write_text(json.dumps(given))
    assert cli.invoke(["init", "--from-json", str(tmp_path / "in.json"), "--home", str(tmp_path / "home")]) == 0
    (tmp_path / "in.json").unlink()
    return tmp_path / "home"


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_broker_test_screen_and_download_reach_the_venue_of_the_rehearsal(
    target: RehearsalTarget, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each says so; the broker passes, thirty symbols are subscribed, and their bars are kept apart from the store."""

    def shown(*words: str) -> Any:
        capsys.readouterr()
        assert cli.invoke([*words, "--json", "--home", str(home)]) == 0
        out, err = capsys.readouterr()
        assert err.startswith(f"REHEARSAL (TBOT_REHEARSAL): the broker is at {target.url}, where it is ")
        return json.loads(out)

    rows = shown("broker", "test")["rows"]
    assert {row["level"] for row in rows if row["subject"] != "shorts"} == {"ok"}
    (advice,) = [row["words"] for row in rows if row["subject"] == "shorts"]
    assert advice.startswith("the account may sell short, and no strategy of STRATEGY_SEQUENCE does: switch")
    checked = shown("check")["rows"]
    assert [row["level"] for row in checked if advice in row["message"]] == ["warn"]
    (feed,) = [row["message"] for row in checked if row["subject"] == "feed"]
    assert "Alpaca IEX: single venue, at most 30 symbols" in feed
    screened = shown("screen")
    assert len(screened["symbols"]) == len(market().symbols)
    assert len(screened["cut"]) == len(market().symbols) - 30
    stored = shown("data", "download", "--from", SESSION, "--to", SESSION)
    assert set(stored["symbols"]) == {one["symbol"] for one in screened["symbols"]} - set(screened["cut"])
    assert (stored["downloaded"], stored["bars"]) == (30, 30 * 390)
    assert not (home / "data" / "bars").exists()
    assert (home / "data" / "runs" / f"{target.run}-bars").is_dir()


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
@pytest.mark.usefixtures("target")
def test_a_run_on_a_feed_that_the_plan_does_not_have_ends_as_broker_test_does(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 4 with the same sentence and what to do, before the run waits for a session; IEX is what the plan has."""
    values = json.dumps({"ALPACA_DATA_FEED": "sip"})
    with CliRunner().isolation(values):
        assert cli.invoke(["secrets", "set", "env_bot", "--from-json", "-", "--home", str(home)]) == 0
    capsys.readouterr()
    assert cli.invoke(["broker", "test", "--json", "--home", str(home)]) == 4
    rows = json.loads(capsys.readouterr().out)["rows"]
    (words,) = [row["words"] for row in rows if row["level"] == "fail"]
    assert words.startswith(
        "alpaca: ALPACA_DATA_FEED=sip, but the account's plan has no consolidated data in real time."
    )
    assert cli.invoke(["run", "--once", "--home", str(home)]) == 4
    said = " ".join(capsys.readouterr().err.split())
    assert words.split(" Set ")[0] in said
    assert "Set ALPACA_DATA_FEED=iex, or subscribe to the plan that has them." in said


@pytest.mark.slow
@pytest.mark.usefixtures("target")
def test_short_sales_that_a_strategy_makes_are_not_advised_against(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With SHORT_TYPE_OPEN=ShortSell the account must allow them."""
    put_values(home, "env_bot", {"SHORT_TYPE_OPEN": "ShortSell"})
    assert cli.invoke(["broker", "test", "--home", str(home)]) == 0
    assert "  shorts " not in capsys.readouterr().out


ACCOUNT = {"account_number": "PA1", "status": "ACTIVE", "equity": "100", "cash": "100", "currency": "USD"}


@contextmanager
def answered(reply: ServerReply) -> Iterator[str]:
    """The address of a server, in a thread of its own, that answers /v2/account so; it knows nothing else."""
    urls: Queue[tuple[str, asyncio.AbstractEventLoop]] = Queue()
    ended, unknown = asyncio.Event(), ServerReply(status=404, document={"code": 40410000, "message": "not found"})

    async def serve() -> None:
        async with ScriptedServer(lambda request: reply if request.path == "/v2/account" else unknown) as server:
            urls.put((server.url, asyncio.get_running_loop()))
            await ended.wait()

    thread = threading.Thread(target=asyncio.run, args=[serve()])
    thread.start()
    url, loop = urls.get(timeout=30)
    yield url
    loop.call_soon_threadsafe(ended.set)
    thread.join()


@pytest.mark.slow
@pytest.mark.usefixtures("loopback")
@pytest.mark.parametrize(
    ("reply", "path", "words", "remedy"),
    [
        (ServerReply(status=302, headers={"location": "/login"}), "", "302.", "A redirect is not followed: "),
        (ServerReply(status=401), "", "401.", "`tbot secrets edit CATEGORY`"),
        (ServerReply(body=b"<html>"), "", "cannot be read: invalid JSON", "Is the address that of the service?"),
        (ServerReply(document=ACCOUNT | {"equity": "12,5"}), "", "'12,5' is no number", "HOST_"),
        (ServerReply(document=ACCOUNT | {"cash": "1E+999999"}), "", "'1E+999999' is no amount", "HOST_"),
        (ServerReply(document=ACCOUNT | {"currency": "EUR"}), "", "was reported in EUR", "Use an account in USD."),
        (ServerReply(document=ACCOUNT), "/v2", "404 not found.", "HOST_ALPACA_PAPER is a server without a path"),
    ],
)
def test_a_login_that_fails_says_why_and_what_to_do(
    home: Path, capsys: pytest.CaptureFixture[str], reply: ServerReply, path: str, words: str, remedy: str
) -> None:
    """In one line, with exit code 4."""
    with answered(reply) as url:
        put_values(home, "env_bot", {"HOST_ALPACA_PAPER": f"{url}{path}"})
        assert cli.invoke(["broker", "test", "--home", str(home)]) == 4
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("fail  login ")
    assert words in line
    assert remedy in line


@pytest.mark.slow
@pytest.mark.parametrize("live", [False, True])
def test_credentials_are_tried_at_the_venue_before_they_are_stored(target: RehearsalTarget, *, live: bool) -> None:
    """As in the set-up; an account on paper is no live account."""
    entry = next(one.entry for one in discovery.installed_plugins() if one.entry.name == "alpaca")
    loaded = PluginLoader().load(entry)
    assert isinstance(loaded, LoadedPlugin)
    keys = {"api_key": canary("key"), "api_secret": canary("secret"), "mode": "live" if live else "paper"}
    notices: list[str] = []
    step = try_login(loaded, {}, keys, live=live, notify=notices.append)
    assert step is not None
    assert (step.passed, "PA3VENUE0001" in step.words) == (not live, True)
    assert [target.url in one for one in notices] == [True]


@pytest.mark.parametrize(
    ("target_text", "words", "code", "said"),
    [
        ("http://203.0.113.1:80", ("broker", "test"), 2, "A rehearsal reaches servers on this machine only"),
        ("http://127.0.0.1:1?opens=now", ("run",), 2, "opens=now is not a time"),
        ("http://127.0.0.1:99999", ("run",), 2, "port of the rehearsal's address is not valid: http"),
        ("http://127.0.0.1:1?foo=1", ("run",), 2, "foo is unknown in the address; known: opens, stream"),
        ("http://127.0.0.1:1", ("run", "--dry-run"), 2, "Unset TBOT_REHEARSAL first."),
    ],
)
def test_a_target_that_cannot_be_used_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    target_text: str,
    words: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    """Before anything is sent."""
    monkeypatch.setenv(REHEARSAL_VARIABLE, target_text)
    assert cli.invoke([*words, "--home", str(home)]) == code
    assert said in capsys.readouterr().err


@pytest.mark.usefixtures("loopback")
def test_a_rehearsal_does_not_begin_where_no_venue_answers(
    monkeypatch: pytest.MonkeyPatch, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends at once with 4, and has no journal."""
    monkeypatch.setenv(REHEARSAL_VARIABLE, "http://127.0.0.1:1")
    assert cli.invoke(["run", "--home", str(home)]) == 4
    assert "No venue answers at http://127.0.0.1:1; is it still running?" in capsys.readouterr().err
    assert not list((home / "data").glob("runs/*.sqlite"))


def test_the_key_of_a_live_account_is_not_sent_before_its_plugins_are_approved(
    monkeypatch: pytest.MonkeyPatch, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Screening and downloads are refused as a live start is, and with approved plugins in a rehearsal still."""
    live = {"api_key": canary("key"), "api_secret": canary("secret"), "mode": "live"}
    put_values(home, "broker", {"alpaca": live})
    monkeypatch.setenv(REHEARSAL_VARIABLE, "http://127.0.0.1:1")
    for words in (("screen",), ("data", "download")):
        assert cli.invoke([*words, "--home", str(home)]) == 3
        assert "Live trading imports only approved plugins" in capsys.readouterr().err
    assert cli.invoke(["plugins", "lock", "--yes", "--home", str(home)]) == 0
    for words in (("screen",), ("data", "download")):
        assert cli.invoke([*words, "--home", str(home)]) == 3
        assert "live money is not rehearsed with" in capsys.readouterr().err
    assert cli.invoke(["arm", "--home", str(home)]) == 2
    assert "Unset TBOT_REHEARSAL first" in capsys.readouterr().err
