"""`tbot check`: checks an instance before it trades, one row per finding; a start runs the same checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from tbot_core.actions.checks import check_instance, check_outcome, reached_findings, with_broker
from tbot_core.cli.options import (
    emit,
    home_option,
    json_option,
    print_notice,
    print_progress,
    print_warning,
    shared_key_option,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.instance import Instance, Mode, SettingsFiles

_REFUSED: Final = 3
_FATAL: Final = frozenset({"secrets", "audit", "journal", "machine"})


@click.command("check")
@home_option
@click.option("--strict", is_flag=True, help="Treat warnings as failures.")
@shared_key_option
@json_option
def command(*, home: Path | None, strict: bool, allow_shared_key: bool, as_json: bool) -> int:
    """Check keys, files, settings, plugins, logs, the machine, the broker and the alert channels; no order is sent.

    The broker is reached as by `tbot broker test`, unless something else fails first. Exits with 3 for settings and
    secrets.
    """
    from tbot_core.actions.assembly import action_clock

    found = check_instance(home, allow_shared_key=allow_shared_key, progress=print_progress)
    if any(row.level == "fail" for row in found):
        action_clock(print_notice)  # which says REHEARSAL
    else:
        found = with_broker(found, tuple(reached_findings(home, print_notice)))
    failed = [row for row in found if row.level == "fail" or (strict and row.level == "warn")]
    document = {"passed": not failed, "rows": [row.document for row in found]}
    lines = [f"{row.level:<5} {row.subject:<9} {row}" for row in found]
    outcome = check_outcome(["fail" if row in failed else row.level for row in found])
    emit(document, as_json=as_json, lines=[*lines, outcome])
    return max((row.exit_code for row in failed), default=0)


def assert_start(instance: Instance, sources: SettingsFiles, mode: Mode, *, allow_shared_key: bool = False) -> None:
    """The same checks before a run: a fault that blocks trading is raised, the others are printed on standard error.

    A simulation starts in spite of faults. No plugin is loaded yet: what a plugin needs is judged when it is. Raises
    SettingsError, or AccessError for a damaged log or an unfit machine.
    """
    from tbot_core.errors import AccessError, SettingsError
    from tbot_core.instance.preflight import preflight_findings
    from tbot_core.instance.preflight_subject import PreflightSubject
    from tbot_core.model.clock import SystemClock
    from tbot_core.plugins import discovery

    subject = PreflightSubject(
        instance=instance,
        sources=sources,
        now=SystemClock().now(),
        strict=mode == "live",
        allow_shared_key=allow_shared_key,
        installed=frozenset((it.entry.kind, it.entry.name) for it in discovery.installed_plugins()),
    )
    failed = [row for row in preflight_findings(subject) if row.level == "fail"]
    fatal = [row for row in failed if mode == "live" or (mode in {"dry-run", "paper"} and row.subject in _FATAL)]
    if fatal:
        kind = SettingsError if any(row.exit_code == _REFUSED for row in fatal) else AccessError
        raise kind("\n".join(str(row) for row in fatal), "`tbot check` shows every finding.")
    for row in failed:
        print_warning(row)
