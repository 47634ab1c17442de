"""`tbot rehearse`: fault-injection test of the order engine in simulated scenarios, checked against invariants."""

from __future__ import annotations

import statistics
import sys
from collections import Counter
from contextlib import nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypedDict

import attrs
import click

from tbot_core.cli.options import BoundedInt, emit, home_option, json_option
from tbot_core.errors import UsageError
from tbot_core.model.formatting import plural

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Unpack

    from tbot_core.engine.rehearsal_target import RehearsalTarget
    from tbot_core.rehearsal.parallel import SeedReport
    from tbot_core.rehearsal.scenario_judge import ScenarioReport

_SEEDS: Final = 100
_DAYS: Final = 3
_HEADS: Final = (
    "scenario",
    "bare s",
    "uncounted",
    "emulated",
    "opposite",
    "phantom",
    "lost",
    "cancels",
    "ids",
    "held",
    "cash",
    "verdict",
)


class _RehearseOptions(TypedDict):
    # The options as click passes them.

    seeds: int | None
    first_seed: int
    fault: str
    feed: str | None
    minutes: float | None
    workers: int
    broker: str
    serve: bool
    opens_in: float | None
    outage: str
    session: str
    half_spread: float | None
    scenarios: bool
    names: tuple[str, ...]
    home: Path | None
    as_json: bool


@attrs.define
class RehearsalTally:
    """The totals of the seeds that are done, out of `asked`; `named` are the chosen faults.

    `broker` is the plugin whose days they are, "" for the simulated venues; `took_s` is their time, `venues` what its
    venue reports of each seed.
    """

    asked: int = 0
    named: tuple[str, ...] = ()
    broker: str = ""
    took_s: float = 0.0
    seeds: int = 0
    orders: int = 0
    fills: int = 0
    deaths: int = 0
    faults: Counter[str] = attrs.field(factory=Counter)
    settled_s: list[float] = attrs.field(factory=list)
    violations: dict[int, tuple[str, tuple[str, ...]]] = attrs.field(factory=dict)
    venues: dict[int, tuple[str, ...]] = attrs.field(factory=dict)

    def add(self, report: SeedReport) -> None:
        """Add one seed."""
        self.seeds += 1
        self.orders += report.orders
        self.fills += report.fills
        self.deaths += report.deaths
        self.faults.update(report.faults)
        self.settled_s += report.settled_s
        if report.venue:
            self.venues[report.seed] = report.venue
        if report.violations:
            self.violations[report.seed] = report.again, report.violations

    @property
    def median_s(self) -> float | None:
        """The median time from an unknown order outcome to its resolution, in seconds."""
        return statistics.median(self.settled_s) if self.settled_s else None

    @property
    def _page(self) -> str:
        return "testing-kit.md" if self.broker else "faults.md"

    def document(self) -> dict[str, Any]:
        """The figures as a JSON document."""
        return {
            **({"broker": self.broker, "took_s": self.took_s, "venues": self._reported()} if self.broker else {}),
            "sessions": self.seeds,
            "orders": self.orders,
            "fills": self.fills,
            "deaths": self.deaths,
            "faults": dict(sorted(self.faults.items(), key=_rank)),
            "unknown_resolved": len(self.settled_s),
            "median_resolved_s": self.median_s,
            "violations": [
                {"again": again, "violations": list(words)} for _, (again, words) in sorted(self.violations.items())
            ],
        }

    def lines(self) -> list[str]:
        """The figures as text."""
        from tbot_core.model.formatting import plural

        count = sum(self.faults.values())
        kinds = ", ".join(f"{name} x{times}" for name, times in self.document()["faults"].items())
        sessions = (
            f"{self.seeds:,} of {self.asked:,} sessions" if self.seeds != self.asked else plural(self.seeds, "session")
        )
        restarts = plural(self.deaths, "crash and restart", "crashes and restarts")
        idle = [name for name in self.named if not self.faults[name]]
        unused = f"{', '.join(idle)} did not occur: more --seeds or another --first-seed may trigger them"
        return [
            f"{sessions}, {plural(self.orders, 'order')}, {plural(self.fills, 'fill')}, {restarts}",
            f"{plural(count, 'fault')} injected: {kinds or 'none'}{f' (docs/reference/{self._page})' if kinds else ''}",
            *([unused] if idle else []),
            f"The simulated days took {self.took_s:.0f} s." if self.broker else self._resolved(),
            *(line for seed, lines in self.venues.items() for line in (f"The venue of seed {seed}:", *lines)),
            plural(len(self.violations), "violation"),
        ]

    def _reported(self) -> dict[str, list[str]]:
        return {str(seed): list(lines) for seed, lines in self.venues.items()}

    def _resolved(self) -> str:
        # The orders whose outcome was unknown for a time, in a sentence.
        from tbot_core.model.formatting import plural

        count = len(self.settled_s)
        if self.median_s is None:
            return "No order had an unknown outcome."
        were = "was" if count == 1 else "were"
        return f"{plural(count, 'order')} with unknown outcome {were} resolved, after {self.median_s:.1f} s (median)."


@click.command(name="rehearse")
@click.option("--seeds", type=BoundedInt(min=1), help="Number of scenarios. Default: 100, with --broker 3.")
@click.option("--first-seed", type=BoundedInt(min=0), default=0, show_default=True, help="Seed of the first scenario.")
@click.option("--fault", default="", metavar="F2,...", help="Only these faults, or none. Default: drawn from the seed.")
@click.option("--feed", type=click.Choice(["live", "minutes"]), help="The bot's feed. Default: drawn from the seed.")
@click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), help="Start no scenario after this many minutes."
)
@click.option("--workers", type=BoundedInt(1, 64), default=1, show_default=True, help="Number of workers (processes).")
@click.option("--broker", default="", metavar="NAME", help="Rehearse this installed broker plugin at its own venue.")
@click.option("--serve", is_flag=True, help="Serve the venue of --broker for one session, for `tbot run --rehearsal`.")
@click.option(
    "--opens-in",
    type=click.FloatRange(-380, 1440),
    metavar="MINUTES",
    help="When the session of --serve opens, from now; -21 for one that opened 21 minutes ago. Default: 2.",
)
@click.option(
    "--outage",
    default="",
    metavar="FROM..TO",
    help="Minutes after the open in which the streams of --serve are lost, as in 26..29.",
)
@click.option("--session", default="", metavar="DATE", help="Trade this stored session, or FROM..TO, with --broker.")
@click.option("--half-spread", type=click.FloatRange(min=0), metavar="CENTS", help="Bid and ask, with --session.")
@click.option("--scenarios", is_flag=True, help="Run the scenarios of the venue of --broker, or those that fit NAMES.")
@click.argument("names", nargs=-1)
@home_option
@json_option
def command(**given: Unpack[_RehearseOptions]) -> None:
    """Fault-injection test of the order engine: simulated scenarios with faults of venue, feed, clock and machine.

    Each scenario is checked against invariants. Only temporary folders are used; --home has an effect with --session
    alone. The same seed gives the same scenario. A violation is printed with the command that reproduces it, and ends
    the command with exit code 1.

    With --broker a scenario is a day of that plugin, at the venue that it offers for tests, over connections of this
    machine, with faults of its server and restarts. With --serve nothing is traded here: the venue waits for the
    commands of an instance where TBOT_REHEARSAL is set as printed; --first-seed is the seed of its prices. Installed
    filters and alert channels are served too where their plugins have a venue, and what arrives there is printed.

    With --session the plugin trades stored sessions of the instance, with its settings, at that venue. Decisions,
    orders, fills and trades are compared with a replay; differences are listed with their causes. With --seeds each
    session is traded again, once per seed, with faults; then only venue, journal and bot are compared.

    With --scenarios each scenario of the venue is one short day with one signal, and a row of a table: seconds without
    protection, as section "Scenarios of a venue" of the testing kit counts them, and what else must not happen. NAMES
    are patterns, as in 'stop: *'; without any all run but those marked full, with '*' these too.
    """
    if (given["opens_in"] is not None or given["outage"]) and not given["serve"]:
        raise UsageError("--opens-in and --outage are for --serve.", "See `tbot rehearse --help`.")
    if given["half_spread"] is not None and not given["session"]:
        raise UsageError("--half-spread has no effect without --session.", "See `tbot rehearse --help`.")
    if given["feed"] and (given["broker"] or given["serve"] or given["session"] or given["scenarios"]):
        raise UsageError("--feed is for the simulated venues, without --broker.", "See `tbot rehearse --help`.")
    if given["names"] and not given["scenarios"]:
        raise UsageError("Names of scenarios have no effect without --scenarios.", "See `tbot rehearse --help`.")
    if given["scenarios"]:
        _run_venue_scenarios(given)
        return
    if given["serve"]:
        _serve(given)
        return
    if given["session"]:
        _run_sessions(given)
        return
    tally = _run_days(given) if given["broker"] else _run_scenarios(given)
    emit(tally.document(), as_json=given["as_json"], lines=tally.lines())
    if tally.violations:
        sys.exit(1)


def scenario_document(broker: str, reports: Sequence[ScenarioReport], took_s: float) -> dict[str, Any]:
    """The reports as a JSON document."""
    return {
        "broker": broker,
        "took_s": round(took_s, 1),
        "scenarios": [attrs.asdict(report) for report in reports],
        "failed": sum(bool(report.violations) for report in reports),
        "reasons": dict(_reasons(reports)),
    }


def scenario_lines(reports: Sequence[ScenarioReport], took_s: float) -> list[str]:
    """The reports as a table, and how many failed for which reason."""
    rows = [_HEADS, *map(_cells, reports)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS) - 1)]
    table = [
        "  ".join((*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1])) for row in rows
    ]
    failed = sum(bool(report.violations) for report in reports)
    counts = [f"{count:5} {reason}" for reason, count in _reasons(reports)]
    return [*table, f"{plural(len(reports), 'scenario')} in {took_s:.0f} s, {failed} failed", *counts]


def _rank(item: tuple[str, int]) -> tuple[int, str]:
    # Faults of the simulation have numbers, those of a server names.
    name = item[0]
    return (int(name[1:]) if name[1:].isdigit() else 0), name


def _run_days(given: _RehearseOptions) -> RehearsalTally:
    # The days of a broker plugin, one after the other.
    from tbot_core.model.clock import SystemClock
    from tbot_core.rehearsal.broker_rehearsal import broker_plugin, rehearse_broker

    if given["fault"] or given["workers"] > 1:
        raise UsageError("--broker excludes --fault and --workers.", "Its faults are drawn from the seed.")
    _assert_creatable(given["broker"])
    plugin, clock, seeds = broker_plugin(given["broker"]), SystemClock(), given["seeds"] or _DAYS
    began, tally = clock.monotonic(), RehearsalTally(asked=seeds, broker=given["broker"])
    for seed in range(given["first_seed"], given["first_seed"] + seeds):
        if given["minutes"] is not None and clock.monotonic() - began >= given["minutes"] * 60:
            break
        report = rehearse_broker(plugin, seed).report
        tally.add(report)
        if report.violations:
            click.echo(f"{report.again}\n  " + "\n  ".join(report.violations), err=True)
    tally.took_s = clock.monotonic() - began
    return tally


def _run_sessions(given: _RehearseOptions) -> None:
    # Stored sessions of the instance at the venue of a broker plugin.
    from tbot_core.actions.session_rehearsals import SessionOptions, rehearse_sessions

    if not given["broker"] or given["fault"] or given["workers"] > 1 or given["minutes"] is not None:
        raise UsageError(
            "--session needs --broker NAME, and excludes --fault, --minutes and --workers.",
            "See `tbot rehearse --help`.",
        )
    _assert_creatable(given["broker"])
    first, count = given["first_seed"], given["seeds"] or 0
    options = SessionOptions(
        broker=given["broker"],
        sessions=given["session"],
        home=given["home"],
        half_spread_cents=given["half_spread"] or 0.0,
        seeds=range(first, first + count),
    )
    tally = rehearse_sessions(options)
    emit(tally.document(), as_json=given["as_json"], lines=tally.lines())
    if tally.violated:
        sys.exit(1)


def _run_venue_scenarios(given: _RehearseOptions) -> None:
    # The scenarios of the venue of a broker plugin.
    from tbot_core.model.clock import SystemClock
    from tbot_core.rehearsal import scenario_days
    from tbot_core.rehearsal.broker_rehearsal import broker_plugin

    others = (given["fault"], given["seeds"], given["minutes"], given["session"], given["serve"])
    if not given["broker"] or any(others):
        raise UsageError(
            "--scenarios needs --broker NAME, and excludes --seeds, --fault, --minutes, --session and --serve.",
            "See `tbot rehearse --help`.",
        )
    _assert_creatable(given["broker"])
    clock = SystemClock()
    began = clock.monotonic()
    offered = scenario_days.venue_scenarios(broker_plugin(given["broker"]))
    names = scenario_days.chosen_names(offered, given["names"])
    task = scenario_days.ScenarioBatch(broker=given["broker"], names=names)
    hidden = given["as_json"] or not sys.stderr.isatty()
    reports = {}
    with (
        click.progressbar(length=len(names), label="scenarios", file=sys.stderr, hidden=hidden) as bar,
        scenario_days.run_parallel(task, given["workers"]) as days,
    ):
        for report in days:
            reports[report.name] = report
            bar.update(1)
    found, took_s = [reports[name] for name in names], clock.monotonic() - began
    document = scenario_document(given["broker"], found, took_s)
    emit(document, as_json=given["as_json"], lines=scenario_lines(found, took_s))
    if document["failed"]:
        sys.exit(1)


def _serve(given: _RehearseOptions) -> None:
    # The venue of a broker plugin at the real pace, until some minutes after its session.
    from tbot_core.engine.rehearsal_target import LEAD
    from tbot_core.model.clock import SystemClock
    from tbot_core.rehearsal.broker_rehearsal import broker_plugin
    from tbot_core.rehearsal.venue_service import ServedDay, serve_venue

    others = (given["fault"], given["seeds"], given["minutes"], given["workers"] > 1, given["session"])
    if not given["broker"] or any(others):
        raise UsageError(
            "--serve needs --broker NAME, and excludes --seeds, --fault, --minutes, --workers and --session.",
            "See `tbot rehearse --help`.",
        )
    lead = LEAD if given["opens_in"] is None else timedelta(minutes=given["opens_in"])
    opens = (SystemClock().now() + lead).replace(microsecond=0)

    def announce(target: RehearsalTarget) -> None:
        document = {"broker": given["broker"], "rehearsal": target.text, "opens": target.opens.isoformat()}
        verb = "opened" if lead < timedelta() else "opens"
        emit(document, as_json=given["as_json"], lines=_announcement(given["broker"], target, verb))

    def tell(lines: tuple[str, ...]) -> None:
        for line in lines:
            click.echo(line, err=given["as_json"])

    served = ServedDay(opens=opens, seed=given["first_seed"], outage=_minutes(given["outage"]))
    serve_venue(broker_plugin(given["broker"]), served, announce, tell)


def _minutes(text: str) -> range:
    # The minutes of --outage, none for "".
    first, _, last = text.partition("..")
    if not text:
        return range(0)
    if not (first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise UsageError(f"--outage {text} is not a range of minutes.", "Give minutes after the open, as in 20..23.")
    return range(int(first), int(last))


def _announcement(broker: str, target: RehearsalTarget, verb: str) -> list[str]:
    from tbot_core.instance.folder import REHEARSAL_VARIABLE

    return [
        f"The venue of {broker} is open; its session {verb} at {target.opens:%H:%M:%S} UTC of this machine's clock.",
        "In another terminal, for an instance with this broker:",
        f"  export {REHEARSAL_VARIABLE}='{target.text}'",
        "  tbot broker test",
        "  tbot run",
        "Ctrl-C ends the venue.",
    ]


def _assert_creatable(name: str) -> None:
    # A plugin that a run would refuse is named as there, before a day begins.
    from tbot_core.plugins import discovery
    from tbot_core.plugins.failure import plugins_failed_error
    from tbot_core.plugins.probe import probe_plugin

    for listing in discovery.installed_plugins():
        if (listing.entry.kind, listing.entry.name) == ("broker", name):
            if failure := probe_plugin(listing.entry).failure:
                raise plugins_failed_error((failure,))
            return


def _run_scenarios(given: _RehearseOptions) -> RehearsalTally:
    from tbot_core.model.clock import SystemClock
    from tbot_core.rehearsal.parallel import SeedBatch, run_batch, run_parallel

    names = _names(given["fault"])
    seeds = given["seeds"] or _SEEDS
    last = given["first_seed"] + seeds
    live = None if given["feed"] is None else given["feed"] == "live"
    task = SeedBatch(first=given["first_seed"], last=last, faults=names, minutes=given["minutes"], live=live)
    tally = RehearsalTally(asked=seeds, named=names or ())
    hidden = given["as_json"] or not sys.stderr.isatty()
    with (
        click.progressbar(length=seeds, label="seeds", file=sys.stderr, hidden=hidden) as bar,
        run_parallel(task, given["workers"])
        if given["workers"] > 1
        else nullcontext(run_batch(task, SystemClock())) as worlds,
    ):
        for report in worlds:
            tally.add(report)
            bar.update(1)
            if report.violations:
                click.echo(f"{report.again}\n  " + "\n  ".join(report.violations), err=True)
    return tally


def _names(text: str) -> tuple[str, ...] | None:
    # The chosen faults; None: they are drawn from the seed.
    from tbot_core.rehearsal.faults import parse_fault_ids

    if not text:
        return None
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise UsageError(f"--fault {text!r} contains no fault.", "Give at least one, as in F2,F5, or none.")
    return parse_fault_ids([] if names == ["none"] else names)


def _cells(one: ScenarioReport) -> tuple[str, ...]:
    held = ("STUCK, paged" if one.paged else "STUCK") if one.stuck else "not reported"
    return (
        one.name,
        f"{one.longest_bare_s:.1f}",
        f"{one.uncounted_s:.1f}",
        f"{one.emulated_s:.1f}",
        *(str(count or "-") for count in (one.opposite, one.phantoms, one.lost, one.cancels, one.second_ids)),
        held if one.held else "-",
        "equal" if one.cash_equal else "DIFFERS",
        _verdict(one),
    )


def _verdict(one: ScenarioReport) -> str:
    unmet = "" if one.faults_met else " (the fault did not occur)"
    return f"FAILED{unmet}: {'; '.join(one.violations)}" if one.violations else f"passed{unmet}"


def _reasons(reports: Sequence[ScenarioReport]) -> list[tuple[str, int]]:
    # How many failed for a reason, the most frequent first; figures in a reason are left out.
    found = Counter(
        reason for report in reports for reason in sorted({words.partition(" for ")[0] for words in report.violations})
    )
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))
