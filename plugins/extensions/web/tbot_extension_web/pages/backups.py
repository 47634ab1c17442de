"""Backups of the secrets: written, downloaded, and tried without changing anything, as by `tbot secrets`."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from starlette.exceptions import HTTPException
from starlette.responses import Response

from tbot_core.actions import bundles
from tbot_core.actions.checks import CheckResult, check_instance
from tbot_core.actions.secrets import retire_old_keys
from tbot_core.errors import UsageError
from tbot_core.instance.preflight import BACKUP_DAYS
from tbot_core.system.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tbot_extension_web.call import Call

MOST_LISTED: Final = 20
MOST_CHARACTERS: Final = 1024
"""The longest passphrase; that of the command line's files too."""


async def make(call: Call) -> Response:
    """Write a backup into the folder of the instance, and say what it holds."""
    with passphrase(call, twice=True) as phrase:
        path, done = await call.compute(bundles.back_up_secrets, call.site.home, None, phrase, actor=call.actor)
    retired = await call.work(retire_old_keys, call.site.home, call.actor)
    lines = [f"{one}: the key from before an earlier rotation is deleted." for one in retired]
    return call.to("/secrets", *bundles.backup_lines(path, done), *lines)


async def drill(call: Call) -> Response:
    """Try a backup of the list: it is restored in memory and checked, and nothing is changed."""
    file = await call.work(bundles.stored_backup, call.site.home, call.form.get("name", ""))
    with passphrase(call) as phrase:
        verify = partial(bundles.verify_backup, call.site.home, file, phrase, check_instance, actor=call.actor)
        done, rows = await call.compute(verify)
    said = tuple(bundles.restore_lines(done, rows))[:2]
    return call.page("backup_tried.html", file=file.name, said=said, result=CheckResult(rows=rows))


async def download(call: Call) -> Response:
    """A backup of the list as it is, encrypted, to be kept on another machine."""
    name = call.request.path_params["name"]
    try:
        text = await call.work(bundles.read_stored_backup, call.site.home, name, actor=call.actor)
    except UsageError:
        raise HTTPException(404) from None
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text, media_type="application/octet-stream", headers=headers)


def listed(home: Path) -> dict[str, Any]:
    """What the card of the backups shows."""
    return {"backups": bundles.stored_backups(home, MOST_LISTED), "most_days": BACKUP_DAYS}


@contextmanager
def passphrase(call: Call, *, twice: bool = False) -> Iterator[Secret]:
    """The passphrase of the form, which is wiped afterwards; no page repeats it.

    Raises UsageError for none, one that is too long, and with `twice` for two that differ.
    """
    text = call.form.get("passphrase", "")
    if not 0 < len(text) <= MOST_CHARACTERS:
        raise UsageError(f"A passphrase has at most {MOST_CHARACTERS:,} characters, and at least one.", "Enter it.")
    if twice and text != call.form.get("again", ""):
        raise UsageError("The two passphrases differ.", "Enter both again.")
    secret = Secret(text)
    try:
        yield secret
    finally:
        secret.wipe()
