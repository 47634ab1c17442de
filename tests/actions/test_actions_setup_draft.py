"""The draft of a set-up: encrypted answers that a process which ended leaves for the next one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import attrs
import pytest

from tbot_core.actions.adoption import read_adoption
from tbot_core.actions.audit import verify_audit_log
from tbot_core.actions.bundles import backup_texts
from tbot_core.actions.instance_creation import refuse_occupied
from tbot_core.actions.secrets import vault_of_home
from tbot_core.actions.setup_draft import Draft, SetUp, begin_setup, complete_setup
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.errors import SettingsError, UsageError, VaultError
from tbot_core.instance import Instance, load_settings, read_settings_files
from tbot_core.instance.dotenv import parse_dotenv
from tbot_core.instance.folder import CREATION_MARKER, SETUP_DRAFT
from tbot_core.instance.secrets import encrypt_category, open_instance_vault
from tbot_core.instance.sources import deployment_of, is_set_up, unfinished_setup
from tbot_core.system.secret import Secret
from tbot_core.system.secure_memory import SecureBuffer
from tbot_core.vault.audit_log import log_entries, log_path
from tbot_core.vault.bundle import BundleCipher, backup_of, write_backup
from tbot_core.vault.key_providers import PassphraseKeyProvider

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tbot_core.vault.bundle import Backup

IDENTITY = {"bot_identity": {"BOT_IDENTITY_STRING": "ACME_US_PAPER_B01"}}


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    """A folder that is not there yet."""
    return Instance.at(tmp_path / "bot")


def test_answers_are_kept_encrypted_for_the_next_process(instance: Instance) -> None:
    """With the key of the accounts, and none of their text is in the folder."""
    draft = Draft(answers=IDENTITY, settings={"MAX_TRADES": "3"}, done=("identity",), notes={"login": "refused"})
    begin_setup(instance).write(draft)
    assert begin_setup(instance).read() == draft
    assert not [one for one in instance.home.rglob("*") if one.is_file() and b"ACME" in one.read_bytes()]
    instance.path(SETUP_DRAFT).write_bytes(b"tbot1.AAAA\n")
    with pytest.raises(VaultError) as damaged:
        begin_setup(instance).read()
    assert damaged.value.remedy == "Remove data/setup.enc: the set-up then asks anew, and its accounts stay."


def test_answers_that_come_at_once_are_all_kept(instance: Instance) -> None:
    """A change begins where the one before it ended, also for another person at the same page."""
    setup = begin_setup(instance)
    other = attrs.evolve(setup, vault=setup.vault)
    second = Thread(target=lambda: other.change(lambda draft: (with_setting(draft, "MAX_TRADES"), None)))

    def first(draft: Draft) -> tuple[Draft, str]:
        second.start()
        second.join(0.1)  # it has to wait
        return with_setting(draft, "SEED"), "found"

    assert setup.change(first) == "found"
    second.join()
    assert setup.read().settings == {"SEED": "3", "MAX_TRADES": "3"}


def with_setting(draft: Draft, name: str) -> Draft:
    """The draft with a setting."""
    return attrs.evolve(draft, settings={**draft.settings, name: "3"})


def test_the_instance_is_made_of_the_answers_and_the_draft_is_gone(instance: Instance) -> None:
    """The settings of a paper instance, with what was answered."""
    setup = begin_setup(instance)
    assert setup.read() == Draft()
    setup.finish(Draft(answers=IDENTITY, settings={"MAX_TRADES": "3"}))
    assert load_settings(instance.home, mode="paper").risk.max_trades == 3
    assert not instance.path(SETUP_DRAFT).exists()


def test_files_that_were_taken_over_stay_to_the_byte_unless_an_answer_changes_them(instance: Instance) -> None:
    """Comments, order and the missing line end of a trading configuration stay."""
    setup = begin_setup(instance)
    text = "# mine\nMAX_TRADES=3\nBROKER_NAME=PAPER"
    assert setup.contents(Draft(files={"env_bot": text}))["env_bot"] == text.encode()
    changed = setup.contents(Draft(files={"env_bot": text}, settings={"MAX_TRADES": "2"}))["env_bot"]
    assert changed == b"# mine\nMAX_TRADES=2\nBROKER_NAME=PAPER"


def test_answers_that_do_not_fit_make_nothing(instance: Instance) -> None:
    """The set-up goes on then."""
    setup = begin_setup(instance)
    with pytest.raises(SettingsError, match="MAX_TRADES"):
        setup.finish(Draft(settings={"MAX_TRADES": "many"}))
    assert unfinished_setup(instance) is not None


def test_what_a_killed_process_left_is_removed_with_the_draft(instance: Instance) -> None:
    """The draft beside a whole instance, also a damaged one, and a new file that was not renamed."""
    setup = begin_setup(instance)
    setup.finish(Draft(answers=IDENTITY))
    left = (instance.path(SETUP_DRAFT), instance.path(SETUP_DRAFT).with_name(".setup.enc.new"))
    for path in left:
        path.write_text("x")
    complete_setup(instance)
    assert not any(path.exists() for path in left)
    complete_setup(instance)


def test_a_folder_with_a_draft_is_used_by_nothing_else(instance: Instance) -> None:
    """Neither settings are read nor is another instance made in it, and the sentence says how to go on."""
    begin_setup(instance)
    (instance.home / ".env_bot").write_text("BROKER_NAME=PAPER\n")
    fault = read_settings_files(instance).env.fault
    assert isinstance(fault, SettingsError)
    assert fault.message == f"The set-up of {instance.home} on the web page is not finished."
    assert f"`tbot web --home {instance.home}` goes on with it" in fault.remedy
    with pytest.raises(SettingsError, match="not finished"):
        refuse_occupied(instance)
    with pytest.raises(SettingsError, match="not finished"):
        read_adoption(instance, None)


def test_an_instance_that_has_traded_is_made_whatever_form_its_settings_have(instance: Instance) -> None:
    """A bot with settings in plaintext starts again: the page asks it for no set-up."""
    instance.data.mkdir(parents=True)
    assert not is_set_up(instance)
    instance.journal.touch()
    assert is_set_up(instance)
    instance.path(SETUP_DRAFT).touch()
    assert unfinished_setup(instance) is None
    instance.path(CREATION_MARKER).touch()
    assert not is_set_up(instance)
    assert unfinished_setup(instance) is not None


PHRASE = "correct horse battery"
USERS = b'{"alice": {"hash": "x", "role": "admin"}}'


def cheap(secret: Secret, salt: bytes) -> SecureBuffer:
    """A key of a passphrase in no time."""
    return SecureBuffer.of([sha256(secret.inspect_bytes() + salt).digest()])


def backed_up(home: Path, contents: Mapping[str, bytes]) -> Path:
    """A backup of an instance with these contents, which is removed."""
    instance = Instance(home)
    vault = open_instance_vault(instance, deployment_of(parse_dotenv(".env", contents["env"])))
    for category, text in contents.items():
        encrypt_category(vault, category, text)
    path = home.with_suffix(".tbot")
    write_backup(vault, path, BundleCipher(kind="backup", passphrase=Secret(PHRASE), stretch=cheap))
    shutil.rmtree(home)
    return path


def opened(path: Path) -> Backup:
    """The backup, opened."""
    cipher = BundleCipher(kind="backup", passphrase=Secret(PHRASE), stretch=cheap)
    return backup_of(cipher.read(path), path.name)


def begun(instance: Instance) -> SetUp:
    """A set-up with an answer and an account."""
    setup = begin_setup(instance)
    encrypt_category(setup.vault, "login", USERS)
    setup.write(Draft(answers=IDENTITY))
    return setup


def users(home: Path) -> bytes:
    """The accounts of an instance."""
    with vault_of_home(home).read("login") as found:
        return bytes(found.view)


OTHERS = b'{"zoe": {"hash": "y", "role": "admin"}}'
WHOLE = {"env": b"LOGIN_PATH=storage/secrets/people.json.enc\n", "env_bot": b"BROKER_NAME=PAPER\n", "login": OTHERS}


@pytest.mark.parametrize("without", ["", "login"])
def test_a_backup_takes_the_place_of_a_set_up(instance: Instance, tmp_path: Path, without: str) -> None:
    """With its own accounts, else those of the set-up, where its settings want them; its audit log is a new one."""
    path = backed_up(tmp_path / "source", {name: text for name, text in WHOLE.items() if name != without})
    setup = begun(instance)
    with opened(path) as found:
        assert backup_texts(instance, found) == {name: WHOLE[name].decode() for name in ("env", "env_bot")}
        setup.restore(found, "web/alice")
    assert is_set_up(instance)
    assert users(instance.home) == (USERS if without else OTHERS)
    assert not instance.path(SETUP_DRAFT).exists()
    assert not instance.path(CREATION_MARKER).exists()
    assert not instance.path("storage/secrets/login.json.enc").exists()
    assert verify_audit_log(instance) is not None
    lines = [(it.actor, it.action, it.outcome) for it in log_entries(log_path(instance))]
    assert lines[0] == ("web/alice", "restore", "begun")


def test_settings_in_plaintext_come_back_as_an_instance(instance: Instance, tmp_path: Path) -> None:
    """The page asks for no set-up then, as of a bot that has traded with them."""
    home = tmp_path / "source"
    home.mkdir()
    (home / ".env_bot").write_text("BROKER_NAME=PAPER\n")
    path = tmp_path / "source.tbot"
    vault = open_instance_vault(Instance(home), DeploymentSettings())
    write_backup(vault, path, BundleCipher(kind="backup", passphrase=Secret(PHRASE), stretch=cheap))
    setup = begun(instance)
    with opened(path) as found:
        assert setup.restore(found, "web/alice") == ()
    assert is_set_up(instance)
    assert (instance.home / ".env_bot").read_text() == "BROKER_NAME=PAPER\n"
    assert users(instance.home) == USERS


def test_a_restore_that_fails_leaves_the_set_up(instance: Instance, tmp_path: Path) -> None:
    """With answers and accounts, whatever is found in the way: before anything is removed, or only afterwards."""
    path = backed_up(tmp_path / "source", WHOLE)
    setup = begun(instance)
    for place, code in ((".env_bot", "TB-SEC-111"), ("storage/secrets/people.json.enc", "TB-SEC-111")):
        there = instance.path(place)
        there.write_text("mine")
        with opened(path) as found, pytest.raises(VaultError) as refused:
            setup.restore(found, "web/alice")
        assert (refused.value.code, place in refused.value.message) == (code, True)
        assert there.read_text() == "mine"
        assert unfinished_setup(instance) is not None
        with setup.vault.read("login") as found_users:
            assert bytes(found_users.view) == USERS
        assert begin_setup(instance).read() == setup.read() == Draft(answers=IDENTITY)
        there.unlink()
    with opened(path) as found:
        setup.restore(found, "web/alice")
    assert users(instance.home) == OTHERS


def test_keys_from_a_passphrase_take_none_of_a_backup(instance: Instance, tmp_path: Path) -> None:
    """They are derived; the restore is left to the command line."""
    path = backed_up(tmp_path / "source", WHOLE)
    setup = begun(instance)
    provider = PassphraseKeyProvider(path=instance.path("storage/keys/x"), prompt=lambda: Secret(PHRASE))
    derived = attrs.evolve(setup, vault=attrs.evolve(setup.vault, provider=provider))
    with opened(path) as found, pytest.raises(UsageError, match="TBOT_KEY_PROVIDER"):
        derived.restore(found, "web/alice")
    assert setup.read() == Draft(answers=IDENTITY)


KILLED = """
import os, shutil, signal, sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
import test_actions_setup_draft as tests
from tbot_core.instance import Instance
from tbot_core.instance.sources import is_set_up

place, step = Path(sys.argv[2]), int(sys.argv[3])
EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod"}
os.fsync = lambda handle: None
file = tests.backed_up(place / "source", tests.WHOLE)
tests.begun(Instance(place / "begun"))
home = place / "bot"

def restore(left):
    setup = tests.begin_setup(Instance(home))
    def hook(event, given):
        nonlocal left
        if event in EVENTS and str(given[0]).startswith(str(home)):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    with tests.opened(file) as found:
        setup.restore(found, "web/alice")
    os._exit(0)

seen, op = {"set-up": 0, "anew": 0, "restored": 0}, 0
while True:
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(place / "begun", home)
    child = os.fork()
    if not child:
        restore(op)
    ended = os.waitpid(child, 0)[1]
    if is_set_up(Instance(home)):
        assert tests.users(home) == tests.OTHERS
        seen["restored"] += 1
    else:
        setup = tests.begin_setup(Instance(home))
        there = setup.vault.store.has_file("login")
        if there:
            with setup.vault.read("login") as found:
                assert bytes(found.view) == tests.USERS
            assert setup.read() == tests.Draft(answers=tests.IDENTITY)
        else:
            assert setup.read() == tests.Draft()
        seen["set-up" if there else "anew"] += 1
        with tests.opened(file) as found:
            setup.restore(found, "web/alice")
        assert tests.users(home) == tests.OTHERS
    if not os.WIFSIGNALED(ended):
        break
    op += step
print(seen, op)
assert min(seen.values()) > 0 and op > 60
"""


@pytest.mark.first(0)  # over two seconds
@pytest.mark.parametrize("step", [pytest.param(11, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.full)])
def test_a_restore_that_is_killed_leaves_a_set_up_or_the_instance(step: int, tmp_path: Path) -> None:
    """SIGKILL at each file operation: the set-up as it was, one that begins anew, or the whole instance."""
    command = [sys.executable, "-W", "error", "-c", KILLED, str(Path(__file__).parent), str(tmp_path), str(step)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
