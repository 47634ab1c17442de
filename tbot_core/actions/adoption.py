"""`tbot init --adopt`: makes an instance of the settings and secrets of an older installation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts.credentials import SecretField
from tbot_core.errors import AccessError, SettingsError, UsageError, VaultError
from tbot_core.instance.folder import ENCRYPTED_SUFFIX, OLDER_FOLDER
from tbot_core.instance.older_layout import OlderInstallation, read_older_installation
from tbot_core.model.json_document import parse_json
from tbot_core.system import filesystem
from tbot_core.vault.categories import CATEGORIES, ENV_KEY_VARIABLE, category_paths

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from tbot_core.instance import Instance

_REMEDY: Final = "Nothing was created."


@attrs.frozen(kw_only=True)
class SecretsNeeded:
    """Secrets that are not there yet: the category, whose they are, and their fields; `section` is "" for all of it."""

    category: str
    owner: str
    section: str
    fields: Mapping[str, SecretField]

    def __str__(self) -> str:
        """The category, and whose secrets they are."""
        return f"{self.category} ({self.owner})" if self.owner else self.category


@attrs.frozen(kw_only=True)
class Adoption:
    """What is to be adopted: the installation, the content by category, and the secrets that are not there."""

    found: OlderInstallation
    contents: Mapping[str, bytes] = attrs.field(repr=False)
    needed: tuple[SecretsNeeded, ...]


def read_adoption(instance: Instance, source: Path | None, *, without: Collection[str] = ()) -> Adoption:
    """Read and check what is in the folder `source`, or in the instance's own; nothing is written.

    Raises UsageError for folders that cannot be used, SettingsError and VaultError for invalid content, and
    SettingsError where a set-up on the web page has begun.
    """
    from tbot_core.actions.instance_creation import refuse_occupied
    from tbot_core.instance.sources import unfinished_setup

    if (unfinished := unfinished_setup(instance)) is not None:
        raise unfinished
    unknown = sorted({*without} - {name for name, it in CATEGORIES.items() if it.shape != "text"})
    if unknown:
        known = ", ".join(name for name, it in CATEGORIES.items() if it.shape != "text")
        raise UsageError(f"--without {unknown[0]}: no such category of secrets.", f"Known: {known}.")
    folder = _source(instance, source)
    if folder != instance.home:
        refuse_occupied(instance)
    return judge_adoption(instance, read_older_installation(folder, without=without))


def judge_adoption(instance: Instance, found: OlderInstallation) -> Adoption:
    """Check what was read of an older installation; nothing is written. Raises as `read_adoption` does."""
    from tbot_core.actions.instance_creation import check_settings

    _refuse_unusable_paths(instance, found)
    contents = {name: file.data for name, file in found.files.items()}
    contents.setdefault("env", _default_env())
    if not found.files["env_bot"].key_id:
        # Encrypted settings cannot be corrected before they are adopted; `tbot check` reports their faults.
        check_settings(instance, contents, f"Correct the file. {_REMEDY}")
    contents |= _checked_secrets(found, contents)
    return Adoption(found=found, contents=contents, needed=tuple(_needed(contents)))


def adopt(instance: Instance, adoption: Adoption, answers: Mapping[str, Any]) -> None:
    """Make the instance, with `answers` by category beside what was found; settings in plaintext in it are removed.

    Each is removed after its encrypted form was opened again. A second call completes one that was interrupted.
    """
    from tbot_core.actions.instance_creation import create_instance

    contents = dict(adoption.contents)
    for category, part in answers.items():
        current = parse_json(contents[category]) if category in contents else {}
        contents[category] = json.dumps({**current, **part}, sort_keys=True, ensure_ascii=False).encode()
    create_instance(instance, contents)
    try:
        _finish(instance, adoption)
    except KeyboardInterrupt:
        words = f"Interrupted: {instance.home} is an instance now, but not every plaintext was removed."
        raise AccessError(words, "Run the same command again: it completes the rest.") from None


def _finish(instance: Instance, adoption: Adoption) -> None:
    # Note what was opened, and remove the plaintext.
    from tbot_core.instance.secrets import open_instance_vault, remove_plaintext

    vault = open_instance_vault(instance, adoption.found.deployment)
    for category, file in adoption.found.files.items():
        if file.key_id:
            vault.note("decrypt", category, "ok", file.key_id)
    for category, path in _plaintext(instance, adoption.found):
        remove_plaintext(vault, category, path)


def adoption_lines(instance: Instance, adoption: Adoption, answers: Mapping[str, Any]) -> Iterator[str]:
    """What was adopted from where, what was not read, and what is still to be set."""
    installation, deployment = adoption.found, adoption.found.deployment
    for category, file in installation.files.items():
        place = category_paths(category, instance, deployment)
        yield f"{category:<13} {file.path} -> {place.shown(place.file)}"
    for path in installation.unused:
        yield f"Not read: {path}, its content was read elsewhere."
    if installation.folder == instance.home and any(
        OLDER_FOLDER in file.path.parts for file in installation.files.values()
    ):
        yield f"{OLDER_FOLDER}/ is no longer read. Remove it once `tbot check` passes and a backup is made."
    if installation.folder != instance.home:
        older = installation.folder
        yield f"{older} was not changed. It holds keys and settings: remove it when it is no longer needed."
    for one in adoption.needed:
        if not _answered(one, answers):
            fields = [field.name for field in one.fields.values() if field.required] or [*one.fields]
            command = f"tbot secrets set {one.category} --home {instance.home}"
            yield f"Still to be set: {one}: {', '.join(fields)}. `{command}` asks for them."


def _answered(needed: SecretsNeeded, answers: Mapping[str, Any]) -> bool:
    part = answers.get(needed.category, {})
    return needed.section in part if needed.section else bool(part)


def _source(instance: Instance, source: Path | None) -> Path:
    if source is None:
        return instance.home
    folder = source.absolute()
    if not filesystem.is_folder(folder):
        raise UsageError(f"{folder} is not a folder.", "--from takes the folder of the older installation.")
    if folder.resolve() == instance.home.resolve():
        raise UsageError(f"--from is the instance itself, {instance.home}.", "Leave --from out to adopt it in place.")
    return folder


def _refuse_unusable_paths(instance: Instance, found: OlderInstallation) -> None:
    # Raises UsageError where nothing is to be done, or the folder of --from would be written to.
    places = {name: category_paths(name, instance, found.deployment) for name in CATEGORIES}
    if found.folder == instance.home:
        in_place = all(file.key_id and file.path == places[name].file for name, file in found.files.items())
        if in_place and not any(_plaintext(instance, found)):
            message = f"{instance.home} is an instance already: there is nothing to adopt."
            raise UsageError(message, "`tbot secrets upgrade` rewrites files in Fernet; `tbot check` checks it.")
        return
    for category, place in places.items():
        for path in (place.key, place.file):
            if path.is_relative_to(found.folder) and not path.is_relative_to(instance.home):
                names = ENV_KEY_VARIABLE if category == "env" else ".env"
                message = f"{category}: {names} names {path}, which is in {found.folder}."
                raise UsageError(message, f"That folder is not written to: name a path in the instance. {_REMEDY}")


def _default_env() -> bytes:
    from tbot_core.actions.instance_creation import default_env

    return default_env()


def _texts(contents: Mapping[str, bytes]) -> dict[str, str]:
    from tbot_core.instance.dotenv import parse_dotenv

    return {
        entry.key: entry.value for name in ("env", "env_bot") for entry in parse_dotenv(name, contents[name]).entries
    }


def _checked_secrets(found: OlderInstallation, contents: Mapping[str, bytes]) -> dict[str, bytes]:
    # The content of each category of secrets in its shape. Raises SettingsError with every fault.
    from tbot_core.instance.enabled_plugins import plugins_enabled
    from tbot_core.instance.older_layout import sectioned_secrets
    from tbot_core.vault.schemas import check_shape

    texts = _texts(contents)
    enabled = {name for _, name in plugins_enabled(texts)}
    broker = texts.get("BROKER_NAME", "").strip().lower()
    secrets: dict[str, bytes] = {}
    faults: list[str] = []
    for category, file in found.files.items():
        if CATEGORIES[category].shape == "text":
            continue
        try:
            data = sectioned_secrets(category, file.data, str(file.path), broker=broker, enabled=enabled)
            check_shape(memoryview(data), category, str(file.path), CATEGORIES[category].shape)
        except (SettingsError, VaultError) as fault:
            faults.append(fault.message)
        else:
            secrets[category] = data
    if faults:
        raise SettingsError(
            "\n".join(faults), f"`--without CATEGORY` leaves a category out, to be set by hand. {_REMEDY}"
        )
    return secrets


def _needed(contents: Mapping[str, bytes]) -> Iterator[SecretsNeeded]:
    # The secrets of enabled plugins that are not among the contents, and the bot's identity.
    from tbot_core.actions.instance_creation import enabled_offers, known_fields
    from tbot_core.instance.enabled_plugins import plugins_enabled
    from tbot_core.instance.secret_schemas import secret_owners
    from tbot_core.vault.schemas import schema_key

    texts = _texts(contents)
    known, enabled = known_fields(texts), plugins_enabled(texts)
    for category, owner in secret_owners(enabled, [offer.declared for offer in enabled_offers(texts)]):
        key = schema_key(category, owner)
        present = parse_json(contents[category]) if category in contents else {}
        there = key[1] in present if key[1] else bool(present)
        if not there and known.get(key):
            yield SecretsNeeded(category=category, owner=owner, section=key[1], fields=known[key])
    if "bot_identity" not in contents:
        fields = known[schema_key("bot_identity", "")]
        yield SecretsNeeded(category="bot_identity", owner="", section="", fields=fields)


def _plaintext(instance: Instance, found: OlderInstallation) -> Iterator[tuple[str, Path]]:
    # The settings in plaintext in the instance that were adopted, the trading configuration first.
    if found.folder != instance.home:
        return
    for category in ("env_bot", "env"):
        place = category_paths(category, instance, found.deployment)
        beside = place.file.with_name(place.file.name.removesuffix(ENCRYPTED_SUFFIX))
        for path in dict.fromkeys((beside, instance.home / f".{category}")):
            if filesystem.is_present(path):
                yield category, path
