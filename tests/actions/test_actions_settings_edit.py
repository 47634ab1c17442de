"""Changes of single settings: planned with their effect, saved as planned, and nothing else touched."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tbot_core.actions.config import stored_config
from tbot_core.actions.settings_edit import choices_of, is_editable, plan_settings, settings_view, takes_effect
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.errors import UsageError
from tbot_core.instance import Instance, secrets
from tbot_core.vault.audit_log import log_entries, log_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BOT = """# my bot
BROKER_NAME=PAPER
STRATEGY_SEQUENCE=open  # one window
DAILY_LOSS_LIMIT = 0.05   # five percent
MAX_TRADES=3

MAX_TRADES='4'
"""


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    # No provider of keys outlives its test.
    secrets.forget_passphrases()
    yield
    secrets.forget_passphrases()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance with both settings files encrypted."""
    vault = secrets.open_instance_vault(Instance(tmp_path), DeploymentSettings())
    secrets.encrypt_category(vault, "env", b"EXTENSIONS=none\nLOGIN_ATTEMPT_LIMIT=10\n")
    secrets.encrypt_category(vault, "env_bot", BOT.encode())
    return tmp_path


def save(home: Path, actor: str = "web/alice", **wanted: str) -> None:
    """Plan and save."""
    plan = plan_settings(home, wanted, actor)
    plan.save(settings_view(home).version)


def test_only_the_line_of_a_changed_setting_changes(home: Path) -> None:
    """Comments, order, blank lines and a repeated line stay; the line that counts is the last."""
    save(home, DAILY_LOSS_LIMIT="0.04", MAX_TRADES="2", MAX_OPEN_POSITIONS="5", SEED="7")
    text = stored_config(home).text.decode()
    changed = BOT.replace("= 0.05 ", "= 0.04 ").replace("'4'", "2")
    assert text == f"{changed}SEED=7\n"


def test_a_change_is_recorded_with_the_user_who_made_it(home: Path) -> None:
    """The line of the access log that is written before the file."""
    save(home, MAX_TRADES="2")
    writes = [it for it in log_entries(log_path(Instance(home))) if it.action == "write"]
    assert (writes[-1].actor, writes[-1].category) == ("web/alice", "env_bot")


def test_a_plan_shows_the_effect_on_the_risk(home: Path) -> None:
    """In USD, with the worst day, whether it disarms, and that less risk needs nothing more."""
    plan = plan_settings(home, {"DAILY_LOSS_LIMIT": "0.0001"})
    (change,) = plan.changes
    assert change.sentence == "5.00\u00a0% -> 0.01\u00a0%: up to 4,990.00 USD less a day"
    assert plan.worst_day.endswith("USD less, if every stop is hit")
    assert (plan.disarms, plan.guarded) == (True, {})


def test_settings_of_a_plugin_that_is_not_installed_say_so(home: Path) -> None:
    """Those of a strategy that only its window names; the core's and installed ones say nothing."""
    stored = stored_config(home)
    stored.replace(stored.text + b"START_TIME_FOO=14:40\n")
    needs = settings_view(home).needs
    assert needs["START_TIME_FOO"] == "Needs plugin strategy foo, which is not installed."
    assert not {"MAX_TRADES", "START_TIME_OPEN", "MIN_PRICE"} & set(needs)


def test_checks_that_are_off_are_named_with_every_change(home: Path) -> None:
    """While FILTERS takes a standard filter away, whatever is changed, and beside the settings as they are."""
    assert plan_settings(home, {"FILTERS": "mine"}).warnings == ()
    assert settings_view(home).checks_off == ""
    (said,) = plan_settings(home, {"FILTERS": "-price_volume"}).warnings
    assert said.startswith("Off by FILTERS: price_volume (price, volume,")
    save(home, FILTERS="-price_volume")
    assert plan_settings(home, {"MAX_TRADES": "3"}).warnings == (said,)
    assert settings_view(home).checks_off == said


def test_a_change_that_cannot_act_is_noted_in_its_review(home: Path) -> None:
    """Beside the change that it is about, and beside no other."""
    changes = {"TOTAL_ALLOCATION": "0.5", "MAX_RISK_PER_TRADE": "0.2"}
    (said,) = plan_settings(home, changes).warnings
    assert said.startswith("MAX_GROSS_EXPOSURE=0.1: no position fits.")
    save(home, **changes)
    assert plan_settings(home, {"MAX_TRADES": "3"}).warnings == ()


def test_a_change_that_permits_more_is_known_as_one(home: Path) -> None:
    """With its reason; one that restricts beside it has none, also of a value that cannot be read now."""
    plan = plan_settings(home, {"MAX_TRADES": "3", "STOP_LOSS_PCT": "0.03", "TRADE_CONFIRMATION_REQUIRED": "true"})
    assert len(plan.changes) == 3
    assert plan.guarded == {"STOP_LOSS_PCT": "A stop is farther away, so that a trade can lose more."}
    stored_config(home).replace(BOT.replace("0.05", "all").encode())
    assert "DAILY_LOSS_LIMIT" in plan_settings(home, {"DAILY_LOSS_LIMIT": "0.01"}).guarded


def test_what_only_the_log_depends_on_does_not_disarm(home: Path) -> None:
    """The hash of the settings, which an arming is bound to, is the judge."""
    assert not plan_settings(home, {"LOG_FORMAT": "csv"}).disarms


def test_a_fault_is_reported_at_its_setting(home: Path) -> None:
    """Also one of two settings together; nothing can be saved then."""
    plan = plan_settings(home, {"MAX_TRADES": "many", "SEED": "7"})
    assert set(plan.faults) == {"MAX_TRADES"}
    assert "allowed is a whole number from 0 to 1000" in plan.faults["MAX_TRADES"]
    with pytest.raises(UsageError, match="nothing that could be saved"):
        plan.save(plan.version)


def test_a_fault_that_was_there_before_is_reported_too(home: Path) -> None:
    """It belongs to no field of the form."""
    stored = stored_config(home)
    stored.replace(f"{BOT}MAX_ORDERS_PER_MINUTE=never\n".encode())
    plan = plan_settings(home, {"SEED": "7"})
    assert "MAX_ORDERS_PER_MINUTE=never" in plan.faults[""]
    repaired = plan_settings(home, {"MAX_ORDERS_PER_MINUTE": "20"})
    assert (repaired.faults, repaired.disarms, repaired.worst_day) == ({}, True, "")


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"BROKER_NAME": "nowhere"}, "no broker nowhere is installed"),
        ({"CRITICAL_ALERT_CHANNEL": ""}, "allowed is names separated by commas"),
        ({"CRITICAL_ALERT_CHANNEL": "pagerduty"}, "TB-SEC-051 alert"),
        ({"BROKER_NAME": "alpaca"}, "TB-SEC-051 broker"),
        ({"FAILOVER_ENABLED": "true", "FAILOVER_BROKERS": "nowhere"}, "no broker nowhere is installed"),
    ],
)
def test_what_the_next_start_would_refuse_is_not_saved(home: Path, wanted: dict[str, str], said: str) -> None:
    """The plan says what the start would say: a plugin or a secret that is not there, no critical channel."""
    plan = plan_settings(home, wanted)
    assert said in " ".join(plan.faults.values())
    assert plan.fault is not None
    with pytest.raises(UsageError, match="nothing that could be saved"):
        plan.save(plan.version)
    assert stored_config(home).text == BOT.encode()


def test_a_start_that_fails_already_holds_up_no_other_change(home: Path) -> None:
    """What was there before is a warning; what would be new is not saved beside it, and what corrects it is."""
    stored_config(home).replace(f"{BOT}ROUTINE_ALERT_CHANNEL=slack\n".encode())
    plan = plan_settings(home, {"SEED": "7"})
    assert any(line.startswith("as before, a start fails: TB-SEC-051 alert") for line in plan.warnings)
    plan.save(plan.version)
    assert "no broker nowhere" in " ".join(plan_settings(home, {"BROKER_NAME": "nowhere"}).faults.values())
    corrected = plan_settings(home, {"ROUTINE_ALERT_CHANNEL": "console"})
    assert (corrected.faults, corrected.warnings) == ({}, ())


def test_a_live_account_is_judged_as_a_live_start(home: Path) -> None:
    """ENVIRONMENT=development would refuse it, so it is not saved; on paper it is."""
    assert plan_settings(home, {"ENVIRONMENT": "development"}).faults == {}
    stored_config(home).replace(BOT.replace("PAPER", "alpaca").encode())
    section = {"alpaca": {"api_key": "k", "api_secret": "s", "mode": "live"}}
    vault = secrets.open_instance_vault(Instance(home), DeploymentSettings())
    secrets.encrypt_category(vault, "broker", json.dumps(section).encode())
    faults = plan_settings(home, {"ENVIRONMENT": "development"}).faults
    assert "does not allow live trading" in faults["ENVIRONMENT"]


def test_the_audit_log_names_the_settings_with_their_values_and_the_password(home: Path) -> None:
    """One line of the write, by the user; a value of several lines or of a key is not written as it is."""
    plan = plan_settings(home, {"MAX_TRADES": "3", "STRATEGY_OVERRIDE": "open"}, "web/alice")
    plan.save(plan.version, password=True)
    plan = plan_settings(home, {"STRATEGY_OVERRIDE": ""}, "web/bob")
    plan.save(plan.version)
    lines = [it for it in log_entries(log_path(Instance(home))) if it.outcome.startswith("begun: ")]
    assert [(it.actor, it.action, it.category, it.outcome) for it in lines] == [
        (
            "web/alice",
            "write",
            "env_bot",
            "begun: STRATEGY_OVERRIDE empty -> open, MAX_TRADES 4 -> 3; with the password",
        ),
        ("web/bob", "write", "env_bot", "begun: STRATEGY_OVERRIDE open -> empty; without the password"),
    ]


def test_settings_that_changed_since_are_not_overwritten(home: Path) -> None:
    """A form of before, and a plan of before."""
    form = settings_view(home).version
    early = plan_settings(home, {"MAX_TRADES": "1"})
    save(home, SEED="7")
    with pytest.raises(UsageError, match="changed since the form was opened"):
        plan_settings(home, {"MAX_TRADES": "2"}).save(form)
    with pytest.raises(UsageError, match="was changed meanwhile"):
        early.save(form)
    assert settings_view(home).values["MAX_TRADES"].text == "4"


def test_equal_texts_are_no_change(home: Path) -> None:
    """In whatever spelling."""
    plan = plan_settings(home, {"MAX_TRADES": " 4 ", "DISABLE_ALL_TRADES": "no"})
    assert plan.changes == ()
    with pytest.raises(UsageError, match="nothing that could be saved"):
        plan.save(plan.version)


def test_an_alias_in_the_file_keeps_its_spelling(home: Path) -> None:
    """Its line is changed; a second line of the same setting would be confusing."""
    alias, name = "ENABLE_FINNHUB_FUNDAMENTALS_FILTER", "ENABLE_FUNNHUB_FUNDAMENTALS_FILTER"
    stored_config(home).replace(f"{BOT}{alias}=yes\n".encode())
    save(home, **{name: "false"})
    assert stored_config(home).text.decode() == f"{BOT}{alias}=false\n"


def test_the_global_file_is_changed_on_its_own_and_its_paths_are_not(home: Path) -> None:
    """Where a file is changes together with the file."""
    save(home, LOGIN_ATTEMPT_LIMIT="5")
    assert b"LOGIN_ATTEMPT_LIMIT=5" in stored_config(home, "env").text
    with pytest.raises(UsageError, match="both files"):
        plan_settings(home, {"LOGIN_ATTEMPT_LIMIT": "6", "SEED": "7"})
    with pytest.raises(UsageError, match="names a file"):
        plan_settings(home, {"BROKER_KEY_PATH": "elsewhere.key"})
    with pytest.raises(UsageError, match="Unknown setting"):
        plan_settings(home, {"NOT_A_SETTING": "1"})


def test_a_change_takes_effect_at_a_known_time(home: Path) -> None:
    """By the setting, and by what the bot does."""
    values = settings_view(home).values
    bot = values["MAX_TRADES"]
    assert takes_effect(bot, running=True, in_session=True) == "from the next session"
    assert takes_effect(bot, running=True, in_session=False).startswith("from the next session; none")
    assert takes_effect(bot, running=False, in_session=False) == "at the next start of the bot"
    assert "tbot web" in takes_effect(values["LOGIN_ATTEMPT_LIMIT"], running=True, in_session=True)
    assert "each process" in takes_effect(values["KEEP_PREV_DAYS"], running=True, in_session=True)


def test_a_form_knows_what_can_be_chosen_and_changed(home: Path) -> None:
    """Words of a choice, true and false, and any text."""
    values = settings_view(home).values
    assert choices_of(values["LOG_FORMAT"]) == ("json", "csv")
    assert choices_of(values["DISABLE_ALL_TRADES"]) == ("true", "false")
    assert choices_of(values["MAX_TRADES"]) == ()
    assert is_editable(values["MAX_TRADES"])
    assert not is_editable(values["BROKER_KEY_PATH"])


def test_plaintext_is_shown_and_not_changed(tmp_path: Path) -> None:
    """Until it is encrypted."""
    (tmp_path / ".env_bot").write_text(BOT)
    view = settings_view(tmp_path)
    assert view.fixed == ".env_bot: not encrypted."
    assert view.values["MAX_TRADES"].text == "4"
    with pytest.raises(UsageError, match="not encrypted"):
        plan_settings(tmp_path, {"SEED": "7"})
