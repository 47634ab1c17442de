"""`tbot run --rehearsal URL`: the live path at once, at a server on this machine, with a journal of its own."""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib
import json
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core import cli
from tbot_core.actions.secrets import put_values
from tbot_core.cli.run_options import parse_run_options
from tbot_core.contracts import Host
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.rehearsal_run import at_target, rehearsal_clock
from tbot_core.engine.rehearsal_target import (
    LEAD,
    RehearsalTarget,
    opens_of_run,
    rehearsal_target,
    rehearsed_session,
)
from tbot_core.errors import SettingsError, UsageError
from tbot_core.instance import Instance
from tbot_core.journal import records
from tbot_core.journal.store import read_journal
from tbot_core.model.clock import Clock, ShiftedClock, SystemClock
from tbot_core.status.runs import run_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tbot_core.engine.assembly import Assembly

SETTINGS = {
    "BROKER_NAME": "ACME",
    "STRATEGY_SEQUENCE": "streak",
    "START_TIME_STREAK": "14:35",
    "STREAK_ANALYSIS_TIME": "1",
    "STREAK_BREAKOUT_TIME": "8",
    "STREAK_MONITORING_TIME": "15",
    "FILTERS": "price_volume",
    "CRITICAL_ALERT_CHANNEL": "console",
    "ROUTINE_ALERT_CHANNEL": "console",
}


NOW = dt.datetime(2026, 3, 3, 3, 0, tzinfo=dt.UTC)
TARGET = RehearsalTarget(url="http://127.0.0.1:1", opens=NOW + LEAD)


def options(**given: Any) -> Any:
    """The request of a command line."""
    rest = dict.fromkeys(("replay", "symbols", "speed", "seed", "sessions", "home"))
    return parse_run_options(**{**rest, "demo": False, "once": False, **given})


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://localhost:1", "http://[::1]:8080/v1"])
def test_a_server_on_this_machine_is_named(url: str) -> None:
    """Its address is the badge's."""
    assert options(rehearsal=url).title == f"REHEARSAL at {url}"
    assert options(rehearsal=url).is_apart


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://10.0.0.1:80", "on this machine only"),
        ("https://api.example.com", "on this machine only"),
        ("http://127.0.0.1.example.com", "on this machine only"),
        ("x", "address is not valid: x"),
        ("127.0.0.1:8080", "address is not valid: 127"),
        ("http://[::1", r"address is not valid: http://\[::1"),
        ("", "address is not valid: it is empty"),
        ("http://127.0.0.1:99999", "port of the rehearsal's address is not valid: http://127.0.0.1:99999"),
        ("http://127.0.0.1:x", "port of the rehearsal's address is not valid"),
        ("http://127.0.0.1:0", "port of the rehearsal's address is not valid"),
    ],
)
def test_another_machine_and_no_address_are_refused(url: str, said: str) -> None:
    """With the remedy."""
    for text in (url, f"http://127.0.0.1:1?stream={url}"):
        with pytest.raises(UsageError, match=said) as refused:
            rehearsal_target(text, NOW)
        assert "127.0.0.1:PORT" in (refused.value.remedy or "")


def test_the_target_names_the_moment_at_which_the_session_opens() -> None:
    """By default it is in two minutes; the text of a target gives the same target, and its run id the moment."""
    plain = rehearsal_target("http://127.0.0.1:1", NOW + dt.timedelta(microseconds=7))
    assert plain == RehearsalTarget(url="http://127.0.0.1:1", opens=NOW + LEAD)
    whole = attrs.evolve(plain, stream="http://127.0.0.1:2")
    later = NOW + dt.timedelta(hours=1)
    assert [rehearsal_target(one.text, later) for one in (plain, whole)] == [plain, whole]
    assert opens_of_run(whole.run) == NOW + LEAD
    with pytest.raises(UsageError, match="opens=noon is not a time of the form"):
        rehearsal_target("http://127.0.0.1:1?opens=noon", NOW)


@pytest.mark.parametrize("other", [{"demo": True}, {"dry_run": True}, {"replay": "2026-01-05..2026-01-06"}])
def test_a_rehearsal_is_a_run_of_its_own(other: dict[str, Any]) -> None:
    """It excludes simulations and dry runs."""
    with pytest.raises(UsageError, match="--rehearsal excludes"):
        options(rehearsal="http://127.0.0.1:8080", **other)


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        ("2026-03-03 03:00", "2026-03-03 14:30"),
        ("2026-03-03 15:00", "2026-03-04 14:30"),
        ("2026-03-06 23:00", "2026-03-09 13:30"),
    ],
)
def test_the_next_session_opens_at_the_moment_of_the_target(now: str, opens: str) -> None:
    """Whatever the hour and the day."""
    moment, bell = (dt.datetime.fromisoformat(f"{text}+00:00") for text in (now, opens))
    assert rehearsed_session(moment).open == bell
    assert moment + rehearsal_clock(moment).shift == bell


def test_a_shifted_clock_shows_and_waits_for_its_own_time() -> None:
    """By a constant; its seconds are the machine's."""
    clock = ShiftedClock(dt.timedelta(days=2))
    assert isinstance(clock, Clock)
    apart = clock.now() - SystemClock().now() - dt.timedelta(days=2)
    assert abs(apart) < dt.timedelta(seconds=1)
    assert clock.monotonic() == pytest.approx(SystemClock().monotonic(), abs=1)

    async def wait() -> None:
        await clock.sleep(0)
        await clock.sleep_until(clock.now() - dt.timedelta(days=1))

    asyncio.run(wait())


@pytest.fixture
def home(plugins: Any, tmp_path: Path, paper_instance: Callable[[Path], Path]) -> Path:
    """An instance of paper trading with the tutorials' plugins."""
    del plugins
    home = tmp_path / "home"
    paper_instance(home)
    put_values(home, "broker", {"acme": {"api_key": "a-key"}})
    put_values(home, "env_bot", SETTINGS)
    return home


@pytest.mark.slow
def test_the_hosts_of_the_broker_are_at_the_address(home: Path) -> None:
    """Except where a setting names another one on this machine."""
    put_values(home, "env_bot", {"HOST_ACME_STREAM": "http://127.0.0.1:2"})
    assembly = assemble(home, "paper", SystemClock())
    found = at_target(assembly, TARGET).settings.texts
    assert found["HOST_ACME_API"] == "http://127.0.0.1:1"
    assert found["HOST_ACME_STREAM"] == "http://127.0.0.1:2"
    put_values(home, "env_bot", {"HOST_ACME_STREAM": ""})
    apart = attrs.evolve(TARGET, stream="http://127.0.0.1:3")
    found = at_target(assemble(home, "paper", SystemClock()), apart).settings.texts
    assert [found[f"HOST_ACME_{name}"][-1] for name in ("API", "STREAM")] == ["1", "3"]


@pytest.mark.slow
def test_live_money_and_other_networks_are_refused(home: Path) -> None:
    """A broker that opens connections itself, or none, cannot be directed; a host of the operator's choice is."""
    assembly = assemble(home, "paper", SystemClock())
    live = attrs.evolve(assembly, settings=attrs.evolve(assembly.settings, mode="live"))
    with pytest.raises(SettingsError, match="live money is not rehearsed with") as refused:
        at_target(live, TARGET)
    assert "mode=paper" in (refused.value.remedy or "")
    for needs, words in (({"own_network": True}, "opens its connections itself"), ({"hosts": {}}, "reaches no host")):
        with pytest.raises(SettingsError, match=words):
            at_target(with_needs(assembly, **needs), TARGET)
    more = with_needs(assembly, hosts={"api": Host("https://a.example")})
    assert at_target(more, TARGET).settings.texts["HOST_ACME_API"] == "http://127.0.0.1:1"
    chosen = with_needs(assembly, hosts={"api": Host("https://*")})
    texts = {**chosen.settings.texts, "HOST_ACME_API": "https://a.example"}
    placed = at_target(attrs.evolve(chosen, settings=attrs.evolve(chosen.settings, texts=texts)), TARGET)
    assert placed.settings.texts["HOST_ACME_API"] == "http://127.0.0.1:1"


def with_needs(assembly: Assembly, **needs: Any) -> Assembly:
    """The assembly whose broker has other needs."""
    loaded = tuple(
        attrs.evolve(one, plugin=attrs.evolve(one.plugin, needs=attrs.evolve(one.plugin.needs, **needs)))
        if one.entry.kind == "broker"
        else one
        for one in assembly.loaded
    )
    return attrs.evolve(assembly, loaded=loaded)


@pytest.mark.slow
@pytest.mark.usefixtures("loopback")
@pytest.mark.first(0)  # over two seconds
def test_a_rehearsal_is_ready_within_seconds_and_leaves_the_instances_journal_alone(
    home: Path, plugins: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a person starts it: banner, status and READY say REHEARSAL; a kill reaches it, and a stop ends it."""
    before = (home / "data" / "tbot.sqlite").read_bytes()
    said, shown = asyncio.run(rehearsed(home, plugins))
    assert "tbot REHEARSAL at http://127.0.0.1:" in said
    assert "A REHEARSAL: the venue is a server on this machine" in said
    assert "Alert, routine: READY for the session of" in said
    assert ": REHEARSAL, equity" in said
    assert "This resumes the rehearsal; one without ?opens= has a journal of its own:" in said
    assert shown["mode"] == "REHEARSAL"
    assert (shown["attention"], shown["phase"]) == ([], "market closed")
    assert dt.timedelta() < at(shown["next_event"]["time"]) - at(shown["now"]) <= LEAD
    assert "Killed: entries are blocked until `tbot kill --clear`." in said
    assert (home / "data" / "tbot.sqlite").read_bytes() == before
    [file] = [one for one in run_files_of(home) if one.rehearsal]
    journal = read_journal(file.path)
    try:
        [ready] = [one for one in journal.events() if one.kind == records.READY]
    finally:
        journal.close()
    assert ready.payload["mode"] == "REHEARSAL"
    assert abs(opens_of_run(file.name) - LEAD - SystemClock().now()) < dt.timedelta(minutes=5)
    capsys.readouterr()
    cli.invoke(["status", "--home", str(home), "--json"])
    after = json.loads(capsys.readouterr().out)
    assert (after["mode"], after["run"], after["of_account"]) == ("REHEARSAL", file.name, False)


def at(text: str) -> dt.datetime:
    """A moment of the status."""
    return dt.datetime.fromisoformat(text)


def run_files_of(home: Path) -> Any:
    """Every journal of the instance."""
    return run_files(Instance.at(home))


async def rehearsed(home: Path, plugins: Any) -> tuple[str, Any]:
    """What a rehearsal says until it is ready, and the status meanwhile."""
    venue = importlib.import_module(f"{plugins.__name__}.venue").AcmeVenue(SystemClock(), "a-key")
    for symbol in ("AAA", "BBB"):
        venue.prices[symbol] = 20
    async with venue.server as server:
        put_values(home, "env_bot", {"HOST_ACME_STREAM": server.socket_url})
        command = [sys.executable, "-P", "-m", "tbot_core", "run", "--rehearsal", server.url, "--home", str(home)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *command, stdout=pipe, stderr=asyncio.subprocess.STDOUT, env=environment
        )
        assert process.stdout is not None
        said, shown = "", b"{}"
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(60):
                    while "READY for" not in said and (line := await process.stdout.readline()):
                        said += line.decode()
            asked = [*command[:4], "status", "--home", str(home), "--json"]
            status = await asyncio.create_subprocess_exec(*asked, stdout=pipe, env=environment)
            shown, _ = await status.communicate()
            asked = [*command[:4], "kill", "--home", str(home)]
            kill = await asyncio.create_subprocess_exec(*asked, stdout=pipe, env=environment)
            said += (await kill.communicate())[0].decode()
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            rest, _ = await process.communicate()
    return said + rest.decode(), json.loads(shown)
