"""The set-up of an instance on the web page: its answers in one encrypted file, until the instance is made of them.

The file is there from the begin of the set-up to its end. A process that is killed leaves the answers of the last step
that was sent, or an instance that is completely made, never something between.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from threading import Lock  # seam: the threads of one page change the answers in turn
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from tbot_core.actions import discard
from tbot_core.actions.adoption import judge_adoption
from tbot_core.actions.bundles import backup_deployment, restore_opened
from tbot_core.actions.instance_creation import checked_contents, create_instance, paper_settings
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.errors import AccessError, UsageError, VaultError
from tbot_core.instance.creation_marker import creation, leftovers, undo_creation
from tbot_core.instance.dotenv import parse_dotenv, replace_values
from tbot_core.instance.folder import ENCRYPTED_SUFFIX, FOLDERS, SETUP_DRAFT, Instance
from tbot_core.instance.journal_chain import open_instance_journal
from tbot_core.instance.secret_paths import SecretPaths
from tbot_core.instance.secrets import encrypt_category, lacks_key, open_instance_vault
from tbot_core.instance.sources import deployment_of, is_sealed, is_set_up, read_settings_files
from tbot_core.model import json_document
from tbot_core.system import filesystem, log
from tbot_core.vault import files, token
from tbot_core.vault.audit_log import anchor_path, log_path
from tbot_core.vault.bundle import assert_restorable
from tbot_core.vault.categories import AUDIT, CATEGORIES, SETUP, CategoryPaths, category_paths
from tbot_core.vault.key_providers import PassphraseKeyProvider
from tbot_core.vault.vault import Vault

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.actions import Notify
    from tbot_core.instance.older_layout import OlderInstallation
    from tbot_core.vault.bundle import Backup

T = TypeVar("T")


_KEY: Final = "login"
_log = log.logger(__name__)


@attrs.frozen(kw_only=True)
class Draft:
    """The answers that were given.

    `files` are the texts of categories that were taken over as they are, `answers` the content of the others by
    category, `settings` the variables that differ from the trading configuration, `done` the steps that were sent, and
    `notes` what a step is to show again.
    """

    files: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    answers: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    settings: Mapping[str, str] = attrs.field(factory=dict)
    done: tuple[str, ...] = ()
    notes: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class SetUp:
    """A set-up that is not finished: its folder, and the vault with the account of the person who makes it.

    `turn` is held by who changes the answers, in whatever thread of the one process that serves the set-up.
    """

    instance: Instance
    vault: Vault
    turn: Lock = attrs.field(factory=Lock, eq=False, repr=False)

    def read(self) -> Draft:
        """The answers. Raises VaultError for a file that cannot be opened."""
        place = _place(self.vault)
        if not filesystem.size(place.file):
            return Draft()
        try:
            content = files.read_file(place, strict=False, system=self.vault.system)
            with content.data as text, self.vault.store.ring(_KEY) as ring:
                opened, _ = token.open_token(ring, place, text.view)
        except VaultError as fault:
            remedy = f"Remove {place.shown(place.file)}: the set-up then asks anew, and its accounts stay."
            raise VaultError(fault.message, remedy, code=fault.code) from None
        with opened:
            stored = json_document.parse_json(bytes(opened.view))
        return Draft(**{**stored, "done": tuple(stored["done"])})

    def change(self, edit: Callable[[Draft], tuple[Draft, T]]) -> T:
        """Store what `edit` makes of the answers as they are then, and return what it returns beside them."""
        with self.turn:
            before = self.read()
            after, found = edit(before)
            if after != before:
                self.write(after)
            return found

    def write(self, draft: Draft) -> None:
        """Store the answers in place of those before. Raises VaultError; the former stay then."""
        data, place = json.dumps(attrs.asdict(draft), ensure_ascii=False).encode(), _place(self.vault)
        with self.vault.store.holding(_KEY), self.vault.store.ring(_KEY) as ring:
            if ring.cur is None:
                raise LookupError(_KEY)  # `begin_setup` has made it
            self.vault.note("write", SETUP, "begun", ring.cur.name)
            text = token.seal_token(ring.cur, place, data, entropy=self.vault.entropy)
            files.write_file(place, text + b"\n", prove=lambda _: None, system=self.vault.system)
            self.vault.note("write", SETUP, "ok", ring.cur.name)

    def contents(self, draft: Draft, warn: Notify = discard) -> dict[str, bytes]:
        """The plaintext of each category of the instance. Raises what `checked_contents` raises."""
        answers = {**draft.answers, "env_bot": dict(draft.settings)}
        texts = {name: text.encode() for name, text in draft.files.items()}
        return checked_contents(self.instance, answers, "Go back, and correct it; nothing was created.", warn, texts)

    def finish(self, draft: Draft) -> None:
        """Make the instance of the answers, all or nothing, and end the set-up.

        Raises AccessError while a process trades in the folder: it has read the settings that would be replaced.
        """
        _refuse_trading(self.instance)
        contents = self.contents(draft)
        place = category_paths(_KEY, self.instance, deployment_of(parse_dotenv(".env", contents["env"])))
        if place != self.vault.store.place(_KEY) and (accounts := self._accounts()):
            contents[_KEY] = accounts  # .env has another place for them
        create_instance(self.instance, contents)
        complete_setup(self.instance)

    def restore(self, found: Backup, actor: str) -> tuple[str, ...]:
        """Restore an opened backup in place of the set-up, and end it; returns the restored categories.

        The accounts of the backup replace those of the set-up, which stay where it has none. The restored instance
        begins a new audit log. All or nothing: after an error the set-up goes on with its answers and accounts, after a
        kill it begins anew. Raises UsageError where keys cannot be written one by one, VaultError for what does not
        open and for a file that would be overwritten, and AccessError.
        """
        _refuse_trading(self.instance)
        if "put" not in self.vault.store.keys.capabilities:
            remedy = "Restore it in an empty folder with `tbot secrets restore`."
            raise UsageError("The source of the keys, TBOT_KEY_PROVIDER, takes no keys of a backup.", remedy)
        deployment = backup_deployment(self.instance, found)
        vault = open_instance_vault(self.instance, deployment, ready=False, actor=actor)
        assert_restorable(vault, found, without=(AUDIT, _KEY))
        draft, accounts = self.read(), self._accounts()
        try:
            with creation(self.instance, deployment, instead_of=self._own_files()):
                self._withdraw()
                done = restore_opened(self.instance, found, actor)
                if accounts and _KEY not in found.files:
                    encrypt_category(vault, _KEY, accounts)
                if not is_sealed(self.instance):
                    open_instance_journal(self.instance).close()  # with settings in plaintext it tells an instance
        except BaseException:
            begin_setup(self.instance)
            self.write(draft)
            if accounts:
                encrypt_category(self.vault, _KEY, accounts)
            raise
        return done

    def _accounts(self) -> bytes:
        # Empty where nobody is one yet.
        if not self.vault.store.has_file(_KEY):
            return b""
        with self.vault.read(_KEY) as accounts:
            return bytes(accounts.view)

    def _own_files(self) -> tuple[Path, ...]:
        # What a set-up makes and an instance that is restored has of its own.
        login, audit = map(self.vault.store.place, (_KEY, AUDIT))
        return (
            self.instance.path(SETUP_DRAFT),
            *(login.file, login.key, audit.key),
            *(log_path(self.instance), anchor_path(self.instance)),
        )

    def _withdraw(self) -> None:
        # The keys first: nobody writes a line of the log without one.
        for category in (AUDIT, _KEY):
            self.vault.store.put_key(category, "cur", None)
        draft = self.instance.path(SETUP_DRAFT)
        _remove_present(*self._own_files(), *leftovers(draft))

    def taken_over(self, draft: Draft, found: OlderInstallation) -> Draft:
        """The draft with what was found: settings as they are, to the byte, and secrets as answers.

        Accounts are not taken over. Raises as `judge_adoption` does, and UsageError for a file that is not UTF-8 text.
        """
        judged = judge_adoption(self.instance, found)
        texts = {name: _text(name, file.data) for name, file in found.files.items() if CATEGORIES[name].shape == "text"}
        secrets = {name: data for name, data in judged.contents.items() if CATEGORIES[name].shape != "text"}
        answers = {name: json_document.parse_json(data) for name, data in secrets.items() if name != _KEY}
        kept = {name: part for name, part in draft.answers.items() if name != "env"}
        return attrs.evolve(draft, files=texts, answers={**kept, **answers}, settings={})

    def bot_text(self, draft: Draft) -> str:
        """The trading configuration of the answers as a file."""
        text = draft.files.get("env_bot", paper_settings())
        return replace_values(text, draft.settings).decode() if draft.settings else text


def begin_setup(instance: Instance) -> SetUp:
    """Begin the set-up of a folder without an instance, or go on with it: folders, the audit log, a key for accounts.

    Raises AccessError, also while a process trades in the folder, and VaultError.
    """
    _refuse_trading(instance)
    undo_creation(instance)
    draft = instance.path(SETUP_DRAFT)
    filesystem.make_private_folder(instance.home, mode=0o755)
    filesystem.make_private_folder(draft.parent)
    if not filesystem.is_present(draft):
        filesystem.append(draft, b"")
    for folder in FOLDERS:
        filesystem.make_private_folder(instance.path(folder))
    deployment = DeploymentSettings()
    SecretPaths(instance, deployment).write_ignore_files()
    vault = open_instance_vault(instance, deployment)
    if isinstance(vault.provider, PassphraseKeyProvider) and not filesystem.is_present(vault.provider.path):
        vault.provider.create()
    if lacks_key(vault, _KEY):
        vault.make_key(_KEY)
    return SetUp(instance=instance, vault=vault)


def _refuse_trading(instance: Instance) -> None:
    process = instance.lock_holder
    if process is not None:
        message = f"Process {process} trades in {instance.home}, with settings that a set-up would replace."
        raise AccessError(message, "Begin the set-up when it has ended, or in another folder.")


def complete_setup(instance: Instance) -> None:
    """Remove what a set-up leaves beside its instance; a call that was interrupted is completed by the next.

    That is the plaintext that was taken over, once its encrypted form opens, the accounts where `.env` has moved them,
    and the answers. Raises AccessError and VaultError.
    """
    draft = instance.path(SETUP_DRAFT)
    if not filesystem.is_present(draft) or not is_set_up(instance):
        return
    before = SetUp(instance=instance, vault=open_instance_vault(instance, DeploymentSettings(), ready=False))
    vault = open_instance_vault(instance, deployment_of(read_settings_files(instance).env.parsed), ready=False)
    for category, text in _taken_files(before).items():
        _remove_plaintext(vault, category, text.encode())
    filesystem.write_atomic(draft, b"")  # its key may go next
    old = before.vault.store.place(_KEY)
    if vault.store.place(_KEY) != old:
        _remove_present(old.file, old.key)
    _remove_present(*leftovers(draft), draft)


def _taken_files(setup: SetUp) -> Mapping[str, str]:
    try:
        return setup.read().files
    except VaultError as fault:  # a damaged file, which nobody needs any more
        _log.warning("setup.draft_lost", what=fault.message)
        return {}


def _remove_plaintext(made: Vault, category: str, text: bytes) -> None:
    # What was taken over from the folder, and is as it was then.
    place, home = made.store.place(category), made.instance.home
    named = place.file.with_name(place.file.name.removesuffix(ENCRYPTED_SUFFIX))
    for path in dict.fromkeys((named, home / f".{category}")):
        if filesystem.is_present(path) and filesystem.read_bytes(path) == text:
            with made.read(category):
                filesystem.remove(path)


def _remove_present(*paths: Path) -> None:
    for path in paths:
        if filesystem.is_present(path):
            filesystem.remove(path)


def _text(category: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise UsageError(f".{category} is not UTF-8 text.", "Save it as UTF-8, and give it again.") from None


def _place(vault: Vault) -> CategoryPaths:
    # The draft is bound to its own name, and encrypted with the key of the accounts, which are there before it.
    key, home = vault.store.place(_KEY).key, vault.instance.home
    return CategoryPaths(category=SETUP, logical="setup.json", key=key, file=home / SETUP_DRAFT, home=home)
