"""Options, prompts and output shared by the commands: `--home`, `--json`, prompts for fields, writing a document."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from tbot_core.errors import UsageError
from tbot_core.system import environ

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import TextIO


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


def chosen_option(**given: bool) -> str:
    """The name of the one option that was given, "" for none; raises UsageError for several."""
    names = [name for name, there in given.items() if there]
    if len(names) > 1:
        spelled = " and ".join(f"--{name}" for name in names)
        raise UsageError(f"{spelled} exclude each other.", "Give one of them; no request was sent.")
    return "".join(names)


DOCUMENT_CHARACTERS: Final = 16 * 1_048_576


def document_text(document: TextIO, *, limit: int = DOCUMENT_CHARACTERS) -> str:
    """The text of a document that an option names. Raises UsageError if it is too long, or not UTF-8."""
    try:
        text = document.read(limit + 1)
    except UnicodeDecodeError:
        raise UsageError("The document is not UTF-8 text.", "Save it as UTF-8.") from None
    if len(text) > limit:
        raise UsageError(f"The document has more than {limit:,} characters.", "Choose another file.")
    return text


def document_json(document: TextIO) -> Any:
    """The JSON value of a document that an option names. Raises UsageError with the place of a fault, not its text."""
    from tbot_core.model import json_document

    try:
        return json_document.parse_json(document_text(document))
    except json_document.InvalidJson as fault:
        name = getattr(document, "name", "<stdin>")
        source = "Standard input" if name == "<stdin>" else name
        raise UsageError(f"{source}: {fault}.", "Correct the JSON input.") from None


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
