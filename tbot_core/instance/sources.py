"""Reads the two settings files: plaintext, or encrypted and decrypted in memory only."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.errors import AccessError, SettingsError, TbotError, VaultError
from tbot_core.instance.dotenv import LIMIT_BYTES, ParsedDotenv, parse_dotenv
from tbot_core.instance.findings import SettingsFinding, is_secret_for_path, printable_value
from tbot_core.instance.folder import CREATION_MARKER, ENCRYPTED_SUFFIX, ENV_FILE, SETUP_DRAFT, Instance
from tbot_core.system import filesystem
from tbot_core.system.redaction import is_shaped_like_secret

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.contracts.settings import DeploymentSettings

ENV_BOT_FILE: Final = ".env_bot"
_KEPT: ContextVar[dict[tuple[Path, bool], tuple[object, ParsedDotenv]] | None] = ContextVar("kept", default=None)


@attrs.frozen(kw_only=True)
class SettingsFile:
    """One settings file: `name` is used in messages, without .enc; `path` is that of the plaintext.

    `plain` and `sealed` tell which forms exist. The encrypted one takes precedence; `fault` is why it could not be
    read, and `parsed` is empty then.
    """

    name: str
    path: Path
    plain: bool = False
    sealed: bool = False
    parsed: ParsedDotenv = attrs.field(factory=ParsedDotenv)
    fault: TbotError | None = None

    @property
    def exists(self) -> bool:
        """Whether the file exists in either form."""
        return self.plain or self.sealed

    @property
    def edit_words(self) -> str:
        """How a person edits the file."""
        if not self.sealed:
            return f"Edit {self.name}."
        return "`tbot config edit` edits it." if self.name == ENV_BOT_FILE else "`tbot secrets edit env` edits it."

    @property
    def active_name(self) -> str:
        """The name of the form that takes precedence."""
        return f"{self.name}{ENCRYPTED_SUFFIX}" if self.sealed else self.name


@attrs.frozen(kw_only=True)
class SettingsFiles:
    """Both settings files of an instance: global and trading configuration."""

    env: SettingsFile
    bot: SettingsFile

    @property
    def both(self) -> tuple[SettingsFile, SettingsFile]:
        """Both files in reading order."""
        return self.env, self.bot

    def file_of(self, finding: SettingsFinding) -> SettingsFile | None:
        """The file that a finding is in; None for one that is in neither."""
        places = {finding.where, finding.where.rpartition(":")[0]}
        return next((source for source in self.both if source.active_name in places), None)

    def texts(self) -> dict[str, str]:
        """The text of every key; the trading configuration takes precedence, except for EXTENSIONS.

        Invalid lines are left out. Raises SettingsError or VaultError for a file that cannot be read.
        """
        for source in self.both:
            if isinstance(source.fault, AccessError):
                raise SettingsError(source.fault.message, source.fault.remedy) from source.fault
            if source.fault is not None:
                raise source.fault
        texts = {entry.key: entry.value for entry in self.env.parsed.entries}
        return texts | {entry.key: entry.value for entry in self.bot.parsed.entries if entry.key != "EXTENSIONS"}

    def known_texts(self) -> dict[str, str]:
        """As `texts`, but empty when a file cannot be read; `findings` reports that."""
        return {} if any(source.fault for source in self.both) else self.texts()

    def findings(self, *, live: bool) -> Iterator[SettingsFinding]:
        """Findings about the files themselves; live trading refuses plaintext."""
        for source in self.both:
            yield from source.parsed.findings
            if source.fault is not None:
                yield SettingsFinding(level="fail", message=str(source.fault), where=source.active_name)
            if source.plain and source.sealed:
                sentence = f"{source.active_name} takes precedence; delete the plaintext {source.name} beside it."
                yield SettingsFinding(level="fail" if live else "warn", message=sentence, where=source.name)
        if live and self.bot.plain and not self.bot.sealed:
            sentence = (
                "live trading does not accept a plaintext trading configuration: `tbot config encrypt` encrypts it."
            )
            yield SettingsFinding(level="fail", message=sentence, where=self.bot.name)


def read_settings_files(instance: Instance, *, live: bool = False) -> SettingsFiles:
    """Read both files in the form that takes precedence; opening an encrypted one is audited.

    An unreadable file raises nothing: see its `fault`. `live` refuses loose file modes.
    """
    env = read_global_file(instance, live=live)
    named = _bot_path(env.parsed)
    if env.fault is not None:
        # The path and key of the trading configuration are unknown then.
        return SettingsFiles(env=env, bot=SettingsFile(name=named, path=instance.path(named)))
    bot = _source(instance, "env_bot", named, env.parsed, live=live)
    if bot.exists and bot.fault is None and bot.parsed == ParsedDotenv():
        sentence = "it is empty: `tbot init` writes a trading configuration into an empty folder."
        empty = ParsedDotenv(findings=(SettingsFinding(level="fail", message=sentence, where=bot.active_name),))
        bot = attrs.evolve(bot, parsed=empty)
    return SettingsFiles(env=env, bot=bot)


def read_global_file(instance: Instance, *, live: bool = False) -> SettingsFile:
    """Read the global configuration as `read_settings_files` does; that of an unfinished instance cannot be read."""
    unfinished = unfinished_setup(instance)
    if unfinished is None and filesystem.is_present(instance.path(CREATION_MARKER)):
        unfinished = SettingsError(
            f"The instance {instance.home} is not completely made: `tbot init` was interrupted, or is still running.",
            "Run `tbot init` again: it removes what was made, and begins anew.",
        )
    if unfinished is not None:
        return SettingsFile(name=ENV_FILE, path=instance.env, fault=unfinished)
    return _source(instance, "env", ENV_FILE, None, live=live)


def is_set_up(instance: Instance) -> bool:
    """Whether the folder holds an instance that is completely made, or one that has traded. Opens nothing."""
    if filesystem.is_present(instance.path(CREATION_MARKER)):
        return False
    return is_sealed(instance) or filesystem.is_present(instance.journal)


def unfinished_setup(instance: Instance) -> SettingsError | None:
    """Why the folder cannot be used yet: its set-up on the web page is not finished; None where there is none."""
    if not filesystem.is_present(instance.path(SETUP_DRAFT)) or is_set_up(instance):
        return None
    return SettingsError(
        f"The set-up of {instance.home} on the web page is not finished.",
        f"`tbot web --home {instance.home}` goes on with it. To begin anew, remove the folders data and storage in it.",
    )


def has_settings(instance: Instance) -> bool:
    """Whether the folder holds an instance: a settings file in either form. Opens nothing."""
    files = (instance.env, instance.path(ENV_BOT_FILE))
    return any(filesystem.is_present(path) for file in files for path in (file, _sealed(file)))


def find_instance(home: Path | None) -> Instance:
    """The instance in a folder; raises SettingsError if there is none. Opens nothing."""
    instance = Instance.at(home)
    if not has_settings(instance):
        raise SettingsError(f"{instance.home} is not an instance.", "Give its folder with --home.")
    return instance


def is_sealed(instance: Instance) -> bool:
    """Whether settings can be read only by decrypting a file. Opens nothing."""
    if filesystem.is_present(_sealed(instance.env)):
        return True
    env = _plain(ENV_FILE, instance.env) if filesystem.exists(instance.env) else ParsedDotenv()
    return filesystem.is_present(_sealed(instance.path(_bot_path(env))))


def _bot_path(env: ParsedDotenv) -> str:
    # The path of the trading configuration, without loading all declarations; the default for a secret in its place.
    named = next((entry.value for entry in env.entries if entry.key == "ENV_BOT_PATH"), "")
    return ENV_BOT_FILE if not named or is_shaped_like_secret(named) else named


def plaintext_of(source: SettingsFile) -> bytes:
    """The bytes of a settings file in plaintext."""
    return filesystem.read_bytes(source.path, limit=LIMIT_BYTES)


def deployment_of(parsed: ParsedDotenv) -> DeploymentSettings:
    """The global configuration of a parsed `.env`, with defaults for invalid values."""
    from tbot_core.contracts.setting import declarations
    from tbot_core.contracts.settings import DeploymentSettings

    texts = {entry.key: entry.value.strip() for entry in parsed.entries}
    given = {}
    for field, declaration in declarations(DeploymentSettings).items():
        text = texts.get(declaration.name, declaration.default_text)
        try:
            given[field] = (
                declaration.default if is_secret_for_path(declaration.kind, text) else declaration.kind.parse(text)
            )
        except ValueError:
            given[field] = declaration.default
    return DeploymentSettings(**given)


def _source(instance: Instance, category: str, named: str, env: ParsedDotenv | None, *, live: bool) -> SettingsFile:
    path, name = instance.path(named), printable_value(named)
    source = SettingsFile(name=name, path=path)
    try:
        source = attrs.evolve(source, plain=filesystem.is_present(path), sealed=filesystem.is_present(_sealed(path)))
        if source.sealed:
            return attrs.evolve(source, parsed=_opened(instance, category, source.active_name, env, live=live))
        return attrs.evolve(source, parsed=_plain(name, path) if source.plain else ParsedDotenv())
    except (AccessError, VaultError) as fault:
        return attrs.evolve(source, fault=fault)


@contextmanager
def keep_opened_settings() -> Iterator[None]:
    """While the context lasts, open an encrypted settings file again only when it or its key has changed.

    Each opening is a line of the access log, which a process that reads the settings for each request would fill.
    """
    token = _KEPT.set({})
    try:
        yield
    finally:
        _KEPT.reset(token)


def _opened(instance: Instance, category: str, name: str, env: ParsedDotenv | None, *, live: bool) -> ParsedDotenv:
    from tbot_core.instance.secrets import open_instance_vault

    vault = open_instance_vault(instance, deployment_of(env or ParsedDotenv()), live=live)
    place, kept = vault.store.place(category), _KEPT.get()
    revisions = (filesystem.revision(place.file), filesystem.revision(place.key))
    if kept is not None and (known := kept.get((place.file, live))) is not None and known[0] == revisions:
        return known[1]
    with vault.read(category) as opened:
        parsed = parse_dotenv(name, bytes(opened.view))
    if env is None:
        # The key was found without the setting that names it; both must agree.
        open_instance_vault(instance, deployment_of(parsed), live=live)
    if kept is not None:
        kept[place.file, live] = (revisions, parsed)
    return parsed


def _plain(name: str, path: Path) -> ParsedDotenv:
    return parse_dotenv(name, filesystem.read_bytes(path, limit=LIMIT_BYTES))


def _sealed(path: Path) -> Path:
    return Path(f"{path}{ENCRYPTED_SUFFIX}")
