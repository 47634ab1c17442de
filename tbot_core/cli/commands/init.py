"""`tbot init`: creates an instance with folders, keys, encrypted settings and secrets, an identity and a journal."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from tbot_core.cli.actions.config import replace_values
from tbot_core.cli.options import document_json, home_option
from tbot_core.errors import UsageError
from tbot_core.instance.folder import FOLDERS
from tbot_core.model import json_document

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TextIO

    from tbot_core.contracts.settings import DeploymentSettings
    from tbot_core.errors import VaultError
    from tbot_core.instance import Instance
    from tbot_core.plugins.loader import LoadedPlugin
    from tbot_core.vault.schemas import Schemas

PAPER: Final = Path(__file__).parents[2] / "instance" / "paper.env_bot"


@click.command("init")
@click.option("--paper", is_flag=True, help="Create a complete paper trading instance without questions.")
@click.option(
    "--from-json", "document", type=click.File(), help="Read the answers from a JSON file; - is standard input."
)
@click.option("--from-env", is_flag=True, help="Import credentials from the vendors' usual environment variables.")
@home_option
def command(*, paper: bool, document: TextIO | None, from_env: bool, home: Path | None) -> int:
    """Create an instance; existing files are never overwritten. Ends with `tbot check`.

    Without an option it asks for identity, broker and credentials; secret values are hidden.
    """
    from tbot_core.instance import Instance

    instance = Instance.at(home)
    if paper and (from_env or document is not None):
        other = "--from-json" if document is not None else "--from-env"
        raise UsageError(f"--paper and {other} exclude each other.", f"Give {other} alone; both trade on paper.")
    refuse_occupied(instance)
    answers: dict[str, Any] = {}
    if document is not None:
        answers = parse_document(document)
    elif not paper and not from_env:
        answers = ask_person()
    if from_env:
        credentials, unused = vendor_credentials(answers.get("env_bot", {}))
        answers = {**credentials, **answers}
        for name in unused:
            click.echo(f"{name} is ignored: no credential field has this name.")
    make_instance(instance, answers, "the values" if document is None else "the JSON input")
    click.echo(f"Created the instance {instance.home}. Its keys are in storage/keys: back them up on another machine.")
    if paper:
        pin_plugins(home)
    return _print_check(home)


def refuse_occupied(instance: Instance) -> None:
    """Raises UsageError if settings or keys exist already."""
    from tbot_core.system import filesystem

    keys = instance.path("storage/keys")
    found = [
        name for name in (".env", ".env.enc", ".env_bot", ".env_bot.enc") if filesystem.is_present(instance.path(name))
    ]
    found += ["storage/keys"] if filesystem.is_folder(keys) and filesystem.entries(keys) else []
    if found:
        message = f"{instance.home} is an instance already; {', '.join(found)} would be overwritten."
        raise UsageError(message, "Choose another --home; `tbot config edit` and `tbot secrets edit` change this one.")


def make_instance(instance: Instance, answers: Mapping[str, Any], source: str = "the values") -> None:
    """Create everything. `answers` has the content by category; settings as {variable: value} replace the paper ones.

    A folder that exists already is closed to others. Raises UsageError for an unknown category, VaultError and
    SettingsError for invalid content, which is to be corrected in `source`, before anything is created, and AccessError
    for a folder that belongs to another user.
    """
    from tbot_core.instance.dotenv import parse_dotenv
    from tbot_core.instance.journal_key import open_instance_journal
    from tbot_core.instance.secret_paths import SecretPaths
    from tbot_core.instance.secrets import encrypt_category, lacks_key, open_instance_vault
    from tbot_core.instance.sources import deployment_of
    from tbot_core.system import filesystem
    from tbot_core.vault.categories import CATEGORIES
    from tbot_core.vault.content import assert_utf8
    from tbot_core.vault.key_providers import PassphraseKeyProvider

    for category, part in answers.items():
        assert_utf8(part, category, CATEGORIES[category].logical if category in CATEGORIES else category)
    contents = _contents(answers)
    deployment = deployment_of(parse_dotenv(".env", contents["env"]))
    remedy = f"Correct {source}; nothing was created."
    _check_contents(instance, deployment, contents, remedy)
    _check_settings(instance, contents, remedy)
    filesystem.make_private_folder(instance.home, mode=0o755)
    for folder in FOLDERS:
        filesystem.make_private_folder(instance.path(folder))
    SecretPaths(instance, deployment).write_ignore_files()
    opened = open_instance_vault(instance, deployment)
    if isinstance(opened.provider, PassphraseKeyProvider):
        opened.provider.create()
    for category in CATEGORIES:
        if category in contents:
            encrypt_category(opened, category, contents[category])
        elif lacks_key(opened, category):
            filesystem.make_folder(opened.store.place(category).key.parent)
            opened.make_key(category)
    open_instance_journal(instance).close()


def pin_plugins(home: Path | None) -> None:
    """Approve the plugins that the settings enable, as they are installed now, unless there is a warning about one."""
    from tbot_core.cli.actions.plugin_lock import approve_lock, propose_lock

    proposal = propose_lock(home, None)
    if proposal.warnings:
        for warning in proposal.warnings:
            click.echo(f"No plugin is approved: {warning}")
        return
    approve_lock(proposal, agreed=True)
    click.echo(f"Approved the {len(proposal.proposed.plugins)} plugins of its settings as they are installed now.")


def parse_document(document: TextIO) -> dict[str, Any]:
    """The document of --from-json: {category: {...}}. Raises UsageError, which never quotes the content."""
    found = document_json(document)
    named = "" not in json_document.invalid_utf8_places(found)
    if not isinstance(found, dict) or not all(isinstance(part, dict) for part in found.values()) or not named:
        raise UsageError("The document must be a JSON object with one object per category.", "See `tbot init --help`.")
    return found


def vendor_credentials(settings: Mapping[str, object]) -> tuple[dict[str, dict[str, dict[str, str]]], tuple[str, ...]]:
    """The values of the vendors' usual variables, by category and plugin, and the names of unused variables.

    Raises UsageError if none is set, or if two of them set different values.
    """
    from tbot_core.instance.plugin_settings import known_plugins
    from tbot_core.system import environ

    prefixes = {prefix: one for one in known_plugins() for prefix in one.environment}
    given = {prefix: values for prefix in prefixes if (values := environ.variables_with_prefix(prefix))}
    known = _fields(settings)
    found: dict[str, dict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    rest: list[str] = []
    for prefix, values in given.items():
        plugin = prefixes[prefix].name
        places = {
            word: (category, it.name)
            for category in prefixes[prefix].secrets
            for it in known[category, plugin].values()
            for word in (it.name, *it.aliases)
        }
        for name, value in values.items():
            if name.lower() not in places:
                rest.append(f"{prefix}{name}")
                continue
            category, field = places[name.lower()]
            if found[category][plugin].setdefault(field, value) != value:
                raise UsageError(
                    f"{prefix}{name} and another variable both set {plugin}.{field}, to different values.",
                    "Unset one of them.",
                )
    if not found:
        raise UsageError(f"No environment variable begins with {', '.join(prefixes)}.", "Set them for this command.")
    return {category: {name: dict(part) for name, part in one.items()} for category, one in found.items()}, tuple(rest)


def ask_person() -> dict[str, Any]:
    """The answers of a person: identity, broker, and its credentials (hidden)."""
    from tbot_core.cli.options import prompt_fields
    from tbot_core.contracts.credentials import secret_fields
    from tbot_core.instance.identity import BotIdentityConfig

    identity = prompt_fields(secret_fields(BotIdentityConfig), required=True)
    broker = click.prompt("Broker", default="PAPER").strip().upper()
    answers: dict[str, Any] = {"bot_identity": identity, "env_bot": {"BROKER_NAME": broker}}
    if broker != "PAPER":
        credentials = prompt_fields(_fields(answers["env_bot"]).get(("broker", broker.lower())), required=True)
        answers |= {"broker": {broker.lower(): credentials}} if credentials else {}
    return answers


def _contents(answers: Mapping[str, Any]) -> dict[str, bytes]:
    # The plaintext of each category.
    from tbot_core.contracts.setting import declarations
    from tbot_core.contracts.settings import DeploymentSettings
    from tbot_core.instance.identity import FIELD
    from tbot_core.system import filesystem, random
    from tbot_core.vault.categories import CATEGORIES

    unknown = sorted(set(answers) - set(CATEGORIES))
    if unknown:
        raise UsageError(f"Unknown categories: {', '.join(unknown)}.", f"Known: {', '.join(CATEGORIES)}.")
    identity = answers.get("bot_identity") or {FIELD: f"TBOT_US_PAPER_{random.token(4).upper()}"}
    defaults = "".join(f"{one.name}={one.default_text}\n" for one in declarations(DeploymentSettings).values())
    contents = {
        name: json.dumps(part, sort_keys=True, ensure_ascii=False).encode() for name, part in answers.items() if part
    }
    contents["bot_identity"] = json.dumps(identity, sort_keys=True).encode()
    contents["env"] = replace_values(defaults, answers.get("env", {}))
    contents["env_bot"] = replace_values(filesystem.read_text(PAPER), answers.get("env_bot", {}))
    return contents


def _check_contents(
    instance: Instance, deployment: DeploymentSettings, contents: Mapping[str, bytes], remedy: str
) -> None:
    # Raises VaultError, which names every invalid field.
    from tbot_core.errors import VaultError
    from tbot_core.instance.dotenv import parse_dotenv
    from tbot_core.instance.secret_schemas import secret_rules
    from tbot_core.vault.categories import category_paths
    from tbot_core.vault.error_codes import combined_error
    from tbot_core.vault.schemas import check_content

    texts = {it.key: it.value for name in ("env", "env_bot") for it in parse_dotenv(name, contents[name]).entries}
    known = _fields(texts) if contents.keys() - {"env", "env_bot", "bot_identity"} else secret_rules().fields
    faults: list[VaultError] = []
    for category, data in contents.items():
        here = category_paths(category, instance, deployment)
        faults += check_content(memoryview(data), category, here.shown(here.file), known)
    if faults:
        fault = combined_error(faults)
        raise VaultError(fault.message, remedy, code=fault.code)


def _check_settings(instance: Instance, contents: Mapping[str, bytes], remedy: str) -> None:
    # Raises SettingsError, which names every invalid setting.
    from tbot_core.errors import SettingsError
    from tbot_core.instance.dotenv import parse_dotenv
    from tbot_core.instance.loading import examine_settings
    from tbot_core.instance.sources import SettingsFile, SettingsFiles

    def given(name: str, category: str) -> SettingsFile:
        parsed = parse_dotenv(name, contents[category])
        return SettingsFile(name=name, path=instance.path(name), plain=True, parsed=parsed)

    sources = SettingsFiles(env=given(".env", "env"), bot=given(".env_bot", "env_bot"))
    declared = [one.declared for one in _enabled_offers(sources.texts())]
    examined = examine_settings(instance.home, mode="paper", declared=declared, sources=sources)
    faults = [finding.message for finding in examined.findings if finding.level == "fail"]
    if faults:
        raise SettingsError("\n".join(faults), remedy)


def _fields(settings: Mapping[str, object]) -> Schemas:
    # The fields of each category; installed plugins that these settings enable declare their own.
    from tbot_core.instance.secret_schemas import secret_rules
    from tbot_core.plugins import discovery

    installed = {(it.entry.kind, it.entry.name) for it in discovery.installed_plugins()}
    return secret_rules([one.declared for one in _enabled_offers(settings)], installed).fields


def _enabled_offers(settings: Mapping[str, object]) -> Sequence[LoadedPlugin]:
    from tbot_core.instance import plugins_enabled
    from tbot_core.plugins import discovery
    from tbot_core.plugins.loader import PluginLoader

    listings = discovery.installed_plugins()
    enabled = plugins_enabled({name: str(text) for name, text in settings.items()})
    found = enabled & {(it.entry.kind, it.entry.name) for it in listings}
    return PluginLoader().offers(found, listings)[0]


def _print_check(home: Path | None) -> int:
    from tbot_core.cli.commands.check import check_instance
    from tbot_core.cli.text.tables import check_outcome

    rows = check_instance(home)
    for row in rows:
        if row.level != "ok":
            click.echo(f"{row.level:<5} {row.subject:<9} {row}")
    failed = [row for row in rows if row.level == "fail"]
    click.echo(check_outcome([row.level for row in rows]))
    return max((row.exit_code for row in failed), default=0)
