"""The loader: each broken plugin is a value that says what is wrong, and harms no other."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click
import pytest

from tbot_core.cli import invoke
from tbot_core.contracts import Context
from tbot_core.errors import PluginError
from tbot_core.model.clock import SystemClock
from tbot_core.model.window import Window
from tbot_core.plugins import discovery, loader
from tbot_core.plugins.failure import PluginFailure, plugins_failed_error
from tbot_core.plugins.loader import EVERY_EXTENSION, LoadedPlugin, PluginLoader, build_plugin, load_object
from tbot_core.system import log
from tbot_core.system.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tbot_core.plugins.discovery import EntryPointInfo

CONTEXT = Context(clock=SystemClock(), log=log.logger("test"), data_dir=Path("nowhere"))
WINDOW = Window(start=0, analysis=5, breakout=5, monitoring=5)

HEAD = """
import attrs
from tbot_core.contracts import Plugin
from tbot_core.contracts.hooks import hookimpl
@attrs.frozen
class Config: pass
@attrs.define
class Soft: pass
@attrs.define(slots=False)
class Loose: pass
class Plain: pass
def create(config, context): return None
def plugin(**given):
    return Plugin(**{"name": "odd", "summary": "", "config": Config, "create": create} | given)
"""
OFFER = HEAD + "@hookimpl\ndef tbot_strategy(): return "


@pytest.fixture(autouse=True)
def _quiet_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    # Failures are logged; the records are kept from the screen.
    with caplog.at_level(logging.INFO):
        yield


def failure(outcome: object) -> PluginFailure:
    """The outcome, proved to be a failure."""
    assert isinstance(outcome, PluginFailure)
    return outcome


def sound(outcome: object) -> LoadedPlugin:
    """The outcome, proved to be a loaded plugin."""
    assert isinstance(outcome, LoadedPlugin)
    return outcome


def test_a_sound_plugin_is_loaded_and_built(plant: Callable[..., EntryPointInfo]) -> None:
    """Loading gives the offer, and building with a config gives the finished object."""
    loaded = sound(PluginLoader().load(plant("sound")))
    assert (loaded.plugin.name, loaded.plugin.summary) == ("sound", "A sample")
    config = loaded.plugin.config(window=WINDOW)
    assert build_plugin(loaded, config, CONTEXT) is config


@pytest.mark.parametrize(
    ("body", "phase"),
    [
        ("while True: pass", "import"),
        (HEAD + "@hookimpl\ndef tbot_strategy():\n    while True: pass", "offer"),
        (HEAD + "@hookimpl\ndef tbot_strategy():\n    return plugin(create=hang)\ndef hang(config, context):\n"
         "    while True: pass", "create"),
    ],
)  # fmt: skip
def test_f92_a_plugin_that_hangs_while_it_is_loaded_is_set_aside(
    plant: Callable[..., EntryPointInfo], monkeypatch: pytest.MonkeyPatch, body: str, phase: str
) -> None:
    """After a restart with positions the run begins without it, and names it."""
    monkeypatch.setattr(loader, "LOAD_S", 0.05)
    outcome: object = PluginLoader().load(plant("odd", body))
    if isinstance(outcome, LoadedPlugin):
        outcome = build_plugin(outcome, outcome.plugin.config(), CONTEXT)
    failed = failure(outcome)
    assert (failed.phase, failed.error.partition(":")[2]) == (
        phase,
        " it did not finish within 0.05 s and was interrupted.",
    )


@pytest.mark.parametrize(
    ("body", "phase", "words"),
    [
        ("import no_such_library", "import", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("raise SystemExit(3)", "import", "SystemExit: 3"),
        ("raise BaseException('panic')", "import", "BaseException: panic"),
        (HEAD + "@hookimpl\ndef tbot_strategy(flavour): return plugin()", "register", "flavour"),
        (HEAD + "@hookimpl\ndef tbot_strateyg(): return plugin()", "register", "unknown hook 'tbot_strateyg'"),
        (HEAD, "validate", "provides nothing"),
        (OFFER + "None", "validate", "provides nothing"),
        (HEAD + "@hookimpl\ndef tbot_filter(): return plugin()", "validate", "provides nothing"),
        (OFFER + "1 / 0", "offer", "ZeroDivisionError"),
        (OFFER + "'a plugin'", "validate", "tbot_strategy returned an object of type str"),
        (OFFER + "plugin(name='other')", "validate", "Its name is 'other'"),
        (OFFER + "plugin(config=Soft)", "validate", "Its config is the class Soft"),
        (OFFER + "plugin(config=Loose)", "validate", "Its config is the class Loose"),
        (OFFER + "plugin(config=Plain)", "validate", "Its config is the class Plain"),
        (OFFER + "plugin(config=Config())", "validate", "Its config is an object of type Config"),
        (OFFER + "plugin(series=('tides',))", "validate", "Its series are ('tides',)"),
        (OFFER + "plugin(tables='funds.csv')", "validate", "Its tables are 'funds.csv'"),
        (OFFER + "plugin(tables=('../other/funds.csv',))", "validate", "Its tables are ('../other/funds.csv',)"),
        (OFFER + "plugin(needs={'orders'})", "validate", "Its needs are an object of type set"),
        (OFFER + "plugin(create=lambda config: None)", "validate", "(config, context)"),
        (OFFER + "plugin(create=None)", "validate", "(config, context)"),
    ],
)
def test_a_broken_plugin_is_a_failure_with_phase_and_words(
    plant: Callable[..., EntryPointInfo], body: str, phase: str, words: str
) -> None:
    """Whatever is wrong, loading returns a failure that names phase and fault, and nothing stays registered."""
    loader = PluginLoader()
    entry = plant("odd", body)
    failed = failure(loader.load(entry))
    assert (failed.kind, failed.name, failed.dist, failed.version) == ("strategy", "odd", "their-odd", "2.5")
    assert failed.phase == phase
    assert words in failed.error
    assert "Traceback" in failed.trace
    assert loader.manager.get_plugins() == set()


@pytest.mark.parametrize(
    ("target", "phase", "words"),
    [
        ("their_odd:missing", "import", "missing"),
        ("their_odd:nothing", "import", "their_odd:nothing is None"),
        ("their_odd:unhashable", "register", "unhashable"),
        ("their_odd:inner.plugin", None, ""),
    ],
)
def test_an_entry_point_may_name_any_object_that_carries_hooks(
    plant: Callable[..., EntryPointInfo], target: str, phase: str | None, words: str
) -> None:
    """An attribute's path is followed; what cannot be registered is refused by name."""
    body = HEAD + (
        "nothing = None\nunhashable = []\nclass inner:\n  class plugin:\n"
        "    @staticmethod\n    @hookimpl\n    def tbot_strategy(): return plugin()\n"
    )
    outcome = PluginLoader().load(plant("odd", body, target=target))
    if phase is None:
        sound(outcome)
    else:
        assert failure(outcome).phase == phase
        assert words in failure(outcome).error


def test_the_others_load_when_one_is_broken(
    plant: Callable[..., EntryPointInfo], caplog: pytest.LogCaptureFixture
) -> None:
    """What is broken, absent, duplicate or incompatible is a failure, is logged, and keeps no other from loading."""
    plant("good")
    plant("odd", "import no_such_library")
    plant("old", requires=("tbot-core<1",))
    plant("twin", dist="first", target="their_twin_a")
    plant("twin", dist="second", target="their_twin_b")
    wanted = [("strategy", name) for name in ("twin", "good", "odd", "old", "goood")]
    loaded, failures = PluginLoader().offers(wanted, discovery.installed_plugins())
    assert [it.entry.name for it in loaded] == ["good"]
    assert [(it.name, it.phase) for it in failures] == [
        ("goood", "find"),
        ("odd", "import"),
        ("old", "find"),
        ("twin", "find"),
    ]
    assert failures[0].sentence == (
        "The strategy goood cannot be used: no installed distribution provides it; did you mean good?"
    )
    assert failures[2].error.startswith("incompatible: It requires tbot-core<1")
    assert failures[3].error.startswith("duplicate: Several distributions provide it: first 2.5 and second 2.5.")
    assert "no_such_library" in caplog.text


def test_an_absent_plugin_without_a_neighbour_is_named() -> None:
    """A name that resembles none is reported as offered by no plugin."""
    _, (failed,) = PluginLoader().offers([("broker", "zzz")], ())
    assert failed.error == "no installed distribution provides it."


def test_metadata_faults_keep_a_plugin_from_being_tried_recorded_ones_do_not(
    plant: Callable[..., EntryPointInfo],
) -> None:
    """A recorded failure may be fixed meanwhile, so it is tried again; broken metadata cannot be."""
    entry = plant("good")
    recorded = discovery.PluginListing(entry=entry, state="broken", reason="it failed", seen="2026-01-02T03:04:05Z")
    loaded, failures = PluginLoader().offers([("strategy", "good")], [recorded])
    assert [it.entry.name for it in loaded] == ["good"]
    assert failures == ()
    _, (failed,) = PluginLoader().offers([("strategy", "good")], [attrs.evolve(recorded, seen="")])
    assert failed.phase == "find"


def test_every_extension_is_wanted_by_one_word(plant: Callable[..., EntryPointInfo]) -> None:
    """The pair of kind extension and `*` loads all extensions and nothing else."""
    extension = OFFER.replace("tbot_strategy", "tbot_extension")
    for name in ("one", "two"):
        plant(name, extension + f"plugin(name='{name}')", kind="extension")
    plant("good")
    loaded, failures = PluginLoader().offers([EVERY_EXTENSION], discovery.installed_plugins())
    planted = [it for it in loaded if it.entry.name in {"one", "two"}]
    assert len(planted) == 2
    assert {it.entry.kind for it in loaded} == {"extension"}
    assert failures == ()
    assert build_plugin(planted[0], planted[0].plugin.config(), CONTEXT) is None


def test_one_object_may_stand_behind_two_entries(plant: Callable[..., EntryPointInfo]) -> None:
    """A module behind two entries is registered once, and a broken offer leaves the sound one registered."""
    body = OFFER + "plugin()\n@hookimpl\ndef tbot_filter(): return 'none'\n"
    entry = plant("odd", body)
    loader = PluginLoader()
    loaded = sound(loader.load(entry))
    assert failure(loader.load(attrs.evolve(entry, kind="filter"))).phase == "validate"
    assert loader.manager.get_plugins() == {loaded.subject}


@pytest.mark.parametrize(
    ("create", "words"),
    [
        ("lambda config, context: 1 / 0", "ZeroDivisionError"),
        ("lambda config, context: exit(7)", "SystemExit: 7"),
        ("lambda config, context: (_ for _ in ()).throw(BaseException('panic'))", "BaseException: panic"),
        ("lambda config, context: 'text'", "create returned an object of type str, which is not a Strategy."),
        ("lambda config, context: Config", "create returned the class Config, which is not a Strategy."),
    ],
)
def test_a_failing_create_is_a_failure(plant: Callable[..., EntryPointInfo], create: str, words: str) -> None:
    """An exception, an exit and an object of another kind are failures of phase create."""
    loaded = sound(PluginLoader().load(plant("odd", OFFER + f"plugin(create={create})")))
    failed = failure(build_plugin(loaded, None, CONTEXT))
    assert failed.phase == "create"
    assert words in failed.error


def test_what_is_lacking_is_named(plant: Callable[..., EntryPointInfo]) -> None:
    """The failure of an object that is no strategy lists what it should have."""
    loaded = sound(PluginLoader().load(plant("odd", OFFER + "plugin()")))
    assert "It lacks scan, window." in failure(build_plugin(loaded, None, CONTEXT)).error


@pytest.mark.parametrize(
    ("body", "words"),
    [("start = 1", "It lacks stop."), ("stop = 1", "It lacks start."), ("hooks = 1", ""), ("start = stop = 1", "")],
)
def test_an_extension_has_both_methods_or_hooks_alone(
    plant: Callable[..., EntryPointInfo], body: str, words: str
) -> None:
    """Half an extension is a failure."""
    offer = OFFER.replace("tbot_strategy", "tbot_extension") + "plugin(create=lambda config, _: It())\n"
    loaded = sound(PluginLoader().load(plant("odd", f"{offer}class It: {body}\n", kind="extension")))
    made = build_plugin(loaded, None, CONTEXT)
    assert words in failure(made).error if words else not isinstance(made, PluginFailure)


STRANGE_BROKER = """
import attrs

from tbot_core.contracts import Broker, BrokerCapabilities, Plugin
from tbot_core.contracts.hooks import hookimpl
from tbot_core.contracts.setting import NoSettings


class Strange:
    capabilities = {capabilities}

    async def call(self, *_arguments):
        raise AssertionError

    connect = account = submit = cancel = replace = poll = snapshot = close = prices = call


@hookimpl
def tbot_broker():
    create = lambda config, context: Strange()
    return Plugin(name="strange", summary="A sample", config=NoSettings, create=create)
"""


@pytest.mark.parametrize(
    ("capabilities", "words"),
    [
        ("BrokerCapabilities(replace='new_id', prices=True)", ""),
        ("BrokerCapabilities(replace='new_id')", "It has a method prices, but does not declare the capability prices."),
        (
            "BrokerCapabilities(replace='new_id', prices=True, hours=True)",
            "It declares the capability hours, but has no method hours. BrokerCapabilities must declare",
        ),
        ("{'prices': True}", "Its capabilities are an object of type dict."),
    ],
)
def test_a_broker_is_refused_whose_methods_are_not_those_it_declares(
    plant: Callable[..., EntryPointInfo], capabilities: str, words: str
) -> None:
    """It is not created, and the failure names the plugin, the capability and the remedy."""
    entry = plant("strange", STRANGE_BROKER.format(capabilities=capabilities), kind="broker")
    loaded = sound(PluginLoader().load(entry))
    made = build_plugin(loaded, loaded.plugin.config(), CONTEXT)
    if words:
        assert words in failure(made).error
        assert "The broker strange (their-strange" in failure(made).sentence
    else:
        assert not isinstance(made, PluginFailure)


def test_a_command_is_imported_as_it_is(plant: Callable[..., EntryPointInfo]) -> None:
    """`load_object` gives the object of an entry point, or the failure of its import."""
    entry = plant("day", "import click\ncommand = click.Command('day')", kind="command", target="their_day:command")
    assert isinstance(load_object(entry), click.Command)
    assert failure(load_object(attrs.evolve(entry, target="their_day:other"))).phase == "import"


def test_a_hook_is_asked_of_one_plugin_alone(plant: Callable[..., EntryPointInfo]) -> None:
    """Of several plugins that implement a hook only the named one answers, and none without it."""
    loader = PluginLoader()
    first, second = (sound(loader.load(plant(name))) for name in ("first", "second"))
    assert [plugin.name for plugin in loader.call_hook(second.subject, "tbot_strategy")] == ["second"]
    assert loader.call_hook(first.subject, "tbot_filter") == []


def test_a_failure_is_one_line_of_bounded_length(plant: Callable[..., EntryPointInfo]) -> None:
    """Line breaks become blanks, and a flood is cut."""
    failed = failure(PluginLoader().load(plant("odd", "raise ValueError('a\\n\\nb ' + 'x' * 9000)")))
    assert failed.error.startswith("ValueError: a b xxx")
    assert len(failed.error) == 503


def test_a_failure_is_redacted_before_it_is_cut(plant: Callable[..., EntryPointInfo]) -> None:
    """A secret at the end of the longest message is not cut into a part that no redaction recognises."""
    key = Secret("key-0123456789").reveal()
    words = PluginFailure.said(plant("odd", ""), "create", f"{'x' * 492} {key}").error
    assert words == f"{'x' * 492} [redact..."


def test_a_refusal_names_every_failed_plugin() -> None:
    """A run that needs broken plugins is refused with one line each and exit code 3."""
    given: dict[str, Any] = {
        "kind": "filter",
        "dist": "d",
        "version": "1",
        "phase": "import",
        "error": "ImportError: x",
    }
    error = plugins_failed_error((PluginFailure(name="a", **given), PluginFailure(name="b", **given)))
    assert isinstance(error, PluginError)
    assert error.message == (
        "The filter a (d 1) failed: it cannot be imported: ImportError: x\n"
        "The filter b (d 1) failed: it cannot be imported: ImportError: x"
    )
    assert error.remedy.startswith("Fix or uninstall it, or remove it from the settings;")
    assert error.exit_code == 3


def test_a_refusal_for_a_plugin_that_is_not_installed_says_to_install_it() -> None:
    """What no distribution offers can be neither fixed nor uninstalled."""
    absent = PluginFailure(kind="filter", name="a", dist="", version="", phase="find", error="no one offers it.")
    broken = PluginFailure(kind="filter", name="b", dist="d", version="1", phase="import", error="ImportError: x")
    assert plugins_failed_error((absent,)).remedy.startswith("Install it, or remove it from the settings;")
    assert plugins_failed_error((absent, broken)).remedy.startswith("Fix or uninstall it, install it, or remove it")


def test_loading_a_plugin_imports_nothing_heavy(plant: Callable[..., EntryPointInfo]) -> None:
    """The loader itself needs no data frames and no event loop: what a command needs, it imports itself."""
    from tbot_core.system import environ, processes

    entry = plant("light")
    code = (
        "import sys; from tbot_core.plugins.loader import PluginLoader;"
        "from tbot_core.plugins.discovery import EntryPointInfo;"
        f"PluginLoader().load({entry!r}); print([m for m in ('polars', 'asyncio', 'rich') if m in sys.modules])"
    )
    environment = environ.minimal_environment() | {"PYTHONPATH": sys.path[0]}
    finished = processes.run_program([sys.executable, "-c", code], timeout_s=30, environment=environment)
    assert finished.output == "[]\n", finished.errors


BROKER = """
import attrs

from tbot_core.contracts import BrokerCapabilities, Plugin, SecretValue
from tbot_core.contracts.credentials import hidden_field
from tbot_core.contracts.setting import NoSettings
from tbot_core.contracts.hooks import hookimpl
from tbot_core.contracts.permissions import PluginNeeds


@attrs.frozen(kw_only=True)
class Fields:
    pass_phrase: SecretValue = hidden_field(doc="A pass phrase.", aliases=("key_id",))


class Broker:
    capabilities = BrokerCapabilities()

    async def poll(self):
        return ()

    account = cancel = close = connect = snapshot = submit = poll


@hookimpl
def tbot_broker():
    needs = PluginNeeds(secrets={"broker": Fields})
    create = lambda config, context: Broker()
    return Plugin(name="tradier", summary="A sample", config=NoSettings, create=create, needs=needs)
"""


@pytest.mark.slow
def test_an_enabled_plugin_says_itself_what_a_new_instance_is_given(
    plant: Callable[..., EntryPointInfo],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`tbot init` takes and checks the fields that the plugin declares, not those that are known where it is absent."""
    plant("tradier", BROKER, kind="broker")
    for name in [name for name in os.environ if name.startswith(("ALPACA_", "APCA_", "TRADIER_", "IB_", "FINNHUB_"))]:
        monkeypatch.delenv(name)
    file, home = tmp_path / "in.json", tmp_path / "x"
    document: dict[str, dict[str, Any]] = {"env_bot": {"BROKER_NAME": "TRADIER"}}
    file.write_text(json.dumps(document | {"broker": {"tradier": {"api_key": "k", "api_secret": "s"}}}))
    assert invoke(["init", "--from-json", str(file), "--home", str(home)]) == 3
    assert "known: pass_phrase" in capsys.readouterr().err
    file.write_text(json.dumps(document))
    monkeypatch.setenv("TRADIER_KEY_ID", "k-123456")
    monkeypatch.setenv("TRADIER_API_SECRET_KEY", "s-123456")
    assert invoke(["init", "--from-json", str(file), "--from-env", "--home", str(home)]) == 0
    assert "TRADIER_API_SECRET_KEY is ignored" in capsys.readouterr().out
