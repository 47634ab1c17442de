"""Log, notifications, and the groups besides the path of a bar."""

from __future__ import annotations

from decimal import Decimal

import attrs

from tbot_core.contracts.setting import (
    Permits,
    boolean,
    choice,
    duration,
    fraction,
    names,
    optional,
    percent,
    setting,
    text,
)


@attrs.frozen(kw_only=True)
class GeneralSettings:
    """Version, log and build mode."""

    version_tag: str | None = setting(
        "VERSION_TAG",
        optional(text(pattern=r"v?[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}", allowed="a version such as v1.0.0")),
        default="",
        doc="The version that the file was written for: another major version is an error, another minor or patch "
        "version a warning; empty is not checked.",
        changes_trades=False,
    )
    build_mode: str = setting(
        "BUILD_MODE",
        choice("debug", "release"),
        default="release",
        doc="Debug shows whole tracebacks and runs assertions; release keeps tracebacks in the log.",
        changes_trades=False,
        permits=Permits("unless", ("release",), why="More of the program is shown in an error."),
    )
    debug_log_level: str = setting(
        "DEBUG_LOG_LEVEL",
        choice("quiet", "info", "verbose"),
        default="info",
        doc="Log level.",
        changes_trades=False,
        permits=Permits("unless", ("info", "verbose"), why="Less is logged."),
    )
    enable_logging: bool = setting(
        "ENABLE_LOGGING",
        boolean(),
        default="true",
        doc="Whether log files are written to logs/ and rotated into backups/; standard error and the journal are "
        "not affected.",
        changes_trades=False,
        permits=Permits("unless", ("true",), why="No log files are kept."),
    )
    log_format: str = setting(
        "LOG_FORMAT",
        choice("json", "csv"),
        default="json",
        doc="Format of the log files.",
        changes_trades=False,
        permits=Permits("none"),
    )


@attrs.frozen(kw_only=True)
class RebalanceSettings:
    """Trimming positions back to their share of equity, and the notice about the cash share."""

    rebalance_enabled: bool = setting(
        "REBALANCE_ENABLED",
        boolean(),
        default="false",
        doc="Whether positions that outgrow their share of equity are trimmed back to it.",
        permits=Permits(why="Positions are trimmed, or no longer."),
    )
    rebalance_threshold: Decimal = setting(
        "REBALANCE_THRESHOLD",
        fraction(),
        default="0.10",
        doc="Deviation from a position's target share, as a fraction of that target, beyond which it is trimmed.",
    )
    rebalance_check_interval: float = setting(
        "REBALANCE_CHECK_INTERVAL",
        duration(least="60s", most="24h", bare="s"),
        default="3600",
        doc="Seconds between two checks, counted from the opening bell.",
    )
    rebalance_top_up: bool = setting(
        "REBALANCE_TOP_UP",
        boolean(),
        default="false",
        doc="Whether a position below its share is also topped up: never below its entry price, in defense, or near "
        "its exit, and never when entries need a confirmation.",
        permits=Permits("unless", ("false",), why="Positions may be enlarged."),
    )
    enable_rebalance_notifier: bool = setting(
        "ENABLE_REBALANCE_NOTIFIER",
        boolean(),
        default="false",
        doc="Whether an alert and an accounting record report that the cash share of equity has left its target.",
        changes_trades=False,
        permits=Permits("unless", ("true",), why="Fewer alerts are sent."),
    )
    rebalance_trigger_pct: Decimal = setting(
        "REBALANCE_TRIGGER_PCT",
        percent(),
        default="10",
        doc="Deviation of the cash share of equity, in percentage points, that is reported.",
        changes_trades=False,
        permits=Permits("larger", why="Fewer alerts are sent."),
    )


@attrs.frozen(kw_only=True)
class FailoverSettings:
    """Sending new entries to another broker."""

    failover_enabled: bool = setting(
        "FAILOVER_ENABLED",
        boolean(),
        default="false",
        doc="Whether new entries may go to the next healthy broker when the first one fails.",
        permits=Permits("unless", ("false",), why="Entries may go to another broker."),
    )
    failover_log_tag: str = setting(
        "FAILOVER_LOG_TAG",
        text(pattern=r"[A-Za-z][A-Za-z0-9_]{0,31}", allowed="a word of letters, digits and _, at most 32 long"),
        default="FAILOVER_ACTIVE",
        doc="Tag of trades that another broker took over.",
        changes_trades=False,
        permits=Permits("none"),
    )
    failover_brokers: tuple[str, ...] = setting(
        "FAILOVER_BROKERS",
        names(case="lower"),
        default="",
        doc="The other brokers, in order; empty means no failover.",
        permits=Permits("unless", ("",), why="Entries may go to other brokers, or in another order."),
    )

    @property
    def standbys(self) -> tuple[str, ...]:
        """The brokers that may take over, in their order; without FAILOVER_ENABLED none."""
        return self.failover_brokers if self.failover_enabled else ()


@attrs.frozen(kw_only=True)
class NotificationSettings:
    """Which events are reported, where and when."""

    notify_on_fill: bool = setting(
        "NOTIFY_ON_FILL",
        boolean(),
        default="true",
        doc="Whether an alert is sent for the fill of an entry.",
        changes_trades=False,
        permits=Permits("unless", ("true",), why="Fewer alerts are sent."),
    )
    notify_on_exit: bool = setting(
        "NOTIFY_ON_EXIT",
        boolean(),
        default="true",
        doc="Whether an alert is sent for an exit.",
        changes_trades=False,
        permits=Permits("unless", ("true",), why="Fewer alerts are sent."),
    )
    notify_on_failure: bool = setting(
        "NOTIFY_ON_FAILURE",
        boolean(),
        default="true",
        doc="Whether alerts are sent for routine failures; critical alerts are always sent.",
        changes_trades=False,
        permits=Permits("unless", ("true",), why="Fewer alerts are sent."),
    )
    critical_alert_channel: tuple[str, ...] = setting(
        "CRITICAL_ALERT_CHANNEL",
        names(case="lower", empty=False),
        default="console",
        doc="Alert plugins for critical events, separated by commas; each gets all of them.",
        changes_trades=False,
        permits=Permits(why="Alerts go to others than before, or to fewer."),
    )
    routine_alert_channel: tuple[str, ...] = setting(
        "ROUTINE_ALERT_CHANNEL",
        names(case="lower", empty=False),
        default="console",
        doc="Alert plugins for routine events, separated by commas; each gets all of them.",
        changes_trades=False,
        permits=Permits(why="Alerts go to others than before, or to fewer."),
    )
    alert_quiet_hours: str = setting(
        "ALERT_QUIET_HOURS",
        text(
            pattern=r"(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]-(?:[01][0-9]|2[0-3]):[0-5][0-9])?",
            allowed="a span HH:MM-HH:MM of New York time, or empty",
        ),
        default="",
        doc="Time span (New York) in which routine alerts are held back; empty for none.",
        changes_trades=False,
        permits=Permits("unless", ("",), why="Alerts are held back."),
    )


@attrs.frozen(kw_only=True)
class LedgerSettings:
    """How closed trades are booked and exported."""

    ledger_export_mode: str = setting(
        "LEDGER_EXPORT_MODE",
        choice("auto", "off"),
        default="off",
        doc="Auto exports each closed trade of paper and live trading at once, as CSV in reports/ledger.",
        changes_trades=False,
        permits=Permits("unless", ("auto",), why="Closed trades are not exported."),
    )
    lot_method: str = setting(
        "LOT_METHOD",
        choice("fifo", "lifo", "hifo", "specific"),
        default="fifo",
        doc="Which lots a sale closes in the ledger.",
        changes_trades=False,
        acted_on=False,
    )
