"""What `tbot check` checks, and what a start checks before it trades."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tbot_core.cli.actions.config import Known
    from tbot_core.instance import Instance, Mode, Sources
    from tbot_core.instance.findings import Level
    from tbot_core.instance.preflight import Row


_REFUSED: Final = 3
_FATAL: Final = frozenset({"secrets", "audit", "journal", "machine"})


def checked(home: Path | None, *, allow_shared_key: bool = False) -> tuple[Row, ...]:
    """Every row about the instance, failing ones first; the settings are judged as for paper trading."""
    from tbot_core.cli.actions.config import check, known
    from tbot_core.instance import Instance, read
    from tbot_core.instance.preflight import Row, Subject, rows
    from tbot_core.model.clock import SystemClock

    instance = Instance.at(home)
    plugins = known(home)
    subject = Subject(
        instance=instance,
        sources=read(instance),
        now=SystemClock().now(),
        allow_shared_key=allow_shared_key,
        declared=plugins.declared,
    )
    found = [Row(level=it.level, subject="settings", message=str(it)) for it in check(home, "paper", plugins)]
    order = ("fail", "warn", "ok")
    found += [*rows(subject), *requested(instance), *fed(home, plugins), *failing_over(home, plugins)]
    return tuple(sorted(found, key=lambda row: order.index(row.level)))


def requested(instance: Instance) -> Iterator[Row]:
    """The folder in which the running bot is asked for things: who may use it, and what lies there."""
    from tbot_core.instance.preflight import Row
    from tbot_core.status.risk_state import exposed, look, sentences

    folder = instance.control
    words = exposed(folder)
    if words:
        yield Row(level="fail", subject="requests", message=words, remedy=f"chmod 700 {folder}", exit_code=1)
    said = sentences(look(folder), running=True)
    yield from (Row(level="warn", subject="requests", message=sentence) for sentence in said)
    if not (words or said):
        yield Row(level="ok", subject="requests", message="Nothing keeps the bot from trading.")


def fed(home: Path | None, plugins: Known) -> Iterator[Row]:
    """What the live feed declares that bars come from; nothing where there is none, or settings are not fit."""
    from tbot_core.contracts import DELAYED
    from tbot_core.errors import TbotError
    from tbot_core.instance import load
    from tbot_core.instance.preflight import Row
    from tbot_core.instance.secrets import mode_of

    try:
        settings = load(home, mode="replay", declared=plugins.declared)
        name = settings.trading.data_source or settings.trading.broker_name
        offer = plugins.brokers.get(name)
        if offer is None or offer.quality is None:
            return
        quality = offer.quality(settings.plugin_config(offer.config))
        live = mode_of(settings) == "live"
    except TbotError:
        return  # each of these has a row of its own
    level: Level = "ok" if quality.coverage != DELAYED else "fail" if live else "warn"
    remedy = "" if level == "ok" else "Name a feed in real time in DATA_SOURCE: delayed prices are never traded live."
    yield Row(level=level, subject="feed", message=f"The feed of {name}: {quality.words}.", remedy=remedy)


def failing_over(home: Path | None, plugins: Known) -> Iterator[Row]:
    """Whether entries could go to the brokers of FAILOVER_BROKERS: there, and tried lately."""
    from tbot_core.errors import TbotError
    from tbot_core.instance import load
    from tbot_core.instance.preflight import Row
    from tbot_core.journal.projections import failover_drills
    from tbot_core.model.clock import SystemClock
    from tbot_core.status.failover import brokers, events_of

    try:
        settings = load(home, mode="replay", declared=plugins.declared)
        names = brokers(settings)
        last = failover_drills.latest(events_of(settings), names)
    except TbotError:
        return  # each of these has a row of its own
    for name in names[1:]:
        if name not in plugins.brokers:
            sentence = f"FAILOVER_BROKERS names {name}, and no such broker is installed."
            yield Row(level="fail", subject="failover", message=sentence, remedy="Install it, or take it out.")
    if names[1:] and (words := failover_drills.objection(last, SystemClock().now())):
        sentence = f"No entry goes to another broker: {words}."
        yield Row(level="warn", subject="failover", message=sentence, remedy="`tbot failover drill` tries it.")
    elif names[1:]:
        yield Row(level="ok", subject="failover", message=f"Failover was tried: {', '.join(names)}.")


def assert_start(instance: Instance, sources: Sources, mode: Mode, *, allow_shared_key: bool = False) -> None:
    """The same rows before a run: what trading must not begin with is raised, the rest is said on standard error.

    A simulation begins with anything that it can read. Raises SettingsError, or AccessError for a damaged log or a
    machine that is not fit.
    """
    from tbot_core.errors import AccessError, SettingsError
    from tbot_core.instance.preflight import Subject, rows
    from tbot_core.model.clock import SystemClock

    subject = Subject(
        instance=instance,
        sources=sources,
        now=SystemClock().now(),
        strict=mode == "live",
        allow_shared_key=allow_shared_key,
    )
    failed = [row for row in rows(subject) if row.level == "fail"]
    fatal = [row for row in failed if mode == "live" or (mode in {"dry-run", "paper"} and row.subject in _FATAL)]
    if fatal:
        kind = SettingsError if any(row.exit_code == _REFUSED for row in fatal) else AccessError
        raise kind("\n".join(str(row) for row in fatal), "`tbot check` shows every finding.")
    for row in failed:
        click.echo(f"tbot: {row}", err=True)
