"""The command line: `tbot`, a click group that imports a command only when it is called."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import click

from tbot_core.errors import AccessError, TbotError, UsageError
from tbot_core.system import terminal
from tbot_core.system.signals import INTERRUPTED
from tbot_core.system.terminal import guarded_streams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.plugins.discovery import PluginListing

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "run": ("tbot_core.cli.commands.run:command", "Trade simulated sessions, stored sessions or the live market."),
    "init": ("tbot_core.cli.commands.init:command", "Create an instance: folders, keys, encrypted settings."),
    "check": ("tbot_core.cli.commands.check:check", "Check keys, files, settings, plugins, logs and the machine."),
    "status": ("tbot_core.cli.commands.status:command", "Show the session, positions and orders."),
    "stop": ("tbot_core.cli.commands.control:stop_command", "Graceful stop; --cancel undoes it."),
    "kill": ("tbot_core.cli.commands.control:kill_command", "Block all entries at once; --clear undoes it."),
    "service": (
        "tbot_core.cli.commands.control:service",
        "Keep `tbot run` going under a supervisor: start, stop, status.",
    ),
    "confirm": (
        "tbot_core.cli.commands.control:confirm_command",
        "List entries that need a confirmation; confirm or reject one.",
    ),
    "arm": ("tbot_core.cli.commands.control:arm_command", "Arm live trading for one or more sessions."),
    "disarm": ("tbot_core.cli.commands.control:disarm_command", "Disarm: block live entries."),
    "defense": ("tbot_core.cli.commands.control:defense", "Reduced-risk mode: on, off, status."),
    "failover": (
        "tbot_core.cli.commands.failover:command",
        "Broker failover: drill, status, confirm exposure.",
    ),
    "broker": ("tbot_core.cli.commands.check:broker", "Test the connection to a broker; no order is sent."),
    "why": ("tbot_core.cli.commands.decisions:why_command", "Explain every decision on a symbol."),
    "drift": (
        "tbot_core.cli.commands.decisions:drift_command",
        "Compare a day's trades with a shadow run of what it received.",
    ),
    "calendar": ("tbot_core.cli.commands.calendar:command", "Show sessions and strategy windows."),
    "screen": ("tbot_core.cli.commands.decisions:screen_command", "Screen the symbols before the bell, with reasons."),
    "backtest": ("tbot_core.cli.commands.backtest:command", "Backtest a range of stored sessions."),
    "rehearse": ("tbot_core.cli.commands.rehearse:command", "Fault-injection test of the order engine."),
    "data": ("tbot_core.cli.commands.data:command", "Import, download, list and verify stored bars."),
    "config": (
        "tbot_core.cli.commands.config:command",
        "Check, show, explain, compare, edit and encrypt the settings.",
    ),
    "plugins": ("tbot_core.cli.commands.plugins:command", "List, inspect, check, verify, lock and write plugins."),
    "secrets": ("tbot_core.cli.commands.secrets:command", "Show, verify and edit secrets; rotate their keys."),
    "alerts": (
        "tbot_core.cli.commands.alerts:command",
        "Test the alert channels, list alerts, acknowledge them.",
    ),
    "audit": ("tbot_core.cli.commands.audit:command", "Verify the hash chains of journals and secrets log."),
}
"""The commands of the core: "module:object", and the line in `tbot --help`."""

_HARDENED: Final = frozenset({
    "alerts", "arm", "audit", "broker", "check", "config", "data", "drift", "failover", "init", "run", "screen",
    "secrets", "service",
})  # fmt: skip
"""Commands that hold secrets in memory. The process is hardened before they start."""


class LazyGroup(click.Group):
    """The commands of the core from a table, then those of plugins from their metadata."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  -- click's signature
        """The names in the order of the help: first those of the core, then those of plugins."""
        return [*COMMANDS, *self._plugin_commands()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  -- likewise
        """Import the named command; None for an unknown name."""
        if cmd_name in COMMANDS:
            module, _, name = COMMANDS[cmd_name][0].partition(":")
            command: click.Command = getattr(_import(module), name)
            return command
        listing = self._plugin_commands().get(cmd_name)
        return None if listing is None else _load_plugin_command(listing)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve a name as click does, and suggest the nearest names without loading a command."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as fault:
            names = self.list_commands(ctx)
            raise click.NoSuchCommand(fault.command_name, possibilities=names, ctx=ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command as click does. A broken pipe other than standard output is an error, not a silent exit."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as fault:
            raise ConnectionError(str(fault)) from fault

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  -- likewise
        """Write the command list of the help from the table and the metadata; no command is imported."""
        plugin_commands = self._plugin_commands(warn=True)
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])
        if plugin_commands:
            with formatter.section("Plugin commands"):
                formatter.write_dl(
                    [(name, f"From {it.entry.dist} {it.entry.version}.") for name, it in plugin_commands.items()]
                )

    def _plugin_commands(self, *, warn: bool = False) -> dict[str, PluginListing]:
        # The commands of plugins by name; with `warn` each refused one is named on standard error.
        from tbot_core.plugins.discovery import installed_commands

        usable, refused = {}, []
        for listing in installed_commands(reserved=COMMANDS):
            if listing.state == "available":
                usable[listing.entry.name] = listing
            else:
                refused.append(listing)
        if warn:
            for listing in refused:
                click.echo(f"tbot: command {listing.entry.name} is refused: {listing.reason}", err=True)
        return usable


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="tbot-core", message="tbot %(version)s")
def group() -> None:
    """An intraday trading bot for US equities that explains every decision.

    Try it without any settings: `tbot run --demo`.
    """


def invoke(args: Sequence[str], *, state: object = None) -> int:
    """Run one command line and return its exit code. An error is printed as one sentence on standard error."""
    try:
        _refuse_empty(args)
        color = None if terminal.allows_style() else False
        outcome = group.main(args=args, prog_name="tbot", standalone_mode=False, obj=state, color=color)
    except TbotError as fault:
        print_error(fault.message, fault.remedy)
        return fault.exit_code
    except click.Abort as fault:
        interrupted = isinstance(fault.__cause__ or fault.__context__, KeyboardInterrupt)
        print_error("Stopped." if interrupted else "Aborted; nothing was changed.")
        return INTERRUPTED if interrupted else 1
    except click.exceptions.NoArgsIsHelpError as fault:
        fault.show()
        return fault.exit_code
    except click.ClickException as fault:
        context = getattr(fault, "ctx", None)
        path = "tbot" if context is None else context.command_path
        remedy = f"See `{path} --help`."
        if isinstance(fault, click.NoSuchOption) and fault.option_name == "--home":
            remedy = f"--home follows the subcommand: `{path} COMMAND --home DIR`."
        print_error(fault.format_message(), remedy)
        return fault.exit_code
    return outcome if isinstance(outcome, int) else 0


def _refuse_empty(args: Sequence[str]) -> None:
    # An empty text, as from an unset shell variable, would mean what leaving the option out means, or any name.
    for place, word in enumerate(args):
        name, joined, value = word.partition("=") if word.startswith("--") else ("", "", word)
        if value.strip() or (name and not joined):
            continue
        before = args[place - 1] if place else ""
        subject = name or (before if before.startswith("-") and "=" not in before else "An argument")
        raise UsageError(f"{subject} {value!r} is empty.", "Give a value, or leave it out.")


def main() -> int:
    """Run the command line of this process."""
    try:
        with guarded_streams():
            return _run()
    except AccessError as fault:  # standard output is closed, or the last output could not be written
        print_error(fault.message, fault.remedy)
        return fault.exit_code


def _run() -> int:
    from tbot_core.cli.crash_report import CrashReporter

    if _HARDENED.intersection(sys.argv[1:2]):
        from tbot_core.system.secure_memory import harden

        for sentence in harden():
            print_error(sentence)
    reporter = CrashReporter()
    sys.excepthook = reporter.report
    try:
        return invoke(sys.argv[1:], state=reporter)
    finally:
        reporter.flush_to_log()


def _load_plugin_command(listing: PluginListing) -> click.Command:
    from tbot_core.plugins.failure import PluginFailure, plugins_failed_error
    from tbot_core.plugins.loader import load_object

    found = load_object(listing.entry)
    if not isinstance(found, click.Command | PluginFailure):
        message = f"{listing.entry.target} is not a click command."
        found = PluginFailure.said(listing.entry, "validate", message)
    if isinstance(found, PluginFailure):
        raise plugins_failed_error((found,))
    return found


def print_error(message: str, remedy: str = "") -> None:
    """Print an error as one sentence on standard error, and its remedy below it; both are redacted."""
    from tbot_core.system.redaction import redact

    click.echo(redact(f"tbot: {message}"), err=True)
    if remedy:
        click.echo(redact(f"      {remedy}"), err=True)


def _import(module: str) -> Any:
    from importlib import import_module

    return import_module(module)
