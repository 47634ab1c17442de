"""The command line's door: `tbot`, a group whose sub-commands are imported only when they are called."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import click

from tbot_core.errors import AccessError, TbotError
from tbot_core.system import terminal
from tbot_core.system.signals import INTERRUPTED
from tbot_core.system.stdio import guarded_streams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.plugins.discovery import PluginListing

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "run": ("tbot_core.cli.commands.run:command", "Trade: simulated sessions, stored days, or the running market."),
    "init": ("tbot_core.cli.commands.init:command", "Make an instance: folders, keys, encrypted settings."),
    "check": ("tbot_core.cli.commands.check:command", "Check keys, files, settings, plugins, logs and the machine."),
    "status": ("tbot_core.cli.commands.status:command", "Show what is running, held and ordered."),
    "stop": ("tbot_core.cli.commands.stop:command", "End trading in order, or take that back."),
    "kill": ("tbot_core.cli.commands.kill:command", "Enter nothing from now on, or take that back."),
    "confirm": (
        "tbot_core.cli.commands.confirm:command",
        "List the entries that wait for a person, confirm or reject one.",
    ),
    "arm": ("tbot_core.cli.commands.arm:command", "Let live trading enter, for a session or several."),
    "disarm": ("tbot_core.cli.commands.arm:disarm", "Let live trading enter nothing more."),
    "defense": ("tbot_core.cli.commands.defense:command", "Trade less, or take that back, or say whether it is so."),
    "failover": (
        "tbot_core.cli.commands.failover:command",
        "Try failover between brokers, show it, or confirm what is open.",
    ),
    "why": ("tbot_core.cli.commands.why:command", "Explain what was decided on a symbol, and why."),
    "calendar": ("tbot_core.cli.commands.calendar:command", "Show a day's session and its windows."),
    "backtest": ("tbot_core.cli.commands.backtest:command", "Trade a range of stored sessions at once."),
    "rehearse": ("tbot_core.cli.commands.rehearse:command", "Try the order machine in simulated worlds that fail."),
    "data": ("tbot_core.cli.commands.data:command", "Import, list and verify stored bars."),
    "config": (
        "tbot_core.cli.commands.config:command",
        "Check, show, explain, compare, edit and encrypt the settings.",
    ),
    "plugins": ("tbot_core.cli.commands.plugins:command", "List plugins and what they offer."),
    "secrets": ("tbot_core.cli.commands.secrets:command", "Show, verify, set and edit secrets, and rotate their keys."),
    "alerts": (
        "tbot_core.cli.commands.alerts:command",
        "Try the alert channels, read what was told, say that it was seen.",
    ),
    "audit": ("tbot_core.cli.commands.audit:command", "Verify the chains of the journal and of the log of secrets."),
}
"""Each command of the core: "module:object", and its line in `tbot --help`."""

HARDENED: Final = frozenset({"run", "init", "check", "config", "secrets", "alerts", "arm", "failover"})
"""Commands that hold secrets in memory: the process is hardened before they begin."""


class LazyGroup(click.Group):
    """The core's commands from the table, then those of plugins from their metadata."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  -- click's signature
        """The names in the order of the help: the core's, then the plugins'."""
        return [*COMMANDS, *self._offered()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  -- likewise
        """Import the named command; None when nobody offers it."""
        if cmd_name in COMMANDS:
            module, _, name = COMMANDS[cmd_name][0].partition(":")
            command: click.Command = getattr(_import(module), name)
            return command
        listing = self._offered().get(cmd_name)
        return None if listing is None else _of_plugin(listing)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest names of a group that holds no loaded command."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as fault:
            names = self.list_commands(ctx)
            raise click.NoSuchCommand(fault.command_name, possibilities=names, ctx=ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """As click does; but a pipe that breaks elsewhere than at the guarded output is a failure, not a quiet end."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as fault:
            raise ConnectionError(str(fault)) from fault

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  -- likewise
        """Write the help's list from the table and the metadata, importing no command."""
        offered = self._offered(aloud=True)
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])
        if offered:
            with formatter.section("Commands of plugins"):
                formatter.write_dl(
                    [(name, f"From {it.entry.dist} {it.entry.version}.") for name, it in offered.items()]
                )

    def _offered(self, *, aloud: bool = False) -> dict[str, PluginListing]:
        # The plugins' commands by name; `aloud` also says which are refused.
        from tbot_core.plugins.discovery import installed_commands

        usable, refused = {}, []
        for listing in installed_commands(reserved=COMMANDS):
            if listing.state == "available":
                usable[listing.entry.name] = listing
            else:
                refused.append(listing)
        if aloud:
            for listing in refused:
                click.echo(f"tbot: the command {listing.entry.name} is refused: {listing.reason}", err=True)
        return usable


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="tbot-core", message="tbot %(version)s")
def group() -> None:
    """An intraday trading bot for US equities that explains every decision.

    Look without settings of your own: `tbot run --demo`.
    """


def invoke(args: Sequence[str], *, state: object = None) -> int:
    """Run one command line and return its exit code; a failure is said in a sentence on standard error."""
    try:
        color = None if terminal.allows_style() else False
        outcome = group.main(args=args, prog_name="tbot", standalone_mode=False, obj=state, color=color)
    except TbotError as fault:
        _say(fault.message, fault.remedy)
        return fault.exit_code
    except click.Abort as fault:
        interrupted = isinstance(fault.__cause__ or fault.__context__, KeyboardInterrupt)
        _say("Stopped." if interrupted else "Nothing was done.")
        return INTERRUPTED if interrupted else 1
    except click.exceptions.NoArgsIsHelpError as fault:
        fault.show()
        return fault.exit_code
    except click.ClickException as fault:
        context = getattr(fault, "ctx", None)
        path = "tbot" if context is None else context.command_path
        _say(fault.format_message(), f"See `{path} --help`.")
        return fault.exit_code
    return outcome if isinstance(outcome, int) else 0


def main() -> int:
    """Run the command line that the process was called with."""
    try:
        with guarded_streams():
            return _begin()
    except AccessError as fault:  # standard output is closed, or what was written last could not be
        _say(fault.message, fault.remedy)
        return fault.exit_code


def _begin() -> int:
    from tbot_core.cli.crash_report import CrashReporter

    if HARDENED.intersection(sys.argv[1:2]):
        from tbot_core.system.hardening import harden

        for sentence in harden():
            _say(sentence)
    unforeseen = CrashReporter()
    sys.excepthook = unforeseen.report
    try:
        return invoke(sys.argv[1:], state=unforeseen)
    finally:
        unforeseen.settle()


def _of_plugin(listing: PluginListing) -> click.Command:
    from tbot_core.plugins.failure import PluginFailure, plugins_failed_error
    from tbot_core.plugins.loader import load_object

    found = load_object(listing.entry)
    if not isinstance(found, click.Command | PluginFailure):
        words = f"{listing.entry.target} is no click command."
        found = PluginFailure.said(listing.entry, "validate", words)
    if isinstance(found, PluginFailure):
        raise plugins_failed_error((found,))
    return found


def _say(message: str, remedy: str = "") -> None:
    click.echo(f"tbot: {message}", err=True)
    if remedy:
        click.echo(f"      {remedy}", err=True)


def _import(module: str) -> Any:
    from importlib import import_module

    return import_module(module)
