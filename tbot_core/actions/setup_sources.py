"""The answers for a new instance that need no terminal: a JSON document, and the vendors' environment variables."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from tbot_core.actions.documents import document_json
from tbot_core.actions.instance_creation import known_fields
from tbot_core.errors import UsageError
from tbot_core.instance.enabled_plugins import failover_brokers
from tbot_core.model import json_document
from tbot_core.plugins.discovery import installed_plugins
from tbot_core.plugins.typosquats import distribution_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import TextIO

    from tbot_core.contracts.credentials import SecretField
    from tbot_core.vault.schemas import Schemas


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
    if ("broker", name) not in {(it.entry.kind, it.entry.name) for it in installed_plugins()}:
        return dict(answers), (_absent(name),)
    chosen = {**answers.get("env_bot", {}), "BROKER_NAME": name.upper()}
    return {**answers, "env_bot": chosen}, (f"BROKER_NAME is {name.upper()}, the broker of the given credentials.",)


def broker_distribution(name: str) -> str:
    """The distribution of a broker of the project, "" for another one."""
    return distribution_of("broker", name)


def _absent(name: str) -> str:
    install = f"install {broker_distribution(name) or 'it'}"
    change = f"then set BROKER_NAME={name.upper()} with `tbot config edit`"
    return f"BROKER_NAME stays PAPER, since the broker {name} is not installed: {install}, {change}."


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


def _places(plugin: str, categories: Iterable[str], known: Schemas) -> dict[str, tuple[str, str]]:
    # Category and field of each spelling of the plugin's fields.
    return {
        word: (category, it.name)
        for category in categories
        for it in known.get((category, plugin), {}).values()
        for word in (it.name, *it.aliases)
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
