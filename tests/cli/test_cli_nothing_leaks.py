"""A run in a process of its own, with a secret in every category and a plugin that opens them all: none gets out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tbot_core import cli
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.instance import Instance, secrets
from tbot_core.system import environ
from tbot_core.testing.canaries import canary, leaks, shows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TBOT = (sys.executable, "-c", "import sys; from tbot_core.cli import main; sys.exit(main())")
DAY = "2018-02-20"

SECTIONS = ("alert", "broker", "screener_api")
OBJECTS = ("acct_api", "network", "smtp")

VANE = """
import attrs

from tbot_core.contracts import Plugin
from tbot_core.contracts.credentials import hidden_field
from tbot_core.contracts.hooks import hookimpl
from tbot_core.contracts.permissions import PluginNeeds


@attrs.frozen(kw_only=True)
class Config:
    pass


@attrs.frozen(kw_only=True)
class Fields:
    token: object = hidden_field(doc="A token.")


class Vane:
    def __init__(self, secrets):
        self.secrets = secrets  # kept, as a client keeps what it logs in with

    def screen(self, day, symbols, frame):
        return []

    def judge(self, signals, market, frame):
        return []


def create(config, context):
    for category, fields in context.secrets.items():
        token = fields.token.reveal()
        context.log.warning("vane.opened", category=category, token=token, hex=token.encode().hex(), back=token[::-1])
    return Vane(context.secrets)


@hookimpl
def tbot_filter():
    needs = PluginNeeds(secrets=dict.fromkeys(CATEGORIES, Fields))
    return Plugin(name="vane", summary="Opens all", config=Config, create=create, needs=needs)
"""


HISS = (
    VANE.replace("vane", "hiss").partition("class Vane:")[0]
    + """
class Hiss:
    def __init__(self, key):
        self.key = key  # text: the secrets themselves are dropped

    def screen(self, day, symbols, frame):
        return []

    def judge(self, signals, market, frame):
        print("judging with", self.key)
        raise RuntimeError("login failed with key " + self.key)


def create(config, context):
    keys = [fields.token.reveal() for fields in context.secrets.values()]
    for fields in context.secrets.values():
        fields.token.wipe()
    print("opened", *keys)
    print("opened", *keys, file=sys.stderr)
    if FAILS:
        raise RuntimeError("login failed with key " + keys[0])
    return Hiss(keys[0])
"""
    + VANE.partition("return Vane(context.secrets)")[2].replace("vane", "hiss")
)
"""A plugin that keeps a value as text, prints it, and fails with it."""


def install(site: Path, name: str, code: str) -> None:
    """Write a plugin and its metadata as an installer leaves them."""
    site.mkdir(exist_ok=True)
    (site / f"their_{name}.py").write_text(f"import sys\n{code}\n\nCATEGORIES = {(*SECTIONS, *OBJECTS)!r}\n")
    info = site / f"their_{name}-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: their-{name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[tbot.filters]\n{name} = their_{name}\n")


def plant(home: Path, plugin: str) -> None:
    """A secret in each category: in the settings as a comment, in the others as a field that the plugin opens."""
    vault = secrets.open_instance_vault(Instance(home), DeploymentSettings())
    for category, more in (("env", ""), ("env_bot", f"FILTERS={plugin}\n")):
        with vault.read(category) as opened:
            text = bytes(opened.view).decode()
        secrets.encrypt_category(vault, category, f"{text}\n{more}# {canary(category)}\n".encode())
    for category in (*SECTIONS, *OBJECTS):
        fields = {"token": canary(category)}
        secrets.encrypt_category(
            vault, category, json.dumps({plugin: fields} if category in SECTIONS else fields).encode()
        )
    secrets.encrypt_category(vault, "login", json.dumps({"me": {"hash": canary("login")}}).encode())


@pytest.fixture
def home(tmp_path: Path, shared: Path, paper_instance: Callable[[Path], Path]) -> Path:
    """A paper instance with the plugin's secrets, and a month of recorded bars."""
    home = tmp_path / "x"
    paper_instance(home)
    for source in ("bars/us300_2018", "vix_daily.parquet"):
        assert cli.invoke(["data", "import", str(shared / "data" / source), "--home", str(home)]) == 0
    install(tmp_path / "site", "vane", VANE)
    plant(home, "vane")
    return home


@pytest.fixture
def run(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A replay of a recorded day that takes a few seconds, in an environment without a secret."""
    with replay(home, "--speed", "8000") as process:
        yield process
        process.kill()


def replay(home: Path, *more: str) -> subprocess.Popen[bytes]:
    """A replay of the recorded day as a process of its own."""
    command = [*TBOT, "run", "--replay", f"{DAY}..{DAY}", *more, "--home", str(home)]
    environment = environ.minimal_environment() | {"PYTHONPATH": str(home.parent / "site")}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=environment)


def seen(process: int) -> bytes:
    """What the system shows of a process to other users: its environment and its command line."""
    folder = Path("/proc") / str(process)
    return b"".join((folder / name).read_bytes() for name in ("environ", "cmdline"))


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc to look into")
def test_nothing_secret_is_seen_of_a_run_or_left_by_it(home: Path, run: subprocess.Popen[bytes]) -> None:
    """Not while it runs, in its environment and command line; not afterwards, in its streams and below its folder."""
    assert run.stdout is not None
    first = run.stdout.readline()
    assert first.startswith(b"tbot replay. Market prices")
    try:
        assert str(home).encode() in seen(run.pid)
        assert not shows(seen(run.pid))
    except PermissionError:  # a hardened process shows its environment to root alone
        assert not shows((Path("/proc") / str(run.pid) / "cmdline").read_bytes())
    out, err = run.communicate(timeout=100)
    assert run.returncode == 0, err.decode()
    assert not shows(first + out + err)
    assert leaks(home) == ()
    lines = [json.loads(line) for line in (home / "logs" / "tbot.log").read_text().splitlines()]
    opened = {line["category"]: line for line in lines if line["event"] == "vane.opened"}
    assert set(opened) == {*SECTIONS, *OBJECTS}
    for line in opened.values():
        assert {line["token"], line["hex"], line["back"]} == {"[redacted]"}
    assert not (home / ".env").exists()
    assert not (home / ".env_bot").exists()
    for path in (home / ".env.enc", home / ".env_bot.enc", *(home / "storage" / "secrets").iterdir()):
        assert path.read_bytes().startswith(b"tbot1.")


@pytest.mark.slow
@pytest.mark.parametrize("fails", [True, False], ids=["while it is created", "in the session"])
@pytest.mark.first(0)  # over 1.5 seconds
def test_a_plugin_that_fails_with_its_key_shows_it_nowhere(home: Path, *, fails: bool) -> None:
    """Not in the sentence that ends the run, its own `print`, the log or the journal, when the secrets are wiped."""
    install(home.parent / "site", "hiss", f"FAILS = {fails}\n{HISS}")
    plant(home, "hiss")
    with replay(home) as process:
        out, err = process.communicate(timeout=100)
    assert process.returncode == 3, err.decode()
    assert not shows(out + err)
    assert leaks(home) == ()
    assert b"opened [redacted] [redacted]" in out
    assert b"opened [redacted] [redacted]" in err
    assert b"login failed with key [redacted]\n" in err
    assert fails or b"login failed with key [redacted]" in (home / "logs" / "tbot.log").read_bytes()
