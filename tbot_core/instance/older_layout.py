"""Reads the settings and secrets of an installation that tbot is to adopt: plaintext, Fernet or tbot's own format.

An older installation has encrypted files in `tbot_bot/support` and keys in `tbot_bot/storage/keys`, or both where its
`.env` says. Its secrets have no sections; they are converted to one per plugin. Nothing is written here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.errors import SettingsError, TbotError
from tbot_core.instance.dotenv import LIMIT_BYTES, parse_dotenv
from tbot_core.instance.findings import printable_value
from tbot_core.instance.folder import ENCRYPTED_SUFFIX, ENV_FILE, OLDER_FOLDER
from tbot_core.instance.plugin_settings import known_plugins
from tbot_core.instance.sources import ENV_BOT_FILE, deployment_of
from tbot_core.system import filesystem
from tbot_core.vault.categories import CATEGORIES, CategoryPaths, category_paths
from tbot_core.vault.schemas import parse_content
from tbot_core.vault.store import open_foreign_file

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from tbot_core.instance.plugin_settings import KnownPlugin

_SUPPORT: Final = f"{OLDER_FOLDER}/support"
_SETTINGS_NAME: Final = re.compile(r"\.?env([_-]?bot)?(?!.*(key|enc)$)([._-].*)?|[^.].*\.env", re.IGNORECASE)
_KEY_FOLDERS: Final = ("storage/keys", f"{OLDER_FOLDER}/storage/keys")
_KEY_NAMES: Final = {"env": "env_enc.key", "env_bot": "env.key"}
_SECRET_FOLDERS: Final = (_SUPPORT, "storage/secrets")
_NAMES: Final = {
    "login": ("login",),
    "broker": ("broker", "broker_credentials"),
    "screener_api": ("screener_api",),
    "alert": ("alert_channels", "alert"),
    "smtp": ("smtp", "smtp_credentials"),
    "acct_api": ("acct_api", "acct_api_credentials"),
    "network": ("network_config", "network"),
    "bot_identity": ("bot_identity",),
}
"""The names of each category's file without `.json.enc`; older ones are also written `.NAME.enc`."""


@attrs.frozen(kw_only=True)
class OlderFile:
    """The content of a category: where it was read, and the id of the key that opened it, "" for plaintext."""

    path: Path
    data: bytes = attrs.field(repr=False)
    key_id: str = ""


@attrs.frozen(kw_only=True)
class OlderInstallation:
    """What the folder holds, by category; `unused` are files whose category was read elsewhere."""

    folder: Path
    files: dict[str, OlderFile]
    deployment: DeploymentSettings
    unused: tuple[Path, ...] = ()


@attrs.frozen(kw_only=True)
class _Folder:
    # What `category_paths` needs of an instance.
    home: Path


def read_older_installation(folder: Path, *, without: Collection[str] = ()) -> OlderInstallation:
    """Open every settings file and every category that the folder holds, in memory, but for those in `without`.

    The paths in `.env` come first. Raises SettingsError with one line per fault: a file without its key, two forms of
    one file that differ, and a folder without a trading configuration.
    """
    found, faults = dict[str, OlderFile](), list[str]()
    unused = list[Path]()
    deployment = DeploymentSettings()
    for category in (name for name in CATEGORIES if name not in without):
        try:
            read, rest = _category(folder, category, deployment)
        except TbotError as fault:
            faults.append(fault.message)
            read, rest = None, []
        unused += rest
        if read is not None:
            found[category] = read
        if category == "env" and read is not None:
            deployment = deployment_of(parse_dotenv(ENV_FILE, read.data))
    if not faults and "env_bot" not in found:
        places = (f"{folder / place}" for place in _settings_places("env_bot", deployment))
        sentence = f"There is no trading configuration in {folder}: none of {', '.join(places)} exists."
        faults.append(f"{sentence}{_renaming(folder, found)}")
    if faults:
        raise SettingsError("\n".join(faults), "Nothing was created.")
    return OlderInstallation(folder=folder, files=found, deployment=deployment, unused=tuple(unused))


def sectioned_secrets(category: str, data: bytes, file: str, *, broker: str, enabled: Collection[str]) -> bytes:
    """The content of a category of plugins with one section per plugin, their names in lower case.

    {field: value} becomes the section of `broker` in the category `broker`, but for fields with the prefix of another
    broker's vendor. Elsewhere each field goes to the plugin that has a field of its name, of those in `enabled` first.
    A vendor's prefix is removed, as in NAME_API_KEY. Content that has sections, or of another category, keeps its
    values. Raises VaultError for content that is no JSON object, SettingsError for a section that is there twice and
    for a field whose plugin is not known.
    """
    if not CATEGORIES[category].by_plugin:
        return data
    content = parse_content(memoryview(data), category, file)
    if not any(isinstance(value, dict) for value in content.values()):
        return _document(_by_plugin(category, content, file, broker, enabled)) if content else data
    names = [name.lower() for name in content]
    for name in content:
        if names.count(name.lower()) > 1:
            raise SettingsError(f"{category}: {file} has more than one section {name.lower()}.")
    return data if names == list(content) else _document(dict(zip(names, content.values(), strict=True)))


def _renaming(folder: Path, found: Collection[str]) -> str:
    # How to name the files of the folder that seem to be settings which were not found.
    names = [path.name for path in filesystem.entries(folder) if not filesystem.is_folder(path)]
    seeming = [name for name in names if _SETTINGS_NAME.fullmatch(name)]
    wanted = [(name, "env_bot" if "bot" in name.lower() else "env") for name in seeming]
    copies = [f"copy {printable_value(name)} to .{category}" for name, category in wanted if category not in found]
    return f" If its files have other names: {', '.join(copies)}." if copies else ""


def _category(folder: Path, category: str, deployment: DeploymentSettings) -> tuple[OlderFile | None, list[Path]]:
    # The content of a category, and the files that were not read. Raises TbotError.
    place = category_paths(category, _Folder(home=folder), deployment)
    plain, sealed = _places(folder, place, deployment)
    rest = [*plain[1:], *sealed[1:]]
    opened = _opened(place, sealed[0]) if sealed else None
    if not plain:
        return opened, rest
    read = _read_plain(plain[0])
    if opened is not None and opened.data != read.data:
        shown = place.shown(opened.path)
        raise SettingsError(f"{category}: {place.shown(read.path)} and {shown} differ; remove the outdated one.")
    return (read if opened is None else opened), rest


def _read_plain(path: Path) -> OlderFile:
    if filesystem.is_link(path):
        raise SettingsError(f"{path} is a symbolic link. Put the file itself in its place.")
    data = filesystem.read_bytes(path, limit=LIMIT_BYTES)
    if not data.strip():
        raise SettingsError(f"{path} is empty.")
    return OlderFile(path=path, data=data)


def _opened(place: CategoryPaths, path: Path) -> OlderFile:
    with open_foreign_file(attrs.evolve(place, file=path), _keys(place)) as opened:
        return OlderFile(path=path, data=bytes(opened.view), key_id=opened.key_id)


def _keys(place: CategoryPaths) -> Sequence[Path]:
    name = _KEY_NAMES.get(place.category, f"{place.category}.key")
    return tuple(dict.fromkeys((place.key, *(place.home / folder / name for folder in _KEY_FOLDERS))))


def _places(folder: Path, place: CategoryPaths, deployment: DeploymentSettings) -> tuple[list[Path], list[Path]]:
    # The existing files of a category, each once: in plaintext (settings only), and encrypted.
    if CATEGORIES[place.category].shape == "text":
        plain = [folder / name for name in _settings_places(place.category, deployment)]
        sealed = [Path(f"{path}{ENCRYPTED_SUFFIX}") for path in plain]
        sealed.append(folder / _SUPPORT / f".{place.category}{ENCRYPTED_SUFFIX}")
    else:
        plain = []
        sealed = [place.file, *(folder / name for name in _secret_places(place.category))]
    return _present(plain), _present(sealed)


def _settings_places(category: str, deployment: DeploymentSettings) -> tuple[str, ...]:
    names = (ENV_FILE,) if category == "env" else (deployment.env_bot_path, ENV_BOT_FILE)
    return tuple(dict.fromkeys(names))


def _secret_places(category: str) -> Iterator[str]:
    for folder in _SECRET_FOLDERS:
        for name in _NAMES[category]:
            yield f"{folder}/{name}.json{ENCRYPTED_SUFFIX}"
            yield f"{folder}/.{name}{ENCRYPTED_SUFFIX}"


def _present(paths: Sequence[Path]) -> list[Path]:
    return [path for path in dict.fromkeys(paths) if filesystem.is_present(path)]


def _document(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, ensure_ascii=False).encode()


def _by_plugin(
    category: str, content: Mapping[str, Any], file: str, broker: str, enabled: Collection[str]
) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, value in content.items():
        owners = dict(_owners(category, name))
        if category == "broker":
            named = {plugin: field for plugin, field in owners.items() if _is_prefixed(plugin, name)}
            owners = named or ({broker: owners.get(broker, name)} if broker else {})
        elif owners.keys() & enabled:
            owners = {plugin: field for plugin, field in owners.items() if plugin in enabled}
        if len(owners) != 1:
            whose = f"fields of {', '.join(sorted(owners))}" if owners else "a field of no known plugin"
            what = (
                "BROKER_NAME is empty, so its broker is not known" if category == "broker" else f"it could be {whose}"
            )
            raise SettingsError(f"{category}: {file}: the field {name} has no section, and {what}.")
        ((plugin, field),) = owners.items()
        found.setdefault(plugin, {})[field] = value
    return found


def _owners(category: str, name: str) -> Iterator[tuple[str, str]]:
    # The plugins with a field of this name, and its name there.
    for plugin in known_plugins():
        fields = plugin.secrets.get(category, {})
        spelt = {word.lower(): field for field, one in fields.items() for word in (one.name, *one.aliases)}
        field = next((spelt[word] for word in _words(plugin, name) if word in spelt), None)
        if field is not None:
            yield plugin.name, field


def _is_prefixed(plugin: str, name: str) -> bool:
    # Whether the name begins with a prefix of this plugin's vendor, which says whose field it is.
    return any(len([*_words(one, name)]) > 1 for one in known_plugins() if one.name == plugin)


def _words(plugin: KnownPlugin, name: str) -> Iterator[str]:
    # The name, and what follows a prefix of the vendor's in it.
    yield name.lower()
    for prefix in (f"{plugin.name}_", *(one.lower() for one in plugin.environment)):
        if name.lower().startswith(prefix):
            yield name.lower().removeprefix(prefix)
