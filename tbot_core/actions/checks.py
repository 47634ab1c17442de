"""Checks of an instance before it trades, one row per finding; a start runs the same checks."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.actions import Notify, discard
from tbot_core.actions.assembly import SIMULATED, action_clock
from tbot_core.actions.config import check_config
from tbot_core.actions.plugin_checks import (
    alert_findings,
    fact_findings,
    market_cap_findings,
    vix_findings,
    warning_findings,
)
from tbot_core.actions.plugin_declarations import PluginDeclarations, plugin_declarations
from tbot_core.actions.plugins import broker_capabilities, plugin_listings
from tbot_core.contracts import BrokerCapabilities, FeedCoverage
from tbot_core.errors import AccessError, SettingsError, TbotError
from tbot_core.instance import (
    ExaminedSettings,
    Instance,
    Mode,
    Settings,
    SettingsFiles,
    examine_settings,
    load_settings,
    read_settings_files,
)
from tbot_core.instance.control_folder import known_control_folder
from tbot_core.instance.findings import LEVELS, Level, SettingsFinding
from tbot_core.instance.preflight import APPROVAL, OF_SETTINGS, PreflightFinding, PreflightSubject, preflight_findings
from tbot_core.instance.secrets import account_mode
from tbot_core.instance.sources import deployment_of, keep_opened_settings
from tbot_core.model.clock import SystemClock
from tbot_core.model.formatting import plural
from tbot_core.plugins import discovery, lock
from tbot_core.plugins.distributions import keep_fingerprints
from tbot_core.plugins.probe import probe_plugin
from tbot_core.status.risk_state import folder_exposure, folder_warnings, read_control_folder
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path


_REFUSED: Final = 3
_ON_PAPER: Final = frozenset({"dry-run", "paper"})
_CREATION: Final = frozenset({"config", "create"})
_FATAL: Final = frozenset({"secrets", "audit", "journal", "machine"})


@attrs.frozen(kw_only=True)
class CheckResult:
    """The findings of a check, failures first; with `strict` warnings are failures too."""

    rows: tuple[PreflightFinding, ...]
    strict: bool = False

    @property
    def failed(self) -> tuple[PreflightFinding, ...]:
        """The findings that are failures."""
        return tuple(row for row in self.rows if row.level == "fail" or (self.strict and row.level == "warn"))

    def document(self) -> dict[str, Any]:
        """The result as a JSON document."""
        return {"passed": not self.failed, "rows": [row.document for row in self.rows]}

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        return check_outcome(["fail" if row in self.failed else row.level for row in self.rows])

    @property
    def code(self) -> int:
        """The exit code: 0 without a failure, else the highest of the failures."""
        return max((row.exit_code for row in self.failed), default=0)


def check_outcome(levels: Sequence[str]) -> str:
    """The result of `tbot check` in one sentence, from the levels of its rows."""
    notes = f", {plural(levels.count('note'), 'note')}" if "note" in levels else ""
    counts = f"{levels.count('ok')} ok{notes}, {plural(levels.count('warn'), 'warning')}"
    failed = levels.count("fail")
    return (
        f"`tbot check` failed: {plural(failed, 'failure')}, {counts}." if failed else f"`tbot check` passed: {counts}."
    )


class SettingsExaminer:
    """Settings files with the plugins that they enable, examined as at a start: once for each mode."""

    def __init__(self, home: Path | None, plugins: PluginDeclarations, sources: SettingsFiles | None = None) -> None:
        self._home, self._plugins, self._sources = home, plugins, sources
        self._known: dict[Mode, ExaminedSettings] = {}

    def examined(self, mode: Mode) -> ExaminedSettings:
        """The examination for a start in this mode."""
        if mode not in self._known:
            declared, sources = self._plugins.declared, self._sources
            self._known[mode] = examine_settings(self._home, mode=mode, declared=declared, sources=sources)
        return self._known[mode]

    def settings(self, mode: Mode) -> Settings | None:
        """The settings; None for those that a start in this mode refuses: each of their faults has a row of its own."""
        try:
            return self.examined(mode).settings
        except TbotError:
            return None

    def start_mode(self) -> Mode:
        """The mode in which a start would trade: live if the broker's section of the secrets says so, else paper."""
        try:
            settings = self.settings("replay")
            return "live" if settings is not None and account_mode(settings) == "live" else "paper"
        except TbotError:
            return "paper"  # each of these faults has its own row


def check_with_broker(
    home: Path | None,
    *,
    allow_shared_key: bool = False,
    strict: bool = False,
    progress: Notify = discard,
    notify: Notify = discard,
) -> CheckResult:
    """Check the instance, and unless something fails also the broker, which is reached as by `tbot broker test`.

    `progress` gets the names of plugins that are tried, `notify` what `action_clock` says.
    """
    with keep_opened_settings(), keep_fingerprints():
        findings = check_instance(home, allow_shared_key=allow_shared_key, progress=progress)
        if any(row.level == "fail" for row in findings):
            action_clock(notify)
        else:
            findings = _with_broker(findings, tuple(_reached_findings(home, notify)))
    return CheckResult(rows=findings, strict=strict)


def check_created(home: Path | None, progress: Notify = discard) -> tuple[CheckResult, bool]:
    """Check an instance that was just made, and whether its plugins are still to be approved.

    To approve them is the next step to live trading, no failure of what was made.
    """
    findings = check_instance(home, progress=progress)
    rows = tuple(row for row in findings if row.level != "fail" or row.remedy != APPROVAL)
    return CheckResult(rows=rows), len(rows) < len(findings)


def check_instance(
    home: Path | None, *, allow_shared_key: bool = False, progress: Notify = discard
) -> tuple[PreflightFinding, ...]:
    """Every finding about the instance, failures first: as a start would judge it, live or on paper by its secrets."""
    instance = Instance.at(home)
    sources = read_settings_files(instance)
    plugins = plugin_declarations(home, sources=sources)
    examiner = SettingsExaminer(home, plugins, sources)
    mode = examiner.start_mode()
    subject = PreflightSubject(
        instance=instance,
        sources=sources,
        now=SystemClock().now(),
        strict=mode == "live",
        allow_shared_key=allow_shared_key,
        declared=plugins.declared,
        installed=plugins.installed,
    )
    about_settings = check_config(home, mode, plugins, examiner.examined(mode))
    rows = preflight_findings(subject) if filesystem.is_folder(instance.home) else ()
    secrets = {str(row) for row in rows if row.subject == "secrets"}  # a file that cannot be opened has its row there
    findings = [
        PreflightFinding(level=finding.level, subject="settings", message=str(finding))
        for finding in about_settings
        if finding.message not in secrets
    ]
    if not filesystem.is_folder(instance.home):
        return tuple(findings)  # that there is no folder is all that can be found
    findings += [
        *rows,
        *control_folder_findings(instance),
        *_creation_findings(home, plugins),
        *_enabled_plugin_findings(examiner, plugins, progress, live=mode == "live"),
    ]
    return tuple(sorted(findings, key=lambda row: LEVELS.index(row.level)))


def start_faults(home: Path | None, sources: SettingsFiles) -> tuple[SettingsFinding, ...]:
    """Why a start with these settings files, which may be yet to be written, would fail; empty where it would not.

    Judged as by `tbot check` and the start itself, live or on paper by the secrets: settings, the plugins and secrets
    that they need, folders, feed and failover. What no setting changes is left out.
    """
    plugins = plugin_declarations(home, sources=sources)
    examiner = SettingsExaminer(home, plugins, sources)
    mode = examiner.start_mode()
    subject = PreflightSubject(
        instance=Instance.at(home),
        sources=sources,
        now=SystemClock().now(),
        strict=mode == "live",
        declared=plugins.declared,
        installed=plugins.installed,
    )
    rows = _fatal(preflight_findings(subject, OF_SETTINGS), mode)
    settings = examiner.settings("replay")
    if settings is not None:
        others = (*_feed_findings(settings, plugins, live=mode == "live"), *_failover_findings(settings))
        rows += [row for row in others if row.level == "fail"]
    return (
        *(finding for finding in check_config(home, mode, plugins, examiner.examined(mode)) if finding.level == "fail"),
        *(SettingsFinding(level="fail", message=str(row)) for row in rows),
    )


def _fatal(rows: Iterable[PreflightFinding], mode: Mode) -> list[PreflightFinding]:
    # Those that end a start in this mode; it only warns of the others.
    failed = (row for row in rows if row.level == "fail")
    return [row for row in failed if mode == "live" or (mode in _ON_PAPER and row.subject in _FATAL)]


def _with_broker(
    found: tuple[PreflightFinding, ...], reached: tuple[PreflightFinding, ...]
) -> tuple[PreflightFinding, ...]:
    # What the account has replaces what the plugin declares about the feed.
    known = any(row.subject == "feed" for row in reached)
    rows = [row for row in found if row.level != "ok" or row.subject != "feed" or not known]
    return tuple(sorted([*rows, *reached], key=lambda row: LEVELS.index(row.level)))


def _reached_findings(home: Path | None, notify: Notify = discard) -> Iterator[PreflightFinding]:
    # What a login at the broker of the settings finds; none for the simulator.
    # A broker that refuses or does not answer is a warning: a bot that starts again manages its positions all the same.
    instance, remedy = Instance.at(home), "`tbot broker test` tries it again."
    if load_settings(home, mode="replay").trading.broker_name == SIMULATED.lower():
        return
    from tbot_core.actions.trials import SHORTS, connect_broker

    try:
        name, findings = connect_broker(instance, notify=notify)
    except TbotError as fault:
        yield PreflightFinding(level="warn", subject="broker", message=f"The broker was not tried: {fault}")
        return
    for finding in findings:
        message = f"{name}, {finding.subject}: {finding.words.rstrip('.')}."
        level: Level = "ok" if finding.level == "ok" else "warn"
        subject = "feed" if finding.subject == "feed" else "broker"
        tried = "" if level == "ok" or finding.subject == SHORTS else remedy
        yield PreflightFinding(level=level, subject=subject, message=message, remedy=tried)


def _enabled_plugin_findings(
    examiner: SettingsExaminer, plugins: PluginDeclarations, progress: Notify = discard, *, live: bool
) -> Iterator[PreflightFinding]:
    # Every finding about what the enabled plugins can do now; none with settings that a run refuses.
    settings = examiner.settings("replay")
    if settings is None:
        return
    yield from warning_findings(settings, plugins)
    yield from _broker_findings(settings, plugins, progress)
    yield from _feed_findings(settings, plugins, live=live)
    yield from fact_findings(settings, plugins)
    yield from market_cap_findings(settings, plugins, progress)
    yield from vix_findings(settings, plugins, progress)
    yield from _failover_findings(settings)
    paper = examiner.settings("paper")
    if paper is not None:
        yield from alert_findings(paper, plugins)


def control_folder_findings(instance: Instance) -> Iterator[PreflightFinding]:
    """The control folder of the running bot: its permissions, and the requests in it."""
    instance = known_control_folder(instance)
    folder = instance.control
    exposure = folder_exposure(folder)
    if exposure:
        yield PreflightFinding(
            level="fail", subject="requests", message=exposure, remedy=_control_remedy(folder), exit_code=1
        )
    warnings = folder_warnings(read_control_folder(folder), running=True, folder=instance.control_dir)
    yield from (PreflightFinding(level="warn", subject="requests", message=sentence) for sentence in warnings)
    if not (exposure or warnings):
        yield PreflightFinding(level="ok", subject="requests", message="No request blocks trading.")


def _control_remedy(folder: Path) -> str:
    # No mode makes a file a folder; what cannot be looked at is a matter of modes.
    with suppress(AccessError):
        if not filesystem.is_folder(folder):
            return f"A file has the name of this folder: move {folder} away, or set another CONTROL_DIR."
    return f"chmod 700 {folder}"


def _creation_findings(home: Path | None, plugins: PluginDeclarations) -> Iterator[PreflightFinding]:
    # The enabled plugins that cannot be created, which a run refuses.
    # Those that cannot be loaded are in the settings. A recorded failure is tried again: what a plugin requires may
    # have
    # changed since.
    listings, trial_records, _ = plugin_listings(home, settings={})  # `plugins` says which are enabled
    for listing in listings:
        record = trial_records.of(listing.entry)
        is_enabled = (listing.entry.kind, listing.entry.name) in plugins.enabled
        if not is_enabled or record is None or record.phase not in _CREATION:
            continue
        if failure := probe_plugin(listing.entry).failure:
            name = f"{failure.kind}/{failure.name}"
            remedy = f"Fix it, or remove it from the settings; `tbot plugins info {name}` shows more."
            yield PreflightFinding(level="fail", subject="plugins", message=failure.sentence, remedy=remedy)


def _broker_findings(settings: Settings, plugins: PluginDeclarations, progress: Notify) -> Iterator[PreflightFinding]:
    # The capabilities of the enabled broker that differ from the default, in one row.
    name = settings.trading.broker_name
    declared = broker_capabilities(name, settings.instance.home, progress) if name in plugins.brokers else None
    if declared is not None:  # a broker that cannot be created has its own row
        usual = BrokerCapabilities().matrix
        words = ", ".join(f"{one}={value}" for one, value in declared.items() if value != usual.get(one))
        message = f"Capabilities of {name} that differ from the default: {words or 'none'}."
        remedy = f"`tbot plugins info broker/{name}` shows all."
        yield PreflightFinding(level="ok", subject="broker", message=message, remedy=remedy)


def _feed_findings(settings: Settings, plugins: PluginDeclarations, *, live: bool) -> Iterator[PreflightFinding]:
    # The coverage that the live feed declares; no row without a live feed.
    try:
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


def _failover_findings(settings: Settings) -> Iterator[PreflightFinding]:
    # Whether failover is possible: a drill with the brokers passed recently.
    try:
        names = settings.brokers
        if not names[1:]:
            return
        from tbot_core.journal.projections import failover
        from tbot_core.status.failover import events_of

        last = failover.latest_drill(events_of(settings), names)
    except TbotError:
        return  # each of these faults has its own row
    if words := failover.drill_objection(last, SystemClock().now()):
        sentence = f"Failover is not available: {words}."
        yield PreflightFinding(
            level="warn", subject="failover", message=sentence, remedy="`tbot failover drill` tests it."
        )
    else:
        yield PreflightFinding(level="ok", subject="failover", message=f"Failover drill passed: {', '.join(names)}.")


def assert_start(
    instance: Instance,
    sources: SettingsFiles,
    mode: Mode,
    *,
    allow_shared_key: bool = False,
    warn: Notify = discard,
) -> None:
    """The same checks before a run: a fault that blocks trading is raised, the others are warnings.

    On paper in production so is what live trading would refuse. A simulation starts in spite of faults. No plugin is
    loaded yet: what a plugin needs is judged when it is. Raises SettingsError, or AccessError for a damaged log or an
    unfit machine.
    """
    subject = PreflightSubject(
        instance=instance,
        sources=sources,
        now=SystemClock().now(),
        strict=mode == "live",
        allow_shared_key=allow_shared_key,
        installed=frozenset((plugin.entry.kind, plugin.entry.name) for plugin in discovery.installed_plugins()),
    )
    rows = preflight_findings(subject)
    failed = [row for row in rows if row.level == "fail"]
    if fatal := _fatal(failed, mode):
        kind = SettingsError if any(row.exit_code == _REFUSED for row in fatal) else AccessError
        raise kind("\n".join(str(row) for row in fatal), "`tbot check` shows every finding.")
    for row in failed:
        warn(str(row))
    if mode in _ON_PAPER and deployment_of(sources.env.parsed).environment == "production":
        loose = [row for row in rows if row.level == "warn" and row.refused_live]
        plugins = [row.message for row in loose if row.subject == "plugins"]
        for sentence in (*(str(row) for row in loose if row.subject != "plugins"), lock.refusal_sentence(plugins)):
            if sentence:
                warn(sentence)
