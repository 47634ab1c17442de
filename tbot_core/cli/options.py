"""Options, prompts and output shared by the commands: `--home`, `--json`, warnings, writing a document."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from tbot_core.errors import UsageError
from tbot_core.system import environ

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class BoundedInt(click.IntRange):
    """A whole number within a range, with a clear message for anything else."""

    name = "whole number"


def _record_home(ctx: click.Context, _parameter: click.Parameter, value: Path | None) -> Path | None:
    # The crash report needs the instance.
    _set_home(ctx, resolve_home(value))
    return value


def _set_home(ctx: click.Context, home: Path) -> None:
    from tbot_core.cli.crash_report import CrashReporter

    reporter = ctx.find_object(CrashReporter)
    if reporter is not None:
        reporter.home = home


home_option: Final = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    callback=_record_home,
    help="The instance's folder. Default: $TBOT_HOME, else the working directory.",
)
"""Decorator: `--home DIR`, passed on as `home: Path | None`; `resolve_home` turns it into a folder."""

json_option: Final = click.option("--json", "as_json", is_flag=True, help="Write one JSON document to standard output.")
"""Decorator: `--json`, passed on as `as_json: bool`."""

shared_key_option: Final = click.option(
    "--allow-shared-key", is_flag=True, help="Warn where categories share a key, as in old instances, and continue."
)
"""Decorator: `--allow-shared-key`, passed on as `allow_shared_key: bool`."""


def _complete_setting(_ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    # The names of the trading configuration, each with the sign that follows it.
    from tbot_core.instance.folder import ENV_FILE
    from tbot_core.instance.registry import catalogue

    known = catalogue(()).variables.items()
    names = (name for name, one in known if one.declaration.file != ENV_FILE)
    return [f"{name}=" for name in sorted(names) if name.startswith(begun.upper())]


def _parse_trial(_ctx: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in given:
        name, sign, text = one.partition("=")
        if not (sign and name.strip()):
            raise UsageError(f"--set {name.strip() or '='} is not NAME=VALUE.", "Write it as --set MAX_TRADES=3.")
        if name.strip() in found:
            raise UsageError(f"--set {name.strip()} is given twice.", "Give each setting one value.")
        found[name.strip()] = text
    return found


trial_option: Final = click.option(
    "--set",
    "trial",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_parse_trial,
    shell_complete=_complete_setting,
    help="Change a setting for this run alone. Repeatable. Banner and report name it.",
)
"""Decorator: `--set NAME=VALUE`, passed on as `trial: dict[str, str]`, the texts by variable."""


def chosen_option(**given: bool) -> str:
    """The name of the one option that was given, "" for none; raises UsageError for several."""
    names = [name for name, there in given.items() if there]
    if len(names) > 1:
        spelled = " and ".join(f"--{name}" for name in names)
        raise UsageError(f"{spelled} exclude each other.", "Give one of them; no request was sent.")
    return "".join(names)


def resolve_home(home: Path | None) -> Path:
    """The instance's folder: the option, else $TBOT_HOME, else the working directory."""
    return home or Path(environ.variable("TBOT_HOME") or ".")


def use_home(home: Path) -> None:
    """Record that the running command uses another instance than `--home`, so that failures are logged there."""
    _set_home(click.get_current_context(), home)


def use_settings(texts: Mapping[str, str]) -> None:
    """Record the settings, so that failures are logged accordingly and no file is opened again."""
    from tbot_core.cli.crash_report import CrashReporter

    reporter = click.get_current_context().find_object(CrashReporter)
    if reporter is not None:
        reporter.texts = texts


def print_warning(sentence: object) -> None:
    """Print a warning to standard error."""
    click.echo(f"tbot: {sentence}", err=True)


def print_notice(sentence: str) -> None:
    """Print a sentence to standard error."""
    click.echo(sentence, err=True)


def print_progress(sentence: str) -> None:
    """Print a sentence to standard error if it is a terminal."""
    if sys.stderr.isatty():
        print_notice(sentence)


def confirm_plugins() -> None:
    """Ask the person at the terminal to approve plugins. Raises click.Abort for no, UsageError without a terminal."""
    confirm("Approve these plugins as they are?", "locked")


def confirm(question: str, undone: str) -> None:
    """Ask the person at the terminal. Raises click.Abort for no, UsageError without a terminal; `undone` is for it."""
    if not sys.stdin.isatty():
        raise UsageError(f"There is no terminal to ask for approval, so nothing was {undone}.", "Approve with --yes.")
    click.confirm(question, abort=True, err=True)


def emit(document: object, *, as_json: bool, lines: Iterable[str] = ()) -> None:
    """Write the document as JSON (sorted keys, indent 2) if `as_json`, else the text lines.

    Decimals, dates, paths and enums become strings, times ISO 8601, sets sorted lists; NaN raises ValueError.
    """
    if as_json:
        import json

        text = json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
        click.echo(text)
    else:
        for line in lines:
            click.echo(line)


def _plain(value: Any) -> object:
    if isinstance(value, set | frozenset):
        return sorted(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
