"""Makes an instance: folders, keys, encrypted settings and secrets, an identity and a journal.

The answers that need no terminal come from a JSON document and the vendors' environment variables.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tbot_core.actions import discard
from tbot_core.errors import UsageError
from tbot_core.instance.dotenv import replace_values
from tbot_core.instance.enabled_plugins import failover_brokers
from tbot_core.model import json_document
from tbot_core.plugins.discovery import installed_plugins
from tbot_core.plugins.typosquats import distribution_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from typing import TextIO

    from tbot_core.actions import Notify
    from tbot_core.contracts.credentials import SecretField
    from tbot_core.contracts.settings import DeploymentSettings
    from tbot_core.instance import Instance, SettingsFiles
    from tbot_core.plugins.loader import LoadedPlugin
    from tbot_core.vault.schemas import Schemas

PAPER: Final = Path(__file__).parents[1] / "instance" / "paper.env_bot"
_DOCUMENT_CHARACTERS: Final = 16 * 1_048_576


def refuse_occupied(instance: Instance) -> None:
    """Raises UsageError if settings or keys exist already, SettingsError if a set-up on the web page has begun."""
    from tbot_core.instance.sources import unfinished_setup
    from tbot_core.system import filesystem

    if (unfinished := unfinished_setup(instance)) is not None:
        raise unfinished
    keys = instance.path("storage/keys")
    found = [
        name for name in (".env", ".env.enc", ".env_bot", ".env_bot.enc") if filesystem.is_present(instance.path(name))
    ]
    found += ["storage/keys"] if filesystem.is_folder(keys) and filesystem.entries(keys) else []
    if found:
        message = f"{instance.home} is an instance already; {', '.join(found)} would be overwritten."
        raise UsageError(
            message,
            "Choose another --home. `tbot init --adopt` takes over a .env and .env_bot here; `tbot config edit` and "
            "`tbot secrets edit` change an instance.",
        )


def make_instance(
    instance: Instance, answers: Mapping[str, Any], source: str = "the values", warn: Notify = discard
) -> None:
    """Create everything. `answers` has the content by category; settings as {variable: value} replace the paper ones.

    Raises UsageError for an unknown category, VaultError and SettingsError for invalid content, which is to be
    corrected in `source`, before anything is created; and what `create_instance` raises.
    """
    contents = checked_contents(instance, answers, f"Correct {source}; nothing was created.", warn)
    create_instance(instance, contents)


def checked_contents(
    instance: Instance,
    answers: Mapping[str, Any],
    remedy: str,
    warn: Notify = discard,
    texts: Mapping[str, bytes] | None = None,
) -> dict[str, bytes]:
    """The plaintext of each category of a new instance. Raises as `make_instance` does; nothing is written.

    `texts` are files that are taken over: the answers change them, and without answers they stay as they are.
    """
    given = {category: _named_sections(category, part, remedy) for category, part in answers.items()}
    contents = initial_contents(given, texts)
    _check_contents(instance, contents, remedy, warn)
    check_settings(instance, contents, remedy)
    return contents


def create_instance(instance: Instance, contents: Mapping[str, bytes]) -> None:
    """Create the folders, the keys, an encrypted file for each category in `contents`, and the journal.

    All or nothing: what an error or Ctrl-C interrupts is undone at once, what a kill interrupts by `undo_creation`
    before the next attempt. Until then no command reads the settings. Files that exist already stay or are replaced
    atomically, and keys that exist already are used. Raises VaultError, and
    AccessError for a folder that belongs to another user.
    """
    from tbot_core.instance.creation_marker import creation
    from tbot_core.instance.journal_chain import open_instance_journal
    from tbot_core.instance.secret_paths import SecretPaths
    from tbot_core.instance.secrets import encrypt_category, lacks_key, open_instance_vault
    from tbot_core.system import filesystem
    from tbot_core.vault.categories import CATEGORIES
    from tbot_core.vault.key_providers import PassphraseKeyProvider

    deployment = _deployment(contents)
    with creation(instance, deployment):
        SecretPaths(instance, deployment).write_ignore_files()
        opened = open_instance_vault(instance, deployment)
        if isinstance(opened.provider, PassphraseKeyProvider) and not filesystem.is_present(opened.provider.path):
            opened.provider.create()
        for category in CATEGORIES:
            if category in contents:
                encrypt_category(opened, category, contents[category])
            elif lacks_key(opened, category):
                filesystem.make_folder(opened.store.place(category).key.parent)
                opened.make_key(category)
        open_instance_journal(instance).close()


def known_fields(settings: Mapping[str, object], named: Collection[str] = ()) -> Schemas:
    """The fields of each category; installed plugins that these settings enable, or in `named`, declare their own."""
    from tbot_core.instance.secret_schemas import secret_rules
    from tbot_core.plugins import discovery

    installed = {(plugin.entry.kind, plugin.entry.name) for plugin in discovery.installed_plugins()}
    return secret_rules([offer.declared for offer in enabled_offers(settings, named)], installed).fields


def default_env() -> bytes:
    """A `.env` with every variable at its default."""
    from tbot_core.contracts.setting import declarations
    from tbot_core.contracts.settings import DeploymentSettings

    return "".join(
        f"{declaration.name}={declaration.default_text}\n" for declaration in declarations(DeploymentSettings).values()
    ).encode()


def paper_settings() -> str:
    """The `.env_bot` of an instance that trades on paper."""
    from tbot_core.system import filesystem

    return filesystem.read_text(PAPER)


def initial_contents(answers: Mapping[str, Any], texts: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
    """The plaintext of each category, as `make_instance` writes it; not checked. Raises UsageError."""
    from tbot_core.actions.assembly import SIMULATED
    from tbot_core.instance.identity import FIELD, Identity
    from tbot_core.system import random
    from tbot_core.vault.categories import CATEGORIES

    unknown = sorted(set(answers) - set(CATEGORIES))
    if unknown:
        raise UsageError(f"Unknown categories: {', '.join(unknown)}.", f"Known: {', '.join(CATEGORIES)}.")
    broker = str(answers.get("env_bot", {}).get("BROKER_NAME") or SIMULATED)
    identity = answers.get("bot_identity") or {FIELD: Identity.proposed(broker, random.token(4)).text}
    contents = {
        name: json.dumps(part, sort_keys=True, ensure_ascii=False).encode() for name, part in answers.items() if part
    }
    contents["bot_identity"] = json.dumps(identity, sort_keys=True).encode()
    for name, usual in (("env", default_env), ("env_bot", lambda: paper_settings().encode())):
        text = (texts or {}).get(name) or usual()
        contents[name] = replace_values(text.decode(), answers[name]) if answers.get(name) else text
    return contents


def check_settings(instance: Instance, contents: Mapping[str, bytes], remedy: str) -> None:
    """Check the contents of both settings files together, as at a paper start.

    Plugins that they need may be absent. Raises SettingsError, which names every invalid setting.
    """
    from tbot_core.errors import SettingsError
    from tbot_core.instance.loading import examine_settings

    sources = settings_files(instance, contents)
    declared = [offer.declared for offer in enabled_offers(sources.texts())]
    examined = examine_settings(instance.home, mode="paper", declared=declared, sources=sources)
    faults = [str(finding) for finding in examined.findings if finding.level == "fail"]
    if faults:
        raise SettingsError("\n".join(faults), remedy)


def settings_files(instance: Instance, contents: Mapping[str, bytes]) -> SettingsFiles:
    """The settings files of an instance that does not exist yet."""
    from tbot_core.instance.dotenv import parse_dotenv
    from tbot_core.instance.sources import SettingsFile, SettingsFiles

    def given(name: str, category: str) -> SettingsFile:
        parsed = parse_dotenv(name, contents[category])
        return SettingsFile(name=name, path=instance.path(name), plain=True, parsed=parsed)

    return SettingsFiles(env=given(".env", "env"), bot=given(".env_bot", "env_bot"))


def enabled_offers(settings: Mapping[str, object], named: Collection[str] = ()) -> Sequence[LoadedPlugin]:
    """The installed plugins that these settings enable, or in `named`, loaded."""
    from tbot_core.instance import plugins_enabled
    from tbot_core.plugins import discovery
    from tbot_core.plugins.loader import PluginLoader

    listings = discovery.installed_plugins()
    enabled = plugins_enabled({name: str(text) for name, text in settings.items()})
    pairs = ((listing.entry.kind, listing.entry.name) for listing in listings)
    found = frozenset(pair for pair in pairs if pair in enabled or pair[1] in named)
    return PluginLoader().offers(found, listings)[0]


def parse_document(document: TextIO) -> dict[str, Any]:
    """The document of --from-json: {category: {...}}. Raises UsageError, which never quotes the content."""
    found = document_json(document)
    named = "" not in json_document.invalid_utf8_places(found)
    if not isinstance(found, dict) or not all(isinstance(part, dict) for part in found.values()) or not named:
        raise UsageError("The document must be a JSON object with one object per category.", "See `tbot init --help`.")
    return found


def choose_broker(answers: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The answers with BROKER_NAME set to the broker whose credentials they hold, and a sentence for a person.

    BROKER_NAME stays as it was given, and for a broker that is not installed. Raises UsageError for credentials of
    several brokers without BROKER_NAME; those of DATA_SOURCE and FAILOVER_BROKERS do not count.
    """
    settings = {name: str(value).strip() for name, value in answers.get("env_bot", {}).items()}
    others = {settings.get("DATA_SOURCE", "").lower(), *failover_brokers(settings)}
    found = sorted({name.lower() for name in answers.get("broker", {})} - others)
    named = settings.get("BROKER_NAME", "")
    if named or not found:
        unused = [name for name in found if name != named.lower()]
        sentence = f"BROKER_NAME is {named}: the credentials of {', '.join(unused)} are stored, and not used."
        return dict(answers), (sentence,) if unused else ()
    name, *more = found
    if more:
        raise UsageError(
            f"Credentials of several brokers were given: {', '.join(found)}. Which one trades is not known.",
            "Give those of one, or set BROKER_NAME in `env_bot` of the document for --from-json.",
        )
    if ("broker", name) not in {(plugin.entry.kind, plugin.entry.name) for plugin in installed_plugins()}:
        return dict(answers), (_absent(name),)
    chosen = {**answers.get("env_bot", {}), "BROKER_NAME": name.upper()}
    return {**answers, "env_bot": chosen}, (f"BROKER_NAME is {name.upper()}, the broker of the given credentials.",)


def broker_distribution(name: str) -> str:
    """The distribution of a broker of the project, "" for another one."""
    return distribution_of("broker", name)


def with_credentials(answers: Mapping[str, Any], credentials: Mapping[str, Any]) -> dict[str, Any]:
    """The answers with these credentials, by category and section, where they hold none."""
    together = {category: {**part, **answers.get(category, {})} for category, part in credentials.items()}
    return {**answers, **together}


def vendor_credentials(answers: Mapping[str, Any]) -> tuple[dict[str, dict[str, dict[str, str]]], tuple[str, ...]]:
    """The values of the vendors' usual variables, by category and plugin, and sentences for a person.

    Those name unused variables, and the mode of each section, unless the answers hold the section. Raises UsageError
    if no variable is set, or if two of them set different values.
    """
    from tbot_core.instance.plugin_settings import known_plugins
    from tbot_core.system import environ

    prefixes = {prefix: one for one in known_plugins() for prefix in one.environment}
    given = {prefix: values for prefix in prefixes if (values := environ.variables_with_prefix(prefix))}
    known = known_fields(answers.get("env_bot", {}), {prefixes[prefix].name for prefix in given})
    found: dict[str, dict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    notes: list[str] = []
    origins: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for prefix, values in given.items():
        plugin = prefixes[prefix].name
        places = _places(plugin, prefixes[prefix].secrets, known)
        for name, value in values.items():
            if name.lower() not in places:
                notes.append(f"{prefix}{name} is ignored: no credential field has this name.")
                continue
            category, field = places[name.lower()]
            origins[category, plugin].setdefault(field, f"{prefix}{name}")
            if found[category][plugin].setdefault(field, value) != value:
                raise UsageError(
                    f"{prefix}{name} and another variable both set {plugin}.{field}, to different values.",
                    "Unset one of them.",
                )
    if not found:
        raise UsageError(f"No environment variable begins with {', '.join(prefixes)}.", "Set them for this command.")
    for (category, plugin), variables in origins.items():
        if plugin not in map(str.lower, answers.get(category, {})):
            prefix = next(prefix for prefix in given if prefixes[prefix].name == plugin)
            notes += _mode_note(plugin, prefix, variables, known.get((category, plugin), {}))
    return {category: {name: dict(part) for name, part in one.items()} for category, one in found.items()}, tuple(notes)


def _document_text(document: TextIO, *, limit: int = _DOCUMENT_CHARACTERS) -> str:
    # The text of a document. Raises UsageError if it is too long, or not UTF-8.
    try:
        text = document.read(limit + 1)
    except UnicodeDecodeError:
        raise UsageError("The document is not UTF-8 text.", "Save it as UTF-8.") from None
    if len(text) > limit:
        raise UsageError(f"The document has more than {limit:,} characters.", "Choose another file.")
    return text


def document_json(document: TextIO) -> Any:
    """The JSON value of a document. Raises UsageError with the place of a fault, not its text."""
    try:
        return json_document.parse_json(_document_text(document))
    except json_document.InvalidJson as fault:
        name = getattr(document, "name", "<stdin>")
        source = "Standard input" if name == "<stdin>" else name
        raise UsageError(f"{source}: {fault}.", "Correct the JSON input.") from None


def _named_sections(category: str, part: Any, remedy: str) -> Any:
    # The answers of a category; sections of plugins under the plugins' names.
    from tbot_core.errors import VaultError
    from tbot_core.vault.categories import CATEGORIES
    from tbot_core.vault.schemas import assert_utf8, plugin_sections

    kind = CATEGORIES.get(category)
    assert_utf8(part, category, category if kind is None else kind.logical)
    if kind is None or not kind.by_plugin:
        return part
    try:
        return plugin_sections(part, category, kind.logical)
    except VaultError as fault:
        raise VaultError(fault.message, remedy, code=fault.code) from None


def _deployment(contents: Mapping[str, bytes]) -> DeploymentSettings:
    from tbot_core.instance.dotenv import parse_dotenv
    from tbot_core.instance.sources import deployment_of

    return deployment_of(parse_dotenv(".env", contents["env"]))


def _check_contents(instance: Instance, contents: Mapping[str, bytes], remedy: str, warn: Notify) -> None:
    # Raises VaultError, which names every invalid field.
    from tbot_core.errors import VaultError
    from tbot_core.instance.dotenv import parse_dotenv
    from tbot_core.instance.secret_schemas import secret_rules
    from tbot_core.vault.categories import CATEGORIES, category_paths
    from tbot_core.vault.error_codes import combined_error
    from tbot_core.vault.schemas import check_content

    texts = {
        entry.key: entry.value for name in ("env", "env_bot") for entry in parse_dotenv(name, contents[name]).entries
    }
    sections = [json_document.parse_json(data) for name, data in contents.items() if CATEGORIES[name].by_plugin]
    is_usual = contents.keys() <= {"env", "env_bot", "bot_identity"}  # then no plugin has to be loaded
    named = {name for part in sections for name in part}
    known = secret_rules().fields if is_usual else known_fields(texts, named)
    deployment, faults = _deployment(contents), list[VaultError]()
    for category, data in contents.items():
        here = category_paths(category, instance, deployment)
        faults += check_content(memoryview(data), category, here.shown(here.file), known)
    if faults:
        fault = combined_error(faults)
        raise VaultError(fault.message, remedy, code=fault.code)
    if not is_usual:
        from tbot_core.actions.secrets import warn_of_short_secrets

        warn_of_short_secrets(contents, known, warn)


def _absent(name: str) -> str:
    install = f"install {broker_distribution(name) or 'it'}"
    change = f"then set BROKER_NAME={name.upper()} with `tbot config edit`"
    return f"BROKER_NAME stays PAPER, since the broker {name} is not installed: {install}, {change}."


def _places(plugin: str, categories: Iterable[str], known: Schemas) -> dict[str, tuple[str, str]]:
    # Category and field of each spelling of the plugin's fields.
    return {
        word: (category, field.name)
        for category in categories
        for field in known.get((category, plugin), {}).values()
        for word in (field.name, *field.aliases)
    }


def _mode_note(plugin: str, prefix: str, variables: Mapping[str, str], fields: Mapping[str, SecretField]) -> list[str]:
    # The mode that the variables lead to, and which of them did not choose it: whether real money is traded is taken
    # from a value that says so, never derived from an address or a number.
    mode = fields.get("mode")
    if mode is None or mode.name in variables:
        return []
    others = [variable for field, variable in variables.items() if not fields[field].hidden]
    do_not = f"; {', '.join(sorted(others))} {'does' if len(others) == 1 else 'do'} not" if others else ""
    return [f"{plugin}: mode is {mode.default_text}, its default. {prefix}MODE sets it{do_not}."]
