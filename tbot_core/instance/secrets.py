"""Opens an instance's vault with the configured key provider and its audit log."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tbot_core.errors import UsageError, VaultError
from tbot_core.system import environ, terminal
from tbot_core.system.secret import Secret

if TYPE_CHECKING:
    from tbot_core.contracts import KeyProvider
    from tbot_core.contracts.settings import DeploymentSettings
    from tbot_core.instance.folder import Instance
    from tbot_core.instance.settings import Settings
    from tbot_core.vault.vault import Vault


_PROGRAM: Final = "tbot"
WRITE_WAIT_S: Final = 3.0
"""How long a write of secrets waits for that of another process."""


def open_instance_vault(
    instance: Instance, deployment: DeploymentSettings, *, live: bool = False, ready: bool = True, actor: str = ""
) -> Vault:
    """Open the vault of the instance; every access is audited with its actor, by default the user and the program.

    `live` refuses loose file modes and unapproved key provider plugins. With `ready` the audit log's key is created if
    neither key nor log exists, and the journal gets keyed hashes from then on. Raises VaultError when the key provider
    fails, and when ENV_ENC_KEY_PATH names another key than the one that opens `.env.enc`.
    """
    from tbot_core.instance.journal_key_start import note_new_key
    from tbot_core.model.clock import SystemClock
    from tbot_core.system import filesystem
    from tbot_core.vault.audit_log import log_path, open_vault
    from tbot_core.vault.categories import AUDIT
    from tbot_core.vault.store import SecretStore

    store = SecretStore(
        instance=instance,
        deployment=deployment,
        clock=SystemClock(),
        strict=live,
        provider=_provider(instance.home, live=live),
        wait_s=WRITE_WAIT_S,
    )
    opened = open_vault(store, actor or f"{environ.user_name()}/{Path(sys.argv[0]).name or _PROGRAM}")
    if ready and not filesystem.is_present(log_path(instance)) and lacks_key(opened, AUDIT):
        filesystem.make_folder(store.place(AUDIT).key.parent)
        opened.make_key(AUDIT)
        note_new_key(instance, opened)
    return opened


def encrypt_category(
    opened: Vault, category: str, plaintext: bytes | bytearray | memoryview, edition: str | None = None
) -> bool:
    """Encrypt into the category's file, creating its folder and key if missing. Raises VaultError.

    With an `edition` of the file only where it still is that one; returns whether it was written.
    """
    from tbot_core.system import filesystem
    from tbot_core.vault.error_codes import VaultErrorCode

    here = opened.store.place(category)
    for folder in (here.key.parent, here.file.parent):
        filesystem.make_folder(folder)
    if lacks_key(opened, category):
        try:
            opened.make_key(category)
        except VaultError as fault:
            if fault.code != VaultErrorCode.KEY_EXISTS.text:  # another process has just made it
                raise
    return opened.write(category, plaintext, edition)


def remove_plaintext(opened: Vault, category: str, path: Path) -> None:
    """Remove a settings file in plaintext after its encrypted form was opened and is equal to it.

    Raises UsageError where they differ, and VaultError where the encrypted form cannot be opened; both stay then.
    """
    from tbot_core.system import filesystem

    with opened.read(category) as content:
        proven = bytes(content.view) == filesystem.read_bytes(path)
    if not proven:
        here = opened.store.place(category)
        message = f"{path.name} and {here.shown(here.file)} differ."
        raise UsageError(message, f"The encrypted file is in use. Remove {path.name}, or the file that is outdated.")
    filesystem.remove(path)


def lacks_key(opened: Vault, category: str) -> bool:
    """Whether a category has no key and could get one. Raises VaultError for an unusable key."""
    if "put" not in opened.store.keys.capabilities:
        return False
    key = opened.store.key(category)
    if key is not None:
        key.wipe()
    return key is None


def forget_passphrases() -> None:
    """Drop cached passphrases and the cached key provider."""
    _provider.cache_clear()


@cache
def _provider(home: Path, *, live: bool) -> KeyProvider | None:
    # Cached, so that a passphrase is prompted for only once per process.
    from tbot_core.instance.folder import Instance
    from tbot_core.vault.key_providers import VARIABLE, choose_provider

    return choose_provider(
        environ.variable(VARIABLE), Instance(home), ask=_passphrase, offered=lambda: _offered(home, live=live)
    )


def _passphrase() -> Secret:
    return Secret(terminal.read_hidden("Passphrase of the keys"))


def _offered(home: Path, *, live: bool) -> KeyProvider | None:
    from tbot_core.model.clock import SystemClock
    from tbot_core.plugins.hook_calls import key_provider

    return key_provider(home, SystemClock(), live=live)


def account_mode(settings: Settings, broker: str = "") -> str:
    """The mode in the broker's section of the secrets (default: BROKER_NAME's): "live", else "paper"."""
    opened = open_instance_vault(settings.instance, settings.deployment, ready=False)
    if not opened.store.has_file("broker"):
        return "paper"
    section = opened.read_section("broker", broker or settings.trading.broker_name)
    mode = next((value for name, value in section.items() if name.lower() == "mode"), None)
    return "live" if mode is not None and mode.inspect().strip().lower() == "live" else "paper"
