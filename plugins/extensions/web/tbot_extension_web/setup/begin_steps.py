"""How a set-up begins: with settings that a person has already, or with the usual ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tbot_core.contracts.setting import SettingKind, choice
from tbot_core.errors import TbotError
from tbot_core.instance.cross_checks import missing_plugins
from tbot_core.instance.dotenv import parse_dotenv
from tbot_core.instance.findings import printable_value
from tbot_core.instance.older_layout import OlderFile, OlderInstallation, read_older_installation
from tbot_core.instance.sources import deployment_of
from tbot_core.plugins import discovery
from tbot_core.system import filesystem
from tbot_extension_web.forms import FILE_NAME
from tbot_extension_web.setup.fields import FormField, Option
from tbot_extension_web.setup.secret_fields import secrets_of
from tbot_extension_web.setup.setting_steps import examined
from tbot_extension_web.setup.step import Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tbot_extension_web.setup.state import SetUpState
    from tbot_extension_web.setup.step import Fault, Values

_FILES: Final = {"env_bot": ".env_bot", "env": ".env"}
UPLOADS: Final = frozenset(_FILES)
"""The fields that may be files."""

BACKUP: Final = "backup"
"""The field of a backup that is restored."""

MOST_LINES: Final = 5_000
MOST_FINDINGS: Final = 200
"""The lines of an uploaded file, and how many findings about them are shown."""

_ANSWERED: Final = ("network", "broker", "alerts", "screeners", "accounting", "settings")
"""The steps whose answers are in a trading configuration, or that have usual ones."""

_SECRETS: Final = {"credentials": "broker", "channels": "alert", "screener-logins": "filter"}
_FILE: Final = SettingKind(name="file", allowed="a text file", parse=str, show=str, empty=True)


def _in_folder(state: SetUpState) -> list[str]:
    home = state.setup.instance.home
    return [name for name in (*_FILES.values(), "tbot_bot") if filesystem.is_present(home / name)]


def _fields(state: SetUpState) -> tuple[FormField, ...]:
    present = _in_folder(state)
    options = [
        Option(value="usual", title="Usual settings", text="Those of a paper instance; the steps ask for the rest."),
        Option(
            value="upload",
            title="Files of yours",
            text="A .env_bot, and a .env if you have one: choose them below.",
        ),
    ]
    if present:
        words = f"{', '.join(present)} in the folder are taken over. Their plaintext is removed at the end."
        options.insert(0, Option(value="folder", title="Files of this folder", text=words))
    how = FormField(
        name="how",
        label="Settings",
        doc="Files that are taken over stay as they are, to the byte, and are encrypted.",
        kind=choice(*(option.value for option in options)),
        value=state.draft.notes.get("how") or options[0].value,
        options=tuple(options),
    )
    uploads = (
        FormField(name=name, label=file, doc="", kind=_FILE, default="", hidden=True) for name, file in _FILES.items()
    )
    return (how, *uploads)


def _how(values: Values) -> str:
    # A file that was chosen counts, whichever option stands above it.
    return "upload" if any(name in values for name in _FILES) else values["how"]


def _uploaded(state: SetUpState) -> Mapping[str, str]:
    # The files that were uploaded before.
    return state.draft.files if state.draft.notes.get("how") == "upload" else {}


def _keep(state: SetUpState, values: Values) -> SetUpState:
    how = _how(values)
    if how == "upload" and not any(name in values for name in _FILES):
        return state  # those that were uploaded before stay
    if how == "usual":
        fresh = state.changed(files={}, settings={}, done=()) if state.draft.files else state
        return fresh.noted("how", "usual")
    draft = state.setup.taken_over(state.draft, _found(state, values))
    taken = state.changed(files=draft.files, answers=draft.answers, settings={}).noted("how", how)
    missing = {place for place, kind in _SECRETS.items() if any(_missing(taken, kind))}
    identity = ("identity",) if "bot_identity" in draft.answers else ()
    there = [*identity, *_ANSWERED, *(name for name in _SECRETS if name not in missing)]
    return taken.changed(done=tuple(dict.fromkeys(there)))


def _found(state: SetUpState, values: Values) -> OlderInstallation:
    home = state.setup.instance.home
    if _how(values) == "folder":
        return read_older_installation(home, without=("login",))
    given = {**_uploaded(state), **{name: values[name] for name in _FILES if name in values}}
    files = {
        name: OlderFile(path=Path(_FILES[name]), data=text.encode(errors="surrogateescape"))
        for name, text in given.items()
    }
    env = files["env"].data if "env" in files else b""
    return OlderInstallation(folder=home, files=files, deployment=deployment_of(parse_dotenv(".env", env)))


def _faults(state: SetUpState, values: Values) -> Iterator[Fault]:
    upload = _how(values) == "upload"
    if upload and "env_bot" not in {**_uploaded(state), **values}:
        yield "env_bot", "Choose your .env_bot: it has the trading settings, without which nothing is taken over."
        return
    long = [name for name in _FILES if upload and len(values.get(name, "").splitlines()) > MOST_LINES]
    if long:
        yield from ((name, f"It has more than {MOST_LINES:,} lines.") for name in long)
        return
    try:
        kept = _keep(state, values)
    except TbotError as fault:
        yield from (("", line) for line in fault.message.splitlines())
        return
    if upload:
        remedy = "Give a path in it, or put the files into the folder yourself."
        yield from (("", f"{words} {remedy}") for words in outside_words(kept))


def of_chosen_file(words: str, form: Mapping[str, str]) -> str:
    """A sentence about a file that is taken over, with how the chosen one is called."""
    for name, file in _FILES.items():
        chosen = printable_value(form.get(FILE_NAME.format(name), ""))
        if chosen and words.startswith(f"{file}:"):
            return f"{chosen}, chosen as {words}"
    return words


def outside_words(state: SetUpState) -> Iterator[str]:
    """A sentence for each setting of an uploaded file that leads outside of the folder.

    The person at a browser may not choose where on the machine files are written.
    """
    for name, setting in examined(state).values.items():
        if setting.declaration.kind.name == "path" and state.setup.instance.outside(setting.text):
            path = printable_value(setting.text)
            yield f"{name}={path} is outside of the folder, where an uploaded file cannot lead."


def _missing(state: SetUpState, kind: str) -> Iterator[str]:
    # The secrets of enabled plugins of this kind that are not there, "" for any kind.
    for secret in secrets_of(state, lambda other, _category: kind in {"", other}):
        if not state.section(secret.category, secret.plugin):
            wanted = [field.name for field in secret.fields.values() if field.required] or [*secret.fields]
            yield f"{secret.plugin}: {', '.join(name.replace('_', ' ') for name in wanted)}"


def left_open(state: SetUpState) -> dict[str, list[str]]:
    """By the name of a step the secrets that it asks for and that are not there."""
    found = {place: list(_missing(state, kind)) for place, kind in _SECRETS.items()}
    return {place: missing for place, missing in found.items() if missing}


def _report(state: SetUpState) -> Mapping[str, Any]:
    found = examined(state)
    installed = {(plugin.entry.kind, plugin.entry.name) for plugin in discovery.installed_plugins()}
    findings = [*found.findings, *missing_plugins(found.values, "paper", installed)]
    words = list(
        dict.fromkeys((finding.level, str(finding)) for finding in findings if finding.level in {"fail", "warn"})
    )
    return {
        "taken": [(f".{name}", len(text.splitlines())) for name, text in state.draft.files.items()],
        "secrets": [name for name in state.draft.answers if name != "env"],
        "missing": list(_missing(state, "")),
        "findings": words[:MOST_FINDINGS],
        "more": max(0, len(words) - MOST_FINDINGS),
    }


BEGIN: Final = Step(
    name="begin",
    title="Begin",
    intro="Do you have settings already?",
    fields=_fields,
    keep=_keep,
    faults=lambda state, values: tuple(_faults(state, values)),
    shows=lambda state: {
        "uploaded": [(_FILES[name], len(text.splitlines())) for name, text in _uploaded(state).items()],
        "home": state.setup.instance.home,
    },
    template="setup/begin.html",
)

TAKEN: Final = Step(
    name="taken",
    title="Taken over",
    intro="What was found, and what it needs. The next steps ask for what is missing, and for nothing else.",
    fields=lambda _state: (),
    keep=lambda state, _values: state,
    needed=lambda state: bool(state.draft.files),
    shows=_report,
    template="setup/taken.html",
)
