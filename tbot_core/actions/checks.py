"""Checks of an instance before it trades."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tbot_core.actions.notices import discard
from tbot_core.model.formatting import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tbot_core.actions.notices import Notify
    from tbot_core.actions.plugin_declarations import PluginDeclarations
    from tbot_core.instance import Instance, Mode
    from tbot_core.instance.findings import Level
    from tbot_core.instance.preflight_subject import PreflightFinding

_ORDER: Final = ("fail", "warn", "ok")
_CREATION: Final = frozenset({"config", "create"})


def check_outcome(levels: Sequence[str]) -> str:
    """The result of `tbot check` in one sentence, from the levels of its rows."""
    counts = f"{levels.count('ok')} ok, {plural(levels.count('warn'), 'warning')}"
    failed = levels.count("fail")
    return (
        f"`tbot check` failed: {plural(failed, 'failure')}, {counts}." if failed else f"`tbot check` passed: {counts}."
    )


def check_instance(
    home: Path | None, *, allow_shared_key: bool = False, progress: Notify = discard
) -> tuple[PreflightFinding, ...]:
    """Every finding about the instance, failures first: as a start would judge it, live or on paper by its secrets."""
    from tbot_core.actions.config import check_config
    from tbot_core.actions.plugin_declarations import plugin_declarations
    from tbot_core.instance import Instance, read_settings_files
    from tbot_core.instance.preflight import preflight_findings
    from tbot_core.instance.preflight_subject import PreflightFinding, PreflightSubject
    from tbot_core.model.clock import SystemClock
    from tbot_core.system import filesystem

    instance = Instance.at(home)
    plugins = plugin_declarations(home)
    mode = checked_mode(home, plugins)
    subject = PreflightSubject(
        instance=instance,
        sources=read_settings_files(instance),
        now=SystemClock().now(),
        strict=mode == "live",
        allow_shared_key=allow_shared_key,
        declared=plugins.declared,
        installed=plugins.installed,
    )
    found = [
        PreflightFinding(level=it.level, subject="settings", message=str(it))
        for it in check_config(home, mode, plugins)
    ]
    if not filesystem.is_folder(instance.home):
        return tuple(found)  # that there is no folder is all that can be found
    found += [
        *preflight_findings(subject),
        *control_folder_findings(instance),
        *enabled_plugin_findings(home, plugins, progress, live=mode == "live"),
    ]
    return tuple(sorted(found, key=lambda row: _ORDER.index(row.level)))


def with_broker(
    found: tuple[PreflightFinding, ...], reached: tuple[PreflightFinding, ...]
) -> tuple[PreflightFinding, ...]:
    """The findings with those of a login at the broker, whose account replaces what the plugin declares of the feed."""
    known = any(row.subject == "feed" for row in reached)
    rows = [row for row in found if row.level != "ok" or row.subject != "feed" or not known]
    return tuple(sorted([*rows, *reached], key=lambda row: _ORDER.index(row.level)))


def reached_findings(home: Path | None, notify: Notify = discard) -> Iterator[PreflightFinding]:
    """What a login at the broker of the settings finds; none for the simulator.

    A broker that refuses or does not answer is a warning: a bot that starts again manages its positions all the same.
    """
    from tbot_core.actions.assembly import SIMULATED
    from tbot_core.actions.broker_findings import connect_broker
    from tbot_core.errors import TbotError
    from tbot_core.instance import Instance, load_settings
    from tbot_core.instance.preflight_subject import PreflightFinding

    instance, remedy = Instance.at(home), "`tbot broker test` tries it again."
    if load_settings(home, mode="replay").trading.broker_name == SIMULATED.lower():
        return
    try:
        name, found = connect_broker(instance, notify=notify)
    except TbotError as fault:
        yield PreflightFinding(level="warn", subject="broker", message=f"The broker was not tried: {fault}")
        return
    for one in found:
        message = f"{name}, {one.subject}: {one.words.rstrip('.')}."
        level: Level = "ok" if one.level == "ok" else "warn"
        subject = "feed" if one.subject == "feed" else "broker"
        yield PreflightFinding(level=level, subject=subject, message=message, remedy="" if level == "ok" else remedy)


def enabled_plugin_findings(
    home: Path | None, plugins: PluginDeclarations, progress: Notify, *, live: bool
) -> Iterator[PreflightFinding]:
    """Every finding about what the enabled plugins can do now."""
    from tbot_core.actions.alert_channels import alert_findings
    from tbot_core.actions.stored_facts import fact_findings, market_cap_findings

    yield from plugin_findings(home, plugins)
    yield from broker_findings(home, plugins, progress)
    yield from feed_findings(home, plugins, live=live)
    yield from fact_findings(home, plugins)
    yield from market_cap_findings(home, plugins, progress)
    yield from failover_findings(home, plugins)
    yield from alert_findings(home, plugins)


def checked_mode(home: Path | None, plugins: PluginDeclarations) -> Mode:
    """The mode in which a start would trade: live if the broker's section of the secrets says so, else paper."""
    from tbot_core.errors import TbotError
    from tbot_core.instance import load_settings
    from tbot_core.instance.secrets import account_mode

    try:
        settings = load_settings(home, mode="replay", declared=plugins.declared)
        return "live" if account_mode(settings) == "live" else "paper"
    except TbotError:
        return "paper"  # each of these faults has its own row


def control_folder_findings(instance: Instance) -> Iterator[PreflightFinding]:
    """The control folder of the running bot: its permissions, and the requests in it."""
    from tbot_core.instance.control_folder import known_control_folder
    from tbot_core.instance.preflight_subject import PreflightFinding
    from tbot_core.status.risk_state import folder_exposure, folder_warnings, read_control_folder

    instance = known_control_folder(instance)
    folder = instance.control
    exposure = folder_exposure(folder)
    if exposure:
        yield PreflightFinding(
            level="fail", subject="requests", message=exposure, remedy=f"chmod 700 {folder}", exit_code=1
        )
    warnings = folder_warnings(read_control_folder(folder), running=True, folder=instance.control_dir)
    yield from (PreflightFinding(level="warn", subject="requests", message=sentence) for sentence in warnings)
    if not (exposure or warnings):
        yield PreflightFinding(level="ok", subject="requests", message="No request blocks trading.")


def plugin_findings(home: Path | None, plugins: PluginDeclarations) -> Iterator[PreflightFinding]:
    """The enabled plugins that cannot be created, which a run refuses, and what the others warn of.

    Those that cannot be loaded are in the settings. A recorded failure is tried again: what a plugin requires may have
    changed since.
    """
    from tbot_core.actions.plugin_tables import warning_findings
    from tbot_core.actions.plugins import plugin_listings
    from tbot_core.instance.preflight_subject import PreflightFinding
    from tbot_core.plugins.probe import probe_plugin

    listings, known, _ = plugin_listings(home)
    for listing in listings:
        record = known.of(listing.entry)
        is_enabled = (listing.entry.kind, listing.entry.name) in plugins.enabled
        if not is_enabled or record is None or record.phase not in _CREATION:
            continue
        if failure := probe_plugin(listing.entry).failure:
            name = f"{failure.kind}/{failure.name}"
            remedy = f"Fix it, or remove it from the settings; `tbot plugins info {name}` shows more."
            yield PreflightFinding(level="fail", subject="plugins", message=failure.sentence, remedy=remedy)
    yield from warning_findings(home, plugins)


def broker_findings(home: Path | None, plugins: PluginDeclarations, progress: Notify) -> Iterator[PreflightFinding]:
    """The capabilities of the enabled broker that differ from the default, in one row."""
    from tbot_core.actions.plugins import describe_plugin
    from tbot_core.contracts import BrokerCapabilities
    from tbot_core.errors import TbotError
    from tbot_core.instance import load_settings
    from tbot_core.instance.preflight_subject import PreflightFinding

    try:
        name = load_settings(home, mode="replay", declared=plugins.declared).trading.broker_name
        if name not in plugins.brokers:
            return
        declared: Any = describe_plugin(f"broker/{name}", home, progress)["capabilities"]
    except TbotError:
        return  # each of these faults has its own row
    if isinstance(declared, dict):  # a broker that cannot be created has its own row too
        usual = BrokerCapabilities().matrix
        words = ", ".join(f"{one}={value}" for one, value in declared.items() if value != usual.get(one))
        message = f"Capabilities of {name} that differ from the default: {words or 'none'}."
        remedy = f"`tbot plugins info broker/{name}` shows all."
        yield PreflightFinding(level="ok", subject="broker", message=message, remedy=remedy)


def feed_findings(home: Path | None, plugins: PluginDeclarations, *, live: bool) -> Iterator[PreflightFinding]:
    """The coverage that the live feed declares; no row without a live feed or with invalid settings."""
    from tbot_core.contracts import FeedCoverage
    from tbot_core.errors import TbotError
    from tbot_core.instance import load_settings
    from tbot_core.instance.preflight_subject import PreflightFinding

    try:
        settings = load_settings(home, mode="replay", declared=plugins.declared)
        name = settings.trading.data_source or settings.trading.broker_name
        offer = plugins.brokers.get(name)
        if offer is None or offer.quality is None:
            return
        quality, limit = offer.quality(settings.plugin_config(offer.config)), offer.needs.request_limit
    except TbotError:
        return  # each of these faults has its own row
    level: Level = "ok" if quality.coverage != FeedCoverage.DELAYED else "fail" if live else "warn"
    remedy = "" if level == "ok" else "Set DATA_SOURCE to a real-time feed: live trading never uses delayed prices."
    words = "; ".join(filter(None, (quality.words, limit)))
    yield PreflightFinding(level=level, subject="feed", message=f"The feed of {name}: {words}.", remedy=remedy)


def failover_findings(home: Path | None, plugins: PluginDeclarations) -> Iterator[PreflightFinding]:
    """Whether failover is possible: the brokers of FAILOVER_BROKERS are installed, and a drill passed recently."""
    from tbot_core.errors import TbotError
    from tbot_core.instance import load_settings
    from tbot_core.instance.preflight_subject import PreflightFinding
    from tbot_core.journal.projections import failover_drills
    from tbot_core.model.clock import SystemClock
    from tbot_core.status.failover import events_of, instance_brokers

    try:
        settings = load_settings(home, mode="replay", declared=plugins.declared)
        names = instance_brokers(settings)
        last = failover_drills.latest_drill(events_of(settings), names)
    except TbotError:
        return  # each of these faults has its own row
    for name in names[1:]:
        if name not in plugins.brokers:
            sentence = f"FAILOVER_BROKERS names {name}, but no such broker is installed."
            yield PreflightFinding(
                level="fail",
                subject="failover",
                message=sentence,
                remedy="Install it, or remove it from FAILOVER_BROKERS.",
            )
    if names[1:] and (words := failover_drills.drill_objection(last, SystemClock().now())):
        sentence = f"Failover is not available: {words}."
        yield PreflightFinding(
            level="warn", subject="failover", message=sentence, remedy="`tbot failover drill` tests it."
        )
    elif names[1:]:
        yield PreflightFinding(level="ok", subject="failover", message=f"Failover drill passed: {', '.join(names)}.")
