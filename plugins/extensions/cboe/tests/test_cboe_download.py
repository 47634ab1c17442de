"""`tbot data download vix` from the exchange's file on this machine: days are added, a stored one stays."""

from __future__ import annotations

import asyncio
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
    return json.loads(printed.out) if printed.out else printed.err


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
    restated = max(traded)
    exchange.text = file_of({**closes, restated: 99.0})
    found = download(home, capsys, code=1)
    assert found["changed"] == [
        {"day": restated.isoformat(), "code": "", "stored": traded[restated], "published": 99.0}
    ]
    assert reference.reference_facts(bars).vix == traded


def test_the_host_of_the_plugin_is_the_exchange() -> None:
    """Nothing else can be reached."""
    assert [one.url for one in NEEDS.hosts.values()] == ["https://cdn.cboe.com/api/global/us_indices/daily_prices"]
