"""The frame of the command line: what is imported, how failures end, what the options do."""

from __future__ import annotations

import datetime as dt
import json
import os
import pkgutil
import runpy
import subprocess
import sys
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import importlib_metadata
import pytest

from tbot_core import __main__, errors
from tbot_core.cli import COMMANDS, commands, group, invoke
from tbot_core.cli.crash_report import CrashReporter
from tbot_core.cli.options import emit, home_option, json_option, resolve_home, use_home
from tbot_core.instance import Instance
from tbot_core.system import environ, log, processes
from tbot_core.system.secret import Secret
from tbot_core.testing.store import StoreFixture

if TYPE_CHECKING:
    from collections.abc import Callable

HEAVY = ("asyncio", "filelock", "holidays", "numpy", "pandas", "polars", "rich", "sqlite3", "structlog")
ENTRY = "import sys; from tbot_core.__main__ import main; sys.exit(main())"


def tbot(*args: str, **variables: str) -> processes.ProcessResult:
    """Run the console script's function in a process of its own."""
    environment = environ.minimal_environment() | variables
    return processes.run_program([sys.executable, "-c", ENTRY, *args], timeout_s=60, environment=environment)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A command `sample` of the core that does what the test puts into `deed`."""
    deed: dict[str, Any] = {}

    @click.command()
    @home_option
    @json_option
    def sample(*, home: Path | None, as_json: bool) -> Any:
        return deed["do"](home, as_json)

    module = type(sys)("their_sample_command")
    module.command = sample  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, "their_sample_command", module)
    monkeypatch.setitem(COMMANDS, "sample", ("their_sample_command:command", "A sample."))
    return deed


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_of_the_table_exists(name: str) -> None:
    """The module and object that the table names are there, and the object is a click command with --help."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    assert isinstance(getattr(import_module(module), attribute), click.Command)
    assert invoke([name, "--help"]) == 0


def test_each_command_is_in_the_table() -> None:
    """No command is forgotten: the table names every command of the command line that is no subcommand."""
    defined: dict[str, click.Command] = {}
    for module in pkgutil.iter_modules(commands.__path__):
        path = f"tbot_core.cli.commands.{module.name}"
        values = vars(import_module(path))
        defined |= {f"{path}:{name}": value for name, value in values.items() if isinstance(value, click.Command)}
    parts = {id(part) for value in defined.values() for part in getattr(value, "commands", {}).values()}
    assert {path for path, value in defined.items() if id(value) not in parts} == {
        path for path, _ in COMMANDS.values()
    }


def test_the_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """`tbot --help` names each command of the table with its line."""
    assert invoke(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text and line in text for name, (_, line) in COMMANDS.items())


def test_the_version_is_the_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    """`tbot --version` prints the installed version of tbot-core."""
    assert invoke(["--version"]) == 0
    assert capsys.readouterr().out == f"tbot {importlib_metadata.version('tbot-core')}\n"


def imported(home: Path, *arguments: str) -> set[str]:
    """The modules that a command has imported at its end, each with the packages above it."""
    code = (
        "import sys; from tbot_core.cli import invoke; code = invoke(sys.argv[1:]); import json;"
        "sys.stderr.write('\\n' + json.dumps(sorted(sys.modules))); sys.exit(code)"
    )
    variables = environ.minimal_environment() | {"TBOT_HOME": str(home)}
    finished = processes.run_program([sys.executable, "-c", code, *arguments], timeout_s=60, environment=variables)
    assert finished.code == 0, finished.errors
    return set(json.loads(finished.errors.splitlines()[-1]))


def packages(names: set[str]) -> set[str]:
    """The top packages of these modules."""
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("arguments", [["--help"], ["plugins", "list"]])
def test_the_start_imports_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    """Neither the help nor the list of plugins imports numpy, polars, asyncio, pluggy or a plugin's package."""
    (tmp_path / ".env_bot").write_text("STRATEGY_SEQUENCE=open\n")
    loaded = packages(imported(tmp_path, *arguments))
    assert loaded.isdisjoint({*HEAVY, "pluggy"})
    assert [name for name in loaded if name.startswith("tbot_") and name != "tbot_core"] == []


_MACHINERY = ("tbot_core.engine.assembly", "tbot_core.engine.run_plan", "tbot_core.engine.live", "tbot_core.rehearsal")
_NETWORK = ("asyncio", "ssl", "httpx2")
_ARRAYS = ("numpy", "polars")
_LOG = ("tbot_core.system.log_output", "logging.handlers")
_CONTRACTS = ("tbot_core.contracts.feed", "tbot_core.contracts.broker", "tbot_core.contracts.network")
_FAILOVER = "tbot_core.journal.projections.failover"
_READS_ONLY = (*_ARRAYS, *_NETWORK, *_LOG, *_CONTRACTS, _FAILOVER, "pluggy", "tomllib", *_MACHINERY)
_SETTINGS = ("tbot_core.contracts.settings", "tbot_core.instance.loading")
UNNEEDED = {
    ("status",): _READS_ONLY,
    ("why",): _READS_ONLY,
    ("data", "list"): (*_READS_ONLY, *_SETTINGS, "sqlite3", "tbot_core.vault"),
    ("plugins", "list"): (*_READS_ONLY, *_SETTINGS, "tbot_core.model.calendar", "tbot_core.trading"),
    ("check",): (
        "polars",
        *_NETWORK,
        *_MACHINERY,
        "tomllib",
        "tbot_core.contracts.options",
        "tbot_core.journal.projections.book",
        "tbot_core.marketdata.store.manifest",
        _FAILOVER,
        "tbot_core.trading.universe",
    ),
}
"""What each quick command does not import: packages, and parts of the core that bring such packages along."""


@pytest.mark.parametrize("arguments", UNNEEDED, ids=" ".join)
def test_a_quick_command_imports_only_what_it_needs(arguments: tuple[str, ...], traded: Path) -> None:
    """`tbot status` and its like import neither the engine nor the libraries that only trading needs."""
    loaded = imported(traded, *arguments)
    found = [
        name for name in sorted(loaded) for part in UNNEEDED[arguments] if name == part or name.startswith(f"{part}.")
    ]
    assert found == []


def test_stored_facts_are_listed_without_polars(tmp_path: Path) -> None:
    """Importing it takes longer than all else that `tbot data list` does, so the manifest has the days and rows."""
    (tmp_path / ".env_bot").write_text("STRATEGY_SEQUENCE=open\n")
    store = StoreFixture(folder=Instance.at(tmp_path).data)
    store.folder.mkdir()
    store.put_text("date,open,high,low,close\n2019-11-01,1,1,1,1\n", name="vix.csv")
    store.put_text("symbol,as_of,market_cap\nAAA,2019-01-01,5\n", name="caps.csv")
    assert store.bars == Instance.at(tmp_path).bars
    assert packages(imported(tmp_path, "data", "list")).isdisjoint({"numpy", "polars"})


def test_an_unknown_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, with the nearest name."""
    assert invoke(["backtst"]) == 2
    assert "No such command 'backtst'. Did you mean 'backtest'?" in capsys.readouterr().err
    assert invoke(["--no-such-option"]) == 2


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (errors.TbotError, 1),
        (errors.UsageError, 2),
        (errors.SettingsError, 3),
        (errors.Unavailable, 4),
        (errors.RiskError, 5),
    ],
)
def test_a_foreseen_failure_is_a_sentence_and_its_exit_code(
    command: dict[str, Any], capsys: pytest.CaptureFixture[str], fault: type[errors.TbotError], code: int
) -> None:
    """Message and remedy stand on standard error, and the class says the exit code."""

    def fail(*_: object) -> None:
        raise fault("It is broken.", "Mend it.")

    command["do"] = fail
    assert invoke(["sample"]) == code
    assert capsys.readouterr().err == "tbot: It is broken.\n      Mend it.\n"


def test_a_foreseen_failure_shows_no_secret(command: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """A value that was handed out is redacted in message and remedy, when its secret is long gone."""
    key = Secret("canary-4711").reveal()

    def fail(*_: object) -> None:
        raise errors.PluginError(f"login failed with key {key}", f"Renew {key}.")

    command["do"] = fail
    assert invoke(["sample"]) == 3
    assert capsys.readouterr().err == "tbot: login failed with key [redacted]\n      Renew [redacted].\n"


def test_a_failure_without_remedy_is_one_line(command: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing follows the message when there is nothing to add."""

    def fail(*_: object) -> None:
        raise errors.DataError("It is broken.")

    command["do"] = fail
    assert invoke(["sample"]) == 1
    assert capsys.readouterr().err == "tbot: It is broken.\n"


def test_a_command_returns_its_exit_code(command: dict[str, Any]) -> None:
    """A whole number that a command returns is the exit code, anything else is success."""
    for returned, code in ((None, 0), (1, 1), ("text", 0), (0, 0)):
        command["do"] = lambda *_, value=returned: value
        assert invoke(["sample"]) == code


@pytest.mark.parametrize(
    ("deed", "code", "words"),
    [
        ("interrupt", 130, "Stopped."),
        ("decline", 1, "Aborted; nothing was changed."),
        ("interrupted prompt", 130, "Stopped."),
    ],
)
def test_an_interrupt_is_130_and_a_refusal_is_not(
    command: dict[str, Any], capsys: pytest.CaptureFixture[str], deed: str, code: int, words: str
) -> None:
    """Ctrl-C ends any command with 130, also at a question; saying no to a question ends it with 1."""

    def do(*_: object) -> None:
        if deed == "interrupt":
            raise KeyboardInterrupt
        if deed == "decline":
            raise click.Abort
        # What click makes of Ctrl-C at a prompt.
        abort = click.Abort()
        abort.__context__ = KeyboardInterrupt()
        raise abort

    command["do"] = do
    assert invoke(["sample"]) == code
    assert f"tbot: {words}" in capsys.readouterr().err


SHOWING = [
    ["--help"],
    ["config", "show"],
    ["config", "explain", "SEED"],
    ["data", "list"],
    ["plugins", "list"],
    ["calendar", "--days", "200"],
    ["status", "--json"],
]


@pytest.fixture
def showing(tmp_path: Path, trials: Callable[[Path], None]) -> Callable[..., tuple[int, str]]:
    """A command in an instance of its own, with standard output as said: its exit code, and what else it says."""
    (tmp_path / ".env_bot").write_text("STRATEGY_SEQUENCE=open\n")
    trials(tmp_path)

    def show(output: int, *arguments: str, before: str = "", **variables: str) -> tuple[int, str]:
        finished = subprocess.run(
            [sys.executable, "-c", before + ENTRY, *arguments],
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
            env=environ.minimal_environment() | {"TBOT_HOME": str(tmp_path)} | variables,
        )
        return finished.returncode, finished.stderr

    return show


@pytest.mark.slow
@pytest.mark.first(1)
@pytest.mark.parametrize("arguments", SHOWING, ids=" ".join)
def test_a_closed_pipe_is_quiet(arguments: list[str], showing: Callable[..., tuple[int, str]]) -> None:
    """A reader that goes away early, such as `head`, is no failure of any command: nothing is said, exit 0."""
    reader, writer = os.pipe()
    os.close(reader)
    assert showing(writer, *arguments) == (0, "")
    os.close(writer)


def test_a_pipe_that_breaks_elsewhere_is_a_failure(command: dict[str, Any]) -> None:
    """A broker's connection that breaks unforeseen does not end a command in silence, as a gone reader would."""

    def fail(*_: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    command["do"] = fail
    with pytest.raises(ConnectionError, match="Broken pipe"):
        invoke(["sample"])


@pytest.mark.slow
@pytest.mark.first(1)
@pytest.mark.parametrize("variables", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("arguments", SHOWING[:3], ids=" ".join)
def test_an_output_that_is_full_is_one_sentence(
    arguments: list[str], variables: dict[str, str], showing: Callable[..., tuple[int, str]]
) -> None:
    """What cannot be written is said with its reason, exit 1, whether Python holds words back or not."""
    full = os.open("/dev/full", os.O_WRONLY)
    code, said = showing(full, *arguments, **variables)
    os.close(full)
    assert (code, said.splitlines()[0]) == (1, "tbot: Cannot write to standard output: No space left on device.")
    assert "unexpected error" not in said


def test_an_output_that_is_closed_is_one_sentence(showing: Callable[..., tuple[int, str]]) -> None:
    """With standard output closed from the start nothing begins, exit 1."""
    closed = (
        f"import os, sys\nif sys.stdout: os.close(1); os.execv(sys.executable, [sys.executable, '-c', {ENTRY!r}])\n"
    )
    code, said = showing(subprocess.DEVNULL, before=closed)
    assert (code, said.splitlines()[0]) == (1, "tbot: Standard output is closed.")


def test_home_is_the_option_else_the_variable_else_here(
    command: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--home` wins over $TBOT_HOME, which wins over the working directory."""
    seen: list[Path | None] = []
    command["do"] = lambda home, _: seen.append(home)
    assert invoke(["sample", "--home", str(tmp_path)]) == 0
    assert invoke(["sample"]) == 0
    assert seen == [tmp_path, None]
    monkeypatch.setenv("TBOT_HOME", str(tmp_path))
    assert resolve_home(None) == tmp_path
    assert resolve_home(Path("other")) == Path("other")
    monkeypatch.delenv("TBOT_HOME")
    assert resolve_home(None) == Path()
    (tmp_path / "file").write_text("")
    assert invoke(["sample", "--home", str(tmp_path / "file")]) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sample", "--home", ""], "--home '' is empty."),
        (["sample", "--home="], "--home '' is empty."),
        (["rehearse", "--broker", " "], "--broker ' ' is empty."),
        (["rehearse", "--fault", ""], "--fault '' is empty."),
        (["rehearse", "--fault", ","], "--fault ',' contains no fault."),
        (["why", "AAPL", "--run="], "--run '' is empty."),
        (["plugins", "info", ""], "An argument '' is empty."),
    ],
)
def test_an_empty_value_is_refused(
    command: dict[str, Any], capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    """An unset shell variable does not mean the default, the working directory or any name: exit 2, nothing is done."""
    command["do"] = lambda *_: pytest.fail("the command was called")
    assert invoke(words) == 2
    assert said in capsys.readouterr().err


def test_a_document_is_one_sorted_json_text(command: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """With --json the document alone is written, keys sorted, values of the edge as strings; else the lines."""
    document = {
        "b": Decimal("1.50"),
        "a": dt.datetime(2026, 1, 5, 14, 30, tzinfo=dt.UTC),
        "c": {"y", "x"},
        "d": Path("p"),
        "e": dt.date(2026, 1, 5),
    }
    command["do"] = lambda _, as_json: emit(document, as_json=as_json, lines=("one", "two"))
    invoke(["sample", "--json"])
    text = capsys.readouterr().out
    assert json.loads(text) == {
        "a": "2026-01-05T14:30:00+00:00",
        "b": "1.50",
        "c": ["x", "y"],
        "d": "p",
        "e": "2026-01-05",
    }
    assert text.index('"a"') < text.index('"b"') < text.index('"e"')
    invoke(["sample"])
    assert capsys.readouterr().out == "one\ntwo\n"
    with pytest.raises(ValueError, match="not JSON compliant"):
        emit({"a": float("nan")}, as_json=True)


def caught() -> tuple[type[BaseException], BaseException, Any]:
    """A fault as the interpreter hands it to its last hook."""
    try:
        int("lost canary-4711")
    except ValueError as fault:
        return type(fault), fault, fault.__traceback__
    raise AssertionError


def test_an_unforeseen_failure_is_a_sentence_and_a_pointer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an instance the way to the traceback is named; secrets are redacted in either form."""
    secret = Secret("canary-4711")
    unforeseen = CrashReporter()
    unforeseen.report(*caught())
    text = capsys.readouterr().err
    assert text.startswith(
        "tbot: ValueError: invalid literal for int() with base 10: 'lost [redacted]': unexpected error;"
    )
    assert "TBOT_DEBUG=1" in text
    assert "Traceback" not in text
    unforeseen.home = tmp_path
    monkeypatch.setenv("TBOT_DEBUG", "1")
    unforeseen.report(*caught())
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert "canary" not in text
    assert not (tmp_path / "logs").exists()
    del secret


@pytest.mark.parametrize("form", ["json", "csv"])
def test_the_traceback_goes_to_the_instances_log(tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    """With an instance the traceback is logged there in its format, and the sentence names the file."""
    (tmp_path / ".env_bot").write_text(f"LOG_FORMAT={form}\n")
    unforeseen = CrashReporter()
    unforeseen.home = tmp_path
    unforeseen.report(*caught())
    text = capsys.readouterr().err
    assert f"The traceback is in {tmp_path / 'logs' / 'tbot.log'}." in text
    assert "Traceback" not in text
    logged = (tmp_path / "logs" / "tbot.log").read_text()
    assert "command.failed" in logged
    assert "ValueError: invalid literal" in logged
    assert logged.startswith("{" if form == "json" else "timestamp,")


@pytest.mark.parametrize(
    ("settings", "expected", "absent"),
    [
        ("BUILD_MODE=debug\n", "Traceback", "TBOT_DEBUG"),
        ("ENABLE_LOGGING=false\n", "TBOT_DEBUG=1", "Traceback"),
        (None, "TBOT_DEBUG=1", "Traceback"),
    ],
)
def test_settings_say_where_a_traceback_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: str | None, expected: str, absent: str
) -> None:
    """BUILD_MODE=debug shows it; without a log, or with settings that cannot be read, the way to see it is named."""
    if settings is None:
        (tmp_path / ".env_bot").mkdir()
    else:
        (tmp_path / ".env_bot").write_text(settings)
    unforeseen = CrashReporter()
    unforeseen.home = tmp_path
    unforeseen.report(*caught())
    text = capsys.readouterr().err
    assert expected in text
    assert absent not in text
    assert not (tmp_path / "logs").exists()


def test_a_log_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The sentence about the log's folder comes with the other way to see the traceback."""
    (tmp_path / ".env_bot").write_text("LOG_FORMAT=json\n")
    (tmp_path / "logs").write_text("")
    unforeseen = CrashReporter()
    unforeseen.home = tmp_path
    unforeseen.report(*caught())
    text = capsys.readouterr().err
    assert "Cannot make the folder" in text
    assert "TBOT_DEBUG=1" in text


def test_what_was_said_early_is_kept_in_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines of a command that ended before the log was open reach the instance's; where it has none, nothing fails."""
    (tmp_path / ".env_bot").write_text("LOG_FORMAT=json\n")
    unforeseen = CrashReporter()
    log.hold()
    log.logger("early").warning("plugin.odd")
    unforeseen.flush_to_log()
    unforeseen.home = tmp_path
    unforeseen.flush_to_log()
    file = tmp_path / "logs" / "tbot.log"
    kept = file.read_text()
    assert "plugin.odd" in kept
    unforeseen.flush_to_log()
    assert file.read_text() == kept
    log.hold()
    log.logger("early").warning("plugin.odd")
    file.unlink()
    file.parent.rmdir()
    file.parent.write_text("in the way")
    unforeseen.flush_to_log()
    assert capsys.readouterr() == ("", "")


def test_the_hook_knows_the_home_of_the_command(command: dict[str, Any], tmp_path: Path) -> None:
    """`--home` is known to the reporter of failures, and a command may name another instance."""
    unforeseen = CrashReporter()
    command["do"] = lambda *_: None
    assert invoke(["sample", "--home", str(tmp_path)], state=unforeseen) == 0
    assert unforeseen.home == tmp_path
    command["do"] = lambda *_: use_home(tmp_path / "demo")
    invoke(["sample", "--home", str(tmp_path)], state=unforeseen)
    assert unforeseen.home == tmp_path / "demo"


def test_the_process_ends_as_the_command_says() -> None:
    """The console script exits with the command's code; an unforeseen failure is a sentence and exit 1."""
    assert tbot("backtst").code == 2
    body = (
        "import sys, click\nfrom tbot_core import cli\n"
        "module = type(sys)('made'); module.command = click.Command('made', callback=lambda: 1 / 0)\n"
        "sys.modules['made'] = module; cli.COMMANDS['made'] = ('made:command', '')\n"
        "sys.argv[1:] = ['made']\n" + ENTRY
    )
    finished = processes.run_program(
        [sys.executable, "-c", body], timeout_s=60, environment=environ.minimal_environment()
    )
    assert finished.code == 1
    assert finished.errors.startswith("tbot: ZeroDivisionError: division by zero: unexpected error;")
    assert "Traceback" not in finished.errors


def test_main_hands_the_last_hook_to_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The console script installs the reporter before it runs the command line."""
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.setattr(sys, "argv", ["tbot", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(__main__.__file__, run_name="__main__")
    assert ended.value.code == 0
    assert getattr(sys.excepthook, "__self__", None).__class__ is CrashReporter


def test_a_stop_that_no_command_receives_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before there is a command line, and after it has ended, an interrupt is a sentence and exit 130."""

    def interrupted() -> int:
        raise KeyboardInterrupt

    module = type(sys)("tbot_core.cli")
    module.main = interrupted  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, "tbot_core.cli", module)
    assert __main__.main() == 130
    assert capsys.readouterr().err == "tbot: Stopped.\n"


def test_the_group_is_a_click_group() -> None:
    """Completion and documentation tools find every command through click's own interface."""
    context = click.Context(group)
    assert group.list_commands(context)[: len(COMMANDS)] == list(COMMANDS)


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_a_plugin_that_fails_is_a_sentence_and_its_traceback_is_logged(tmp_path: Path) -> None:
    """Before the log is open nothing but the command's own sentences reaches the screen; the log has the failure."""
    (tmp_path / ".env").write_text("EXTENSIONS=nope\n")
    (tmp_path / ".env_bot").write_text("BROKER_NAME=PAPER\nSTRATEGY_SEQUENCE=open\n")
    args = ("run", "--once", "--home", str(tmp_path))
    finished = tbot(*args)
    assert finished.code == 3
    assert "\ntbot: The extension nope cannot be used" in finished.errors
    assert finished.errors.startswith("tbot: Live trading would refuse the plugins: There is no ")
    assert "{" not in finished.errors
    assert "plugin.failed" in (tmp_path / "logs" / "tbot.log").read_text()
    (tmp_path / "logs" / "tbot.log").unlink()
    (tmp_path / "logs").rmdir()
    (tmp_path / "logs").write_text("in the way")
    again = tbot(*args).errors
    assert again.startswith(f"tbot: {tmp_path / 'logs'} cannot be written to.")
    assert again.endswith(finished.errors)


@pytest.mark.usefixtures("signals_enabled")
@pytest.mark.parametrize("module", ["click/core.py", "cli/commands/run.py"])
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_before_the_command_is_imported_is_said(module: str, number: str) -> None:
    """Right after the start a request to stop ends with 130 and a sentence, whatever is being imported."""
    body = (
        "import os, signal, sys\n"
        "def hook(name, args):\n"
        f"    if name == 'exec' and args[0].co_filename.endswith('{module}'):\n"
        f"        os.kill(os.getpid(), signal.{number})\n"
        "sys.addaudithook(hook)\nsys.argv[1:] = ['run']\n" + ENTRY
    )
    finished = processes.run_program(
        [sys.executable, "-c", body], timeout_s=60, environment=environ.minimal_environment()
    )
    assert (finished.code, finished.errors.strip()) == (130, "tbot: Stopped.")


@pytest.mark.parametrize(
    ("variables", "styled"),
    [({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False), ({"TERM": "xterm", "NO_COLOR": "1"}, False)],
)
def test_styles_are_left_out_where_they_are_not_wanted(
    command: dict[str, Any], monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], styled: bool
) -> None:
    """A dumb terminal and NO_COLOR get bare text."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    seen: list[bool | None] = []
    command["do"] = lambda *_: seen.append(click.get_current_context().color)
    invoke(["sample"])
    assert seen == [None if styled else False]


GROUPS = ["secrets", "plugins", "config", "data", "failover", "alerts", "audit", "defense"]


@pytest.mark.parametrize("name", GROUPS)
def test_each_line_of_a_groups_help_fits_80_columns(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The help lists every subcommand with a whole sentence on one line."""
    assert invoke([name, "--help"]) == 0
    listed = capsys.readouterr().out.partition("Commands:\n")[2].splitlines()
    assert listed
    assert [line for line in listed if not line.endswith(".") or line.endswith("...") or len(line) > 80] == []


@pytest.mark.parametrize(("words", "path"), [(("status",), "tbot"), (("secrets", "show"), "tbot secrets")])
def test_home_before_the_subcommand_is_explained(
    words: tuple[str, ...], path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong usage, with the place where the option belongs."""
    before, last = words[:-1], words[-1]
    assert invoke([*before, "--home", "x", last]) == 2
    assert f"--home follows the subcommand: `{path} COMMAND --home DIR`." in capsys.readouterr().err
