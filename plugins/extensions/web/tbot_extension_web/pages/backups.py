"""Backups of the secrets: written, downloaded, tried without changing anything, and restored, as by `tbot secrets`."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs
from starlette.exceptions import HTTPException
from starlette.responses import Response

from tbot_core.actions import bundles
from tbot_core.actions.checks import CheckResult, check_instance
from tbot_core.actions.secrets import retire_old_keys
from tbot_core.actions.setup_draft import Draft, SetUp
from tbot_core.errors import TbotError, UsageError
from tbot_core.instance.findings import printable_value
from tbot_core.instance.preflight import BACKUP_DAYS
from tbot_core.instance.sources import is_set_up
from tbot_core.system.secret import Secret
from tbot_extension_web.forms import FILE_NAME
from tbot_extension_web.opening import open_made_instance
from tbot_extension_web.pages.setup import later_address
from tbot_extension_web.setup.begin_steps import BACKUP, outside_words
from tbot_extension_web.setup.state import SetUpState

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


async def restore(call: Call) -> Response:
    """Restore an uploaded backup in the place of a set-up, show what the check finds, and lead to the login."""
    setup, first = call.site.setup, call.site.first_run
    if setup is None or first is None:
        raise HTTPException(404)
    name = printable_value(call.form.get(FILE_NAME.format(BACKUP), "")) or "the uploaded file"
    if not (text := call.form.get(BACKUP, "").encode(errors="surrogateescape")):
        raise UsageError("No backup was chosen.", "Choose the file that `tbot secrets backup` or the page has written.")
    with passphrase(call) as phrase:
        done = await call.compute(_restored, setup, text, name, phrase, call.actor)
    rows = await call.compute(check_instance, call.site.home)
    own, said = "login" not in done, list(bundles.restore_lines(done, ()))[:2]
    try:
        later = open_made_instance(call.site, first)
        admins = call.site.logins.accounts.has_admin
        if not later.loopback:
            said.append(later_address(later))
        elif later.origin != call.site.origin:
            said.append(f"From its next start on the page is at {later.url}.")
    except TbotError as fault:  # what was restored cannot be opened by a page; the check says why
        admins = False
        said.append(f"The page cannot open the instance: {fault}")
    # The sessions of the set-up end with its accounts: this is the answer itself, not a page that is kept for one.
    shown = attrs.evolve(call, keeps=False, session=call.session if own else None)
    result = CheckResult(rows=rows)
    return shown.page("setup/restored.html", said=said, own=own, admins=admins, result=result, home=call.site.home)


def _restored(setup: SetUp, text: bytes, name: str, phrase: Secret, actor: str) -> tuple[str, ...]:
    with setup.turn, bundles.open_backup(text, name, phrase) as backup:
        if is_set_up(setup.instance):  # by who pressed a button at the same time
            raise UsageError("The set-up is finished already.", "Open the page again.")
        state = SetUpState(setup=setup, draft=Draft(files=bundles.backup_texts(setup.instance, backup)))
        if outside := list(outside_words(state)):
            raise UsageError("\n".join(outside), "Restore it in an empty folder with `tbot secrets restore`.")
        return setup.restore(backup, actor)


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
