"""Backups on the page: written, listed, downloaded and tried, as by `tbot secrets`; no passphrase is kept."""

from __future__ import annotations

import gc
import re
import shutil
from typing import TYPE_CHECKING

import pytest
from tbot_extension_web.pages import backups
from tbot_extension_web.testing.client import ask, send
from tbot_extension_web.testing.given_sessions import CSRF, STEPPED_UP

from tbot_core.actions.bundles import back_up_secrets, export_secrets, stored_backups
from tbot_core.actions.checks import check_instance
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.instance import Instance
from tbot_core.instance.secrets import encrypt_category, open_instance_vault
from tbot_core.system.secret import Secret, handed_out, living_secrets
from tbot_core.testing.canaries import canary
from tbot_core.vault.audit_log import log_entries, log_path
from tbot_core.vault.categories import EVERY

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp
    from tbot_extension_web.site import Site
    from tbot_extension_web.testing.client import Answer

PHRASE = canary("web passphrase")
ADMIN = {"cookie": f"tbot-session={STEPPED_UP}"}


def get(app: ASGIApp, path: str, role: str = STEPPED_UP) -> Answer:
    """The page as a role sees it."""
    return ask(app, "GET", path, {"cookie": f"tbot-session={role}"})


def sent(app: ASGIApp, path: str, **fields: str) -> Answer:
    """Send a form, and open the page that it leads to."""
    return send(app, path, ADMIN, {"csrf": CSRF, **fields})


@pytest.fixture(scope="module")
def backed_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instance with encrypted settings and a backup, which tests copy."""
    home = tmp_path_factory.mktemp("backed") / "bot"
    vault = open_instance_vault(Instance(home), DeploymentSettings())
    encrypt_category(vault, "env", b"EXTENSIONS=none\n")
    encrypt_category(vault, "env_bot", b"BROKER_NAME=PAPER\n")
    back_up_secrets(home, None, Secret(PHRASE))
    return home


@pytest.fixture
def file(backed_up: Path, site: Site) -> Path:
    """A backup of the page's instance."""
    shutil.copytree(backed_up, site.home)
    (found,) = (site.home / "backups").iterdir()
    return found


def lines(home: Path, *actions: str) -> list[tuple[str, str, str]]:
    """What the audit log says of all categories together."""
    found = [it for it in log_entries(log_path(Instance(home))) if it.category == EVERY and it.action in actions]
    return [(it.actor, it.action, it.outcome) for it in found]


@pytest.mark.slow
def test_a_backup_is_written_and_said_to_be_what_it_is(app: ASGIApp, sealed: Path) -> None:
    """What it holds, where it lies, that it was opened again, and what is not in it; the check is content then."""
    (row,) = (one for one in check_instance(sealed) if one.subject == "backup")
    assert "tbot secrets backup" in row.remedy
    assert "The secrets have no backup." in get(app, "/secrets").text
    page = sent(app, "/secrets/backups", passphrase=PHRASE, again=PHRASE).text
    (file,) = (sealed / "backups").iterdir()
    assert f"{file} holds env, env_bot and every key, and was opened again to prove it." in page
    assert "It holds no journal and no log." in page
    assert file.stat().st_mode & 0o777 == 0o600
    assert lines(sealed, "backup") == [("web/a-admin", "backup", "begun"), ("web/a-admin", "backup", "ok")]
    found = stored_backups(sealed)
    assert [one.name for one in found.files] == [found.last_name] == [file.name]
    assert f'href="/secrets/backups/{file.name}"' in get(app, "/secrets", "admin").text
    assert get(app, "/secrets", "viewer").status == 403


@pytest.mark.slow
def test_a_backup_is_tried_with_the_rows_of_the_check(app: ASGIApp, file: Path) -> None:
    """The result stays in the list; a wrong passphrase says so and is no result."""
    name, home = file.name, file.parents[1]
    assert '<span class="soft">never</span>' in get(app, "/secrets").text
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file() and path.parent.name != "data"}
    wrong = sent(app, "/secrets/backups/try", name=name, passphrase="not the passphrase").text
    assert f"the passphrase does not match the bundle {name}" in wrong
    page = sent(app, "/secrets/backups/try", name=name, passphrase=PHRASE).text
    assert f"<code>{name}</code>" in page
    assert "The backup opens. It holds env, env_bot." in page
    assert "It holds no journal" in page
    assert re.search(r'<span class="level ok">ok</span></td><th scope="row">secrets</th>', page)
    (tried,) = stored_backups(home).files
    assert (tried.passed, tried.drilled is None) == ("The drill passed" in page, False)
    assert {path: path.read_bytes() for path in before} == before
    assert [outcome for _, action, outcome in lines(home, "drill")] == ["passed" if tried.passed else "failed"]


def test_a_backup_is_downloaded_as_it_is(app: ASGIApp, file: Path) -> None:
    """Encrypted, to be saved and not kept by the browser, after the password; the audit log names who did."""
    place = f"/secrets/backups/{file.name}"
    answer = get(app, place)
    assert (answer.status, answer.body) == (200, file.read_bytes())
    assert answer.headers["content-disposition"] == f'attachment; filename="{file.name}"'
    assert answer.headers["cache-control"] == "no-store"
    assert lines(file.parents[1], "export") == [("web/a-admin", "export", "ok")]
    led = get(app, place, "admin")
    assert (led.status, led.headers["location"]) == (303, "/step-up?next=/secrets")
    assert get(app, place, "trader").status == 403


def test_only_a_name_of_the_list_leads_to_a_file(app: ASGIApp, file: Path) -> None:
    """Neither a path, nor a link, nor a file in a folder below, nor another file beside the backups."""
    folder = file.parent
    (folder / "below").mkdir()
    shutil.copy(file, folder / "below" / "x.tbot")
    (folder / "link.tbot").symlink_to(folder.parent / ".env.enc")
    (folder / "tbot.log.1").write_text("a log")
    for name in ("../.env.enc", "below/x.tbot", "x.tbot", "link.tbot", "tbot.log.1", str(file), ".", "a\r\nb.tbot"):
        answer = sent(app, "/secrets/backups/try", name=name, passphrase=PHRASE)
        assert (answer.status, "No backup of that name" in answer.text) == (400, True)
        assert get(app, f"/secrets/backups/{name.replace('/', '%2F')}").status in {303, 404}
    assert [one.name for one in stored_backups(folder.parent).files] == [file.name]


@pytest.mark.slow
def test_what_is_no_backup_is_listed_with_the_reason(app: ASGIApp, file: Path) -> None:
    """A damaged file and an export; the oldest of many are counted, and one that was moved away is said."""
    home = file.parents[1]
    file.rename(home / "kept")
    export_secrets(home, ("env",), home / "backups" / "moved.tbot", Secret(PHRASE))
    for day in range(10, 10 + backups.MOST_LISTED):
        (home / "backups" / f"secrets-202601{day}T000000Z.tbot").write_bytes(b"x")
    (home / "backups" / "secrets-99999999T999999Z.tbot").write_bytes(b"x")
    page = get(app, "/secrets").text
    assert "It is an export, not a backup." in page
    assert page.count("is not a bundle of tbot") == backups.MOST_LISTED - 1
    assert "2 older ones: <code>tbot secrets backup --list" in page
    assert "in another folder or moved away" in page
    assert "/secrets/backups/try" not in page


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({}, "A passphrase has at most 1,024 characters, and at least one."),
        ({"passphrase": "x" * 1025, "again": "x" * 1025}, "A passphrase has at most 1,024"),
        ({"passphrase": PHRASE}, "The two passphrases differ."),
        ({"passphrase": "eleven char", "again": "eleven char"}, "fewer than 12 characters"),
    ],
)
def test_a_passphrase_that_cannot_be_used_says_why(app: ASGIApp, sealed: Path, form: dict[str, str], said: str) -> None:
    """It is not sent back, and nothing is written."""
    answer = sent(app, "/secrets/backups", **form)
    assert (answer.status, said in answer.text) == (400, True)
    assert "eleven char" not in answer.text
    assert PHRASE not in answer.text
    assert not list((sealed / "backups").glob("*"))


@pytest.mark.parametrize("path", ["/secrets/backups", "/secrets/backups/try"])
def test_a_passphrase_is_not_kept_while_the_password_is_asked_for(app: ASGIApp, sealed: Path, path: str) -> None:
    """The form is sent again once the password is there."""
    form = {"csrf": CSRF, "passphrase": PHRASE, "again": PHRASE}
    led = ask(app, "POST", path, {"cookie": "tbot-session=admin"}, form)
    assert (led.status, led.headers["location"]) == (303, "/step-up?next=/secrets")
    assert not list((sealed / "backups").glob("*"))


@pytest.mark.slow
def test_a_passphrase_is_kept_nowhere(app: ASGIApp, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In no answer, no page after it, no file, no output, and no secret that is held or was handed out."""
    form = {"csrf": CSRF, "name": file.name, "passphrase": PHRASE}
    answers = [
        ask(app, "POST", "/secrets/backups/try", ADMIN, form | more) for more in ({}, {"passphrase": PHRASE[1:]})
    ]
    answers += [get(app, path) for path in ("/secrets", "/audit", "/logs")]
    texts = [answer.text for answer in answers]
    texts += [path.read_bytes().decode("latin-1") for path in file.parents[1].rglob("*") if path.is_file()]
    texts += capsys.readouterr()
    assert not any(PHRASE[1:] in text for text in texts)
    gc.collect()
    held = [secret.inspect() for _, secret in living_secrets()] + [value.decode() for value in handed_out()]
    assert not any(PHRASE[1:] in text for text in held)
