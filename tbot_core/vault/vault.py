"""The vault: the only access to the encrypted files. Every access is recorded in the audit log first."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

import attrs

from tbot_core.contracts.credentials import KeyProvider
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.errors import TbotError, VaultError
from tbot_core.model.clock import Clock
from tbot_core.system import random, secure_files
from tbot_core.system.secure_files import FileSystemCalls
from tbot_core.vault import categories, files, keys, schemas
from tbot_core.vault.categories import HasHome
from tbot_core.vault.error_codes import VaultErrorCode, vault_error
from tbot_core.vault.store import OpenedSecrets, SecretStore

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterator, Mapping

    from tbot_core.system.secret import Secret
    from tbot_core.system.secure_files import FileFlaw
    from tbot_core.vault.schemas import Schemas

T = TypeVar("T")
AuditAction = Literal[
    "open", "decrypt", "deny", "write", "rotate", "export", "retire", "backup", "restore",
    "drill", "login", "logout", "lock", "unlock", "step-up", "account",
    "anchor", "accept",
]  # fmt: skip
"""What is done with secrets, with logins and accounts of the web page, and with the journal's head."""


@attrs.frozen(kw_only=True)
class SecretAccess:
    """One access as recorded in the audit log; `key_id` may be empty.

    `category` is one of AUDITED. `outcome` is ok, begun (with what is written, where that is known), an error code, or
    failed for an error without one.
    """

    action: AuditAction
    category: str = attrs.field(validator=attrs.validators.in_(categories.AUDITED))
    outcome: str
    key_id: str = ""


class AccessRecorder(Protocol):
    """What the vault needs of the audit log."""

    def record(self, access: SecretAccess) -> None:
        """Write the access durably; raises VaultError on failure, and the access is refused."""


@attrs.frozen(kw_only=True)
class CategoryStatus:
    """The status of a category: paths for messages, the current key's id, the file's format as text.

    `missing` names missing parts (`key`, `file`); `faults` are errors, and flaws that a strict reader would refuse.
    """

    category: str
    key: str
    file: str
    missing: tuple[str, ...]
    key_id: str | None
    format: str | None
    mode: int | None
    faults: tuple[VaultError, ...]


@attrs.frozen(kw_only=True)
class FormatUpgrade:
    """A file that is, or would be, rewritten: its format before and after."""

    category: str
    before: str
    after: str


@attrs.define(kw_only=True)
class Vault:
    """The secrets of one instance. `live` refuses loose file modes, which otherwise are logged.

    `wait_s` is how long a write waits for that of another process. Every method may raise VaultError, with a stable
    code.
    """

    instance: HasHome = attrs.field(kw_only=False)
    deployment: DeploymentSettings = attrs.field(kw_only=False)
    clock: Clock
    audit: AccessRecorder
    live: bool
    provider: KeyProvider | None = None
    system: FileSystemCalls = secure_files.SYSTEM
    entropy: Callable[[int], bytes] = random.entropy
    wait_s: float = 0.0
    store: SecretStore = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        if categories.env_key_disagrees(self.instance, self.deployment):
            here = categories.category_paths("env", self.instance, self.deployment)
            raise vault_error(VaultErrorCode.ENV_KEY_DISAGREES, "env", here.shown(here.key))
        self.store = SecretStore(
            instance=self.instance,
            deployment=self.deployment,
            clock=self.clock,
            strict=self.live,
            provider=self.provider,
            system=self.system,
            entropy=self.entropy,
            wait_s=self.wait_s,
        )

    def read(self, category: str) -> OpenedSecrets:
        """Decrypt a category's file, to be used as a context manager; tolerated modes are logged."""
        try:
            opened = self.store.load(category)
        except VaultError as error:
            self.note("deny", category, error.code)
            raise
        try:
            self.note("decrypt", category, "ok", opened.key_id)
        except VaultError:
            opened.wipe()
            raise
        files.warn(opened.flaws)
        return opened

    def read_section(self, category: str, plugin: str | None = None) -> Mapping[str, Secret]:
        """The fields of one plugin or user in a category of sections, or of a category that is one object.

        Raises ValueError when `plugin` does not fit the category's shape.
        """
        if (plugin is None) == (categories.CATEGORIES[category].shape != "object"):
            raise ValueError(f"{category} is a category of {categories.CATEGORIES[category].shape}")
        here = self.store.place(category)
        with self.read(category) as opened:
            try:
                return schemas.content_fields(opened.view, category, here.shown(here.file), plugin)
            except VaultError as error:
                self.note("deny", category, error.code, opened.key_id)
                raise

    def read_as(self, schema: type[T], category: str, plugin: str | None = None) -> T:
        """The same fields as an object of the class. Raises VaultError naming every invalid field."""
        here = self.store.place(category)
        fields = self.read_section(category, plugin)
        try:
            return schemas.fill_schema(
                schema, fields, schemas.FieldLocation(category, here.shown(here.file), plugin or "")
            )
        except VaultError as error:
            self.note("deny", category, error.code)
            raise

    def write(
        self, category: str, plaintext: bytes | bytearray | memoryview, edition: str | None = None, words: str = ""
    ) -> bool:
        """Encrypt with the category's current key and replace its file, after it was proven to decrypt.

        With an `edition` of the store, taken before the file was read, only where the file still is the one that the
        plaintext was made of. `words` tell the audit log what changes. Returns whether it was written.
        """
        with self._writing(category) as key:
            if edition is not None and self.store.edition(category) != edition:
                return False
            self._put(category, plaintext, key, words)
        return True

    def renew(self, schema: type[T], category: str, values: Mapping[str, str], plugin: str | None = None) -> T:
        """Replace some fields of what `read_as` reads, and return the new object; the others stay as they are.

        Nothing is written when a value does not fit the class. Raises VaultError.
        """
        here = self.store.place(category)
        spot = schemas.FieldLocation(category, here.shown(here.file), plugin or "")
        with self._writing(category) as key:
            with self.read(category) as opened:
                plaintext = schemas.renewed_content(schema, opened.view, spot, values)
            fields = schemas.content_fields(memoryview(plaintext), category, spot.file, plugin)
            made = schemas.fill_schema(schema, fields, spot)
            self._put(category, plaintext, key)
        return made

    def make_key(self, category: str) -> str:
        """Create a category's key and return its id; raises VaultError when one exists.

        Create the audit log's key first.
        """
        here = self.store.place(category)
        with self.store.holding(category):
            found = self.store.key(category)
            if found is not None:
                found.wipe()
                raise vault_error(VaultErrorCode.KEY_EXISTS, category, here.shown(here.key))
            key = keys.generate_key(self.entropy)
            self.store.put_key(category, "cur", key)
        key.wipe()
        self.note("write", category, "ok", key.name)
        return key.name

    def status(self) -> tuple[CategoryStatus, ...]:
        """The status of each category, without decrypting; faults are returned, not raised."""
        return tuple(self._status(category) for category in categories.CATEGORIES)

    def verify(
        self,
        known: Schemas | None = None,
        *,
        without: Container[str] = (),
        required: Collection[tuple[str, str]] = (),
    ) -> tuple[VaultError, ...]:
        """Decrypt and check every existing file; returns the faults, tolerated modes included.

        Sections and categories not in `known` are checked for shape only. Categories in `without` are skipped.
        `required` are the (category, section) that must be there.
        """
        errors: list[VaultError] = []
        for category in categories.CATEGORIES:
            if category not in without:
                errors += self.category_faults(category, known or {}, required, flaws=True)
        return (*errors, *self.shared_keys())

    def category_faults(
        self, category: str, known: Schemas, required: Collection[tuple[str, str]], *, flaws: bool = False
    ) -> tuple[VaultError, ...]:
        """Decrypt and check the file of one category, as `verify` does; with `flaws` also its tolerated modes."""
        here = self.store.place(category)
        file = here.shown(here.file)
        if not self.store.has_file(category):
            absent = any(place == category for place, _ in required)
            return (vault_error(VaultErrorCode.FILE_MISSING, category, file),) if absent else ()
        try:
            with self.read(category) as opened:
                errors = schemas.check_content(opened.view, category, file, known, required=required)
                return (*(opened.flaws if flaws else ()), *errors)
        except VaultError as error:
            return (error,)

    def shared_keys(self) -> tuple[VaultError, ...]:
        """An error for each category that shares its key with an earlier one; the audit log's key counts."""
        seen: set[bytes] = set()
        errors: list[VaultError] = []
        for category in (categories.AUDIT, *categories.CATEGORIES):
            here = self.store.place(category)
            try:
                key = self.store.key(category)
            except VaultError:
                continue  # reported when the key is used
            if key is None:
                continue
            key.wipe()
            if key.id in seen:
                errors.append(vault_error(VaultErrorCode.KEY_SHARED, category, here.shown(here.key)))
            seen.add(key.id)
        return tuple(errors)

    def upgrade(self, *, dry_run: bool) -> tuple[FormatUpgrade, ...]:
        """Rewrite every file whose format or key is not what a write would use now."""
        done: list[FormatUpgrade] = []
        for category in categories.CATEGORIES:
            if self.store.has_file(category):
                with nullcontext() if dry_run else self.store.holding(category):
                    done += self._upgraded(category, dry_run=dry_run)
        return tuple(done)

    def note(self, action: AuditAction, category: str, outcome: str, key_id: str = "") -> None:
        """Record in the audit log; raises VaultError, which refuses the access, when that fails."""
        self.audit.record(SecretAccess(action=action, category=category, outcome=outcome, key_id=key_id))

    @contextmanager
    def noted(self, action: AuditAction, category: str) -> Iterator[Callable[[str], None]]:
        """Record in the audit log that an access begins, and how it ended.

        What it yields takes the id of the key, where that is known only at the end.
        """
        ids = [""]
        self.note(action, category, "begun")
        try:
            yield ids.append
        except TbotError as error:
            self.note("deny", category, error.code if isinstance(error, VaultError) else "failed")
            raise
        self.note(action, category, "ok", ids[-1])

    @contextmanager
    def _writing(self, category: str) -> Iterator[keys.RootKey]:
        # The current key of a category, while no other process writes it.
        here = self.store.place(category)
        with self.store.holding(category), self.store.ring(category) as ring:
            if ring.next is not None:
                raise vault_error(VaultErrorCode.ROTATION_BEGUN, category, here.shown(here.key))
            if ring.cur is None:
                raise vault_error(VaultErrorCode.KEY_MISSING, category, here.shown(here.key))
            yield ring.cur

    def _put(
        self, category: str, plaintext: bytes | bytearray | memoryview, key: keys.RootKey, words: str = ""
    ) -> None:
        self.note("write", category, f"begun: {words}" if words else "begun", key.name)
        try:
            self.store.put(category, plaintext, key)
        except VaultError as error:
            self.note("deny", category, error.code, key.name)
            raise
        self.note("write", category, "ok", key.name)

    def _upgraded(self, category: str, *, dry_run: bool) -> list[FormatUpgrade]:
        after = files.write_format_text(self.deployment.secrets_write_format)
        with self.read(category) as opened, self.store.ring(category) as ring:
            if ring.cur is None or (opened.format, opened.key_id) == (after, ring.cur.name):
                return []
            if not dry_run:
                self._put(category, opened.view, ring.cur)
            return [FormatUpgrade(category=category, before=opened.format, after=after)]

    def _status(self, category: str) -> CategoryStatus:
        here, present = self.store.place(category), self.store.has_file(category)
        faults: list[VaultError] = []
        try:
            key = self.store.key(category)
        except VaultError as error:
            key, has_key = None, True
            faults.append(error)
        else:
            has_key = key is not None
        form, mode, loose = self._inspect_file(category, faults) if present else (None, None, ())
        key_flaws = () if key is None else self.store.key_flaws(category)
        return CategoryStatus(
            category=category,
            key=here.shown(here.key),
            file=here.shown(here.file),
            missing=(*(() if has_key else ("key",)), *(() if present else ("file",))),
            key_id=None if key is None else key.name,
            format=form,
            mode=mode,
            faults=(*faults, *files.flaws_of(here, key=key_flaws, file=loose)),
        )

    def _inspect_file(
        self, category: str, faults: list[VaultError]
    ) -> tuple[str | None, int | None, tuple[FileFlaw, ...]]:
        # Format, mode and flaws of a file, as far as it can be read.
        try:
            read = files.read_file(self.store.place(category), strict=False, system=self.system)
        except VaultError as error:
            faults.append(error)
            return None, None, ()
        with read.data as text:
            return files.format_text(text.view), read.mode, read.flaws
