"""The questions of `tbot init` on a terminal: broker, identity, credentials, alerts, and a summary before anything."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from tbot_core.actions.assembly import environment_rehearsal
from tbot_core.actions.instance_creation import broker_distribution
from tbot_core.cli.interview import KEYS, AnswerRefused, Interview, Question, choice, field_question, listed, wrapped
from tbot_core.cli.options import print_notice, print_warning
from tbot_core.contracts.credentials import SecretField, secret_fields
from tbot_core.errors import AccessError, PluginError, TbotError
from tbot_core.instance import Instance, identity
from tbot_core.plugins import discovery
from tbot_core.plugins.loader import LoadedPlugin, PluginLoader
from tbot_core.system import filesystem, random
from tbot_core.vault.categories import CATEGORIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tbot_core.journal.projections.failover import DrillStep

SIMULATOR: Final = "paper"
_MODE: Final = "mode"
_MODES: Final = {
    "paper": "simulated money at the broker; the default, and where to begin",
    "live": "real money; tbot sends no order before you arm it with `tbot arm`, for one session each",
}
_REHEARSED: Final = (
    "Account: paper, since TBOT_REHEARSAL is set: live money is not rehearsed with. Unset it to set up a live account."
)
_ALERT_SETTINGS: Final = ("CRITICAL_ALERT_CHANNEL", "ROUTINE_ALERT_CHANNEL")
_CONSOLE: Final = "console"
_OPENING: Final = (
    "These questions make a tbot instance in {home}: a folder with the bot's keys, its encrypted settings and its "
    "records. Nothing is written before you have seen a summary."
)
_USED: Final = "The folder has files already: they stay as they are. --home DIR chooses another folder."


def ask_person(instance: Instance, settings: Mapping[str, str] | None = None) -> dict[str, bytes]:
    """The content of each category, from a person who has accepted the summary.

    `settings` are more variables of the instance.

    Raises click.Abort if the person ends the questions, and AccessError if the folder cannot be written.
    """
    if not filesystem.is_writable_folder(instance.home):
        raise AccessError(f"Cannot write to {instance.home}.", "Choose another --home, or change its permissions.")
    click.echo(wrapped(_OPENING.format(home=instance.home)))
    if filesystem.exists(instance.home) and filesystem.entries(instance.home):
        click.echo(wrapped(_USED))
    click.echo(wrapped(KEYS))
    return Interview().run(partial(_script, instance=instance, settings=dict(settings or {})))


def _script(talk: Interview, instance: Instance, settings: dict[str, str]) -> dict[str, bytes]:
    broker = _ask_broker(talk)
    settings = {**settings, "BROKER_NAME": broker.entry.name.upper()}
    mode = _ask_mode(talk, broker)
    named = _ask_identity(talk, broker.entry.name)
    given, login = _ask_credentials(talk, broker, mode, settings)
    channel = _ask_alerts(talk)
    settings |= dict.fromkeys(_ALERT_SETTINGS, channel.entry.name) if channel is not None else {}
    alerts = {} if channel is None else _ask_sections(talk, channel)
    answers = {"bot_identity": {identity.FIELD: named}, "env_bot": settings}
    for category, part in (*given.items(), *alerts.items()):
        answers[category] = {**answers.get(category, {}), **part}
    summary = {
        "Folder": str(instance.home),
        "Broker": f"{broker.entry.name}: {broker.plugin.summary}",
        "Account": mode or ("simulated" if broker.entry.name == SIMULATOR else "as the broker reports it"),
        "Identity": named,
        "Credentials": _entered(given) or "none",
        "Login": login,
        "Alerts": ": ".join(filter(None, (channel.entry.name if channel else "none", _entered(alerts)))),
    }
    return _confirmed(talk, instance, answers, summary)


def _ask_broker(talk: Interview) -> LoadedPlugin:
    brokers = _offered(talk, "broker")
    if not brokers:
        raise PluginError(
            "No broker is installed.", "Install one, such as tbot-broker-paper, then run `tbot init` again."
        )
    choices = {name: one.plugin.summary for name, one in brokers.items()}
    others = _absent_brokers(choices)
    talk.say("\nBroker: where orders are sent. Installed are:")
    talk.say(listed(choices))
    question = choice(
        "Broker, by number or name",
        choices,
        default=SIMULATOR if SIMULATOR in choices else next(iter(choices)),
        explanation="The broker holds the account and receives the orders. `paper` is part of tbot: a simulated "
        "market of invented companies and prices, which needs no account. Real prices with paper money need the paper "
        "account of another broker. More brokers are installed as packages"
        f"{f', such as {others[min(others)]}' if others else ''}; `tbot plugins list` shows the installed ones.",
    )

    def parse(text: str) -> str:
        name = text.strip().lower()
        if name in others:
            raise AnswerRefused(
                f"{name} is not installed: install {others[name]}, then run `tbot init` again. "
                f"Allowed: {question.allowed}."
            )
        return question.parse(text)

    return brokers[talk.ask(attrs.evolve(question, parse=parse))]


def _offered(talk: Interview, kind: str) -> dict[str, LoadedPlugin]:
    # The installed plugins of a kind by name; those that do not load are named.
    listings = discovery.installed_plugins()
    wanted = [(listing.entry.kind, listing.entry.name) for listing in listings if listing.entry.kind == kind]
    loaded, failed = PluginLoader().offers(wanted, listings)
    for failure in failed:
        talk.say(wrapped(f"Left out: {failure.sentence}"))
    return {plugin.entry.name: plugin for plugin in loaded}


def _absent_brokers(installed: Mapping[str, str]) -> dict[str, str]:
    # The project's brokers that are not installed, each with its distribution.
    from tbot_core.instance.plugin_settings import known_plugins

    names = [plugin.name for plugin in known_plugins() if plugin.kind == "broker" and plugin.name not in installed]
    return {name: broker_distribution(name) for name in names}


def _ask_mode(talk: Interview, broker: LoadedPlugin) -> str:
    # Which account is traded, where the broker's credentials say so; "" for another broker.
    field = _fields(broker, "broker").get(_MODE)
    if field is None or not all(_is_allowed(field, word) for word in _MODES):
        return ""
    if environment_rehearsal() is not None:
        talk.say(wrapped(f"\n{_REHEARSED}"))
        return "paper"
    talk.say(f"\nAccount at {broker.entry.name}: paper or live money?")
    talk.say(listed(_MODES))
    return talk.ask(
        choice(
            "Account, by number or name",
            _MODES,
            default="paper",
            explanation="Most brokers offer a paper account beside the live one, with its own credentials. In live "
            "mode tbot refuses every entry until `tbot arm` has armed it, and it checks that the account holds real "
            "money. The mode can be changed later with `tbot secrets edit broker`.",
        )
    )


def _is_allowed(field: SecretField, text: str) -> bool:
    try:
        field.kind.parse(text)
    except ValueError:
        return False
    return True


def _ask_identity(talk: Interview, broker: str) -> str:
    proposed = identity.Identity.proposed(broker, talk.once(lambda: random.token(4)))
    talk.say("\nIdentity: the bot's name in its ledgers and alerts, in four parts.")
    return talk.ask(
        Question(
            label="Identity",
            explanation="Four parts, joined by underscores: the entity that owns the account (2 to 6 letters, such as "
            "ACME), its jurisdiction (2 to 4 letters, such as US), the broker (2 to 10 letters) and an id of this bot "
            "(2 to 6 letters or digits, such as B01). An example is ACME_US_PAPER_B01. It enters the ids of orders: "
            "two bots at one account need two identities.",
            parse=_parse_identity,
            default=proposed.text,
        )
    )


def _parse_identity(text: str) -> str:
    parts = text.upper().split("_")
    rules = {
        "entity": ("[A-Z]{2,6}", "2 to 6 letters"),
        "jurisdiction": ("[A-Z]{2,4}", "2 to 4 letters"),
        "broker": ("[A-Z]{2,10}", "2 to 10 letters"),
        "bot id": ("[A-Z0-9]{2,6}", "2 to 6 letters or digits"),
    }
    if len(parts) != len(rules):
        raise AnswerRefused(f"{text!r} has not four parts. Allowed: {identity.ALLOWED}.")
    for part, (name, (pattern, allowed)) in zip(parts, rules.items(), strict=True):
        if re.fullmatch(pattern, part) is None:
            raise AnswerRefused(
                f"{part!r} is no {name}. Allowed for the {name}: {allowed}. An example of all four: ACME_US_PAPER_B01."
            )
    return identity.Identity.parse("_".join(parts)).text


def _ask_credentials(
    talk: Interview, broker: LoadedPlugin, mode: str, settings: Mapping[str, str]
) -> tuple[dict[str, Any], str]:
    # The sections with the broker's credentials, and the result of the login; entered again as often as wanted.
    from tbot_core.actions.trials import try_login

    name = broker.entry.name
    if not any(broker.declared.secrets.values()):
        talk.say(f"\nCredentials: {name} needs none.")
        return {}, ""
    start = talk.mark()
    given = _ask_sections(talk, broker, {_MODE: mode} if mode else {})
    fields = given.get("broker", {}).get(name, {})
    talk.say(f"\nTesting the login at {name}; no order is sent ...")
    step = talk.once(partial(try_login, broker, settings, fields, live=mode == "live", notify=print_notice))
    if step is None or step.passed:
        talk.say(wrapped(f"It works: {step.words}." if step else "It is a simulation: there is no login."))
        return given, step.words if step else ""
    deed = _ask_after_failure(talk, step)
    if deed == "again":
        talk.rewind(start)
    if deed == "quit":
        raise click.Abort
    return given, f"failed: {step.words}"


def _ask_after_failure(talk: Interview, step: DrillStep) -> str:
    choices = {
        "again": "enter the credentials again; < goes back to earlier questions",
        "keep": "keep them; later `tbot secrets set broker` changes, `tbot broker test` tests them",
        "quit": "end without creating anything",
    }
    talk.say(wrapped(f"The login failed: {step.words}"))
    talk.say(listed(choices))
    return talk.ask(
        choice(
            "What now, by number or name",
            choices,
            default="again",
            explanation="The broker refused the credentials, or could not be reached. Check that they belong to the "
            "chosen account, paper or live, and that this machine reaches the internet.",
        )
    )


def _ask_sections(talk: Interview, plugin: LoadedPlugin, known: Mapping[str, str] | None = None) -> dict[str, Any]:
    # The plugin's values by category, in its section where the category has sections; `known` ones are not asked for.
    found: dict[str, Any] = {}
    for category in plugin.declared.secrets:
        fields = _fields(plugin, category)
        if not fields or category not in CATEGORIES:
            continue
        talk.say(f"\nCredentials of {plugin.entry.name}. They are stored encrypted only.")
        values = dict(_values(talk, fields, known or {}))
        found[category] = {plugin.entry.name: values} if CATEGORIES[category].by_plugin else values
    return {category: part for category, part in found.items() if any(part.values())}


def _fields(plugin: LoadedPlugin, category: str) -> dict[str, SecretField]:
    schema = plugin.declared.secrets.get(category)
    return {} if schema is None else {field.name: field for field in secret_fields(schema).values()}


def _values(talk: Interview, fields: Mapping[str, SecretField], known: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, field in fields.items():
        value = known[name] if name in known else talk.ask(field_question(field))
        if value:
            yield name, value


def _ask_alerts(talk: Interview) -> LoadedPlugin | None:
    # The channel of the alerts; None without an installed one.
    channels = _offered(talk, "alert")
    choices = {name: one.plugin.summary for name, one in channels.items()}
    talk.say("\nAlerts: how the bot reports fills, failures and losses to you.")
    if set(choices) <= {_CONSOLE}:
        talk.say(
            "The only channel that is installed is the console, where the bot runs."
            if choices
            else "No channel is installed."
        )
        return channels.get(_CONSOLE)
    talk.say(listed(choices))
    name = talk.ask(
        choice(
            "Channel, by number or name",
            choices,
            default=_CONSOLE if _CONSOLE in choices else next(iter(choices)),
            explanation="Critical and routine alerts go there. `tbot alerts test` sends one of each; "
            f"{' and '.join(_ALERT_SETTINGS)} name a channel for each kind.",
        )
    )
    return channels[name]


def _entered(given: Mapping[str, Any]) -> str:
    # The names of the fields that have a value, never a value.
    parts = [
        section
        for category, part in given.items()
        for section in (part.values() if CATEGORIES[category].by_plugin else [part])
    ]
    return ", ".join(name for fields in parts for name in fields)


def _confirmed(
    talk: Interview, instance: Instance, answers: Mapping[str, Any], summary: Mapping[str, str]
) -> dict[str, bytes]:
    from tbot_core.actions.instance_creation import checked_contents

    width = max(map(len, summary))
    talk.say("\nSummary")
    for name, text in summary.items():
        if text:
            talk.say(wrapped(text, first=f"  {name:<{width}}  ", rest=" " * (width + 4)))
    try:
        contents = checked_contents(
            instance, answers, "Go back with < and correct it; nothing was created.", print_warning
        )
    except TbotError as fault:
        talk.say(wrapped(f"This cannot be created: {fault.message} {fault.remedy}"))
        contents = {}
    if not _ask_yes(talk, possible=bool(contents)):
        raise click.Abort
    return contents


def _ask_yes(talk: Interview, *, possible: bool) -> bool:
    allowed = {"yes": True, "y": True, "no": False, "n": False} if possible else {"no": False, "n": False}

    def parse(text: str) -> bool:
        try:
            return allowed[text.strip().lower()]
        except KeyError:
            raise ValueError(text) from None

    return talk.ask(
        Question(
            label="Create this instance? yes, no or back" if possible else "no or back",
            explanation="yes creates the folder with its keys, encrypted settings and journal, and checks it. no ends "
            "without creating anything. back returns to the last question.",
            parse=parse,
            allowed="yes, no or back" if possible else "no or back",
            default="yes" if possible else "no",
        )
    )
