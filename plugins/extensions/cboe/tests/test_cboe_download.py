"""`tbot data download vix` from the exchange's file on this machine: days are added, a stored one stays."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tbot_extension_cboe import NEEDS
from tbot_extension_cboe.venue import file_of

from tbot_core import cli
from tbot_core.contracts.series import VIX
from tbot_core.marketdata.store import reference
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.model.clock import SystemClock, exchange_time
from tbot_core.testing.scripted_server import ScriptedServer, ServerReply
from tbot_core.testing.series import drawn_days

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TODAY = exchange_time(SystemClock().now()).date()


@pytest.fixture
def exchange(loopback: None) -> Iterator[ScriptedServer]:  # noqa: ARG001  -- wanted for its effect
    """The exchange's server, in a thread of its own; `exchange.text` is its file."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server: Any = ScriptedServer(lambda _request: ServerReply(status=server.status, body=server.text.encode()))
    server.text, server.status = file_of(drawn_days(VIX, TODAY)), 200
    asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(10)
    yield server
    asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def home(tmp_path: Path, exchange: ScriptedServer) -> Path:
    """An instance whose exchange is that server."""
    folder = tmp_path / "home"
    folder.mkdir()
    host = f"HOST_CBOE_DATA={exchange.url}\nAPI_RETRY_LIMIT=0\n"
    (folder / ".env_bot").write_text(f"BROKER_NAME=PAPER\nSTRATEGY_SEQUENCE=open\nSTART_TIME_OPEN=14:30\n{host}")
    return folder


def download(home: Path, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    """What the command prints as JSON; its errors where it fails."""
    capsys.readouterr()
    assert cli.invoke(["data", "download", "vix", *words, "--home", str(home), "--json"]) == code
    printed = capsys.readouterr()
    return json.loads(printed.out) if printed.out else " ".join(printed.err.split())


@pytest.mark.slow
def test_days_are_added_once(home: Path, exchange: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Holidays are left out; a day whose published value has changed is reported, and the stored value stays."""
    first = download(home, capsys)
    closes = drawn_days(VIX, TODAY)
    traded = {day: value for day, value in closes.items() if not ExchangeCalendar().holiday(day)}
    assert (first["source"], first["added"], first["changed"], first["faults"]) == ("cboe", len(traded), [], {})
    bars = home / "data" / "bars"
    assert reference.reference_facts(bars).vix == traded
    assert download(home, capsys, "--source", "CBOE")["added"] == 0
    assert cli.invoke(["data", "download", "VIX", "--home", str(home)]) == 0
    restated = max(traded)
    exchange.text = file_of({**closes, restated: 99.0})
    found = download(home, capsys, code=1)
    (changed,) = found["changed"]
    assert changed["words"] == f"{restated}: stored {traded[restated]:g}, published 99"
    assert reference.reference_facts(bars).vix == traded


@pytest.mark.parametrize(
    ("status", "text", "code", "words"),
    [
        (403, "<html>Forbidden</html>", 4, "403 <html>Forbidden</html>"),
        (429, "", 4, "429"),
        (503, "", 4, "503"),
        (200, "<html>Sorry</html>", 4, "is a page in HTML"),
        (200, "DATE,CLOSE\n", 4, "begins with 'DATE,CLOSE' instead of 'DATE,OPEN,HIGH,LOW,CLOSE'"),
        (200, file_of(drawn_days(VIX, TODAY))[:-20], 4, "ends within a line"),
        (200, file_of({TODAY + dt.timedelta(days=3): 16.2}), 1, "is in the future"),
        (200, file_of({TODAY - dt.timedelta(days=40): 16.2}), 1, ""),
    ],
)
@pytest.mark.slow
def test_a_bad_answer_is_refused(
    home: Path, exchange: Any, capsys: pytest.CaptureFixture[str], status: int, text: str, code: int, words: str
) -> None:
    """Each has its sentence and its exit code, and nothing is stored."""
    exchange.status, exchange.text = status, text
    assert words in download(home, capsys, "--source", "cboe", code=code)
    assert reference.reference_facts(home / "data" / "bars").vix == {}


@pytest.mark.slow
def test_options_of_bars_do_not_apply(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A series is stored whole; an unknown one, and a source that does not publish it, are refused."""
    said = download(home, capsys, "--symbols", "SPY", "--from", "2026-12-01", code=2)
    assert "--symbols, --from do not apply to a series." in said
    assert cli.invoke(["data", "download", "vxn", "--home", str(home)]) == 2
    said = download(home, capsys, "--source", "web", code=3)
    assert "--source web: no enabled extension of this name publishes the series vix. These do: cboe" in said
    (home / ".env").write_text("EXTENSIONS=none\n")
    said = download(home, capsys, code=3)
    assert "No enabled extension publishes the series vix. These are installed: cboe, fred. EXTENSIONS of" in said


@pytest.mark.slow
def test_the_host_is_a_setting_without_extensions_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where EXTENSIONS is empty all installed ones are enabled: `config` knows their settings, and nothing warns."""
    home, address = str(tmp_path / "bot"), "http://127.0.0.1:9"
    assert cli.invoke(["init", "--paper", "--home", home]) == 0
    assert cli.invoke(["config", "set", f"HOST_CBOE_DATA={address}", "--home", home]) == 0
    capsys.readouterr()
    assert cli.invoke(["config", "check", "--home", home]) == 0
    assert "HOST_CBOE_DATA" not in capsys.readouterr().out
    assert cli.invoke(["config", "explain", "HOST_CBOE_DATA", "--home", home]) == 0
    assert f"HOST_CBOE_DATA={address}" in capsys.readouterr().out
    assert cli.invoke(["config", "set", "HOST_CBOE_DATE=", "--home", home]) == 2


def test_the_host_of_the_plugin_is_the_exchange() -> None:
    """Nothing else can be reached."""
    assert [one.url for one in NEEDS.hosts.values()] == ["https://cdn.cboe.com/api/global/us_indices/daily_prices"]
