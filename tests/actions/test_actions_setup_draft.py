"""The draft of a set-up: encrypted answers that a process which ended leaves for the next one."""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING

import attrs
import pytest

from tbot_core.actions.adoption import read_adoption
from tbot_core.actions.instance_creation import refuse_occupied
from tbot_core.actions.setup_draft import Draft, begin_setup, complete_setup
from tbot_core.errors import SettingsError, VaultError
from tbot_core.instance import Instance, load_settings, read_settings_files
from tbot_core.instance.folder import CREATION_MARKER, SETUP_DRAFT
from tbot_core.instance.sources import is_made, unfinished_setup

if TYPE_CHECKING:
    from pathlib import Path

IDENTITY = {"bot_identity": {"BOT_IDENTITY_STRING": "ACME_US_PAPER_B01"}}


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    """A folder that is not there yet."""
    return Instance.at(tmp_path / "bot")


def test_answers_are_kept_encrypted_for_the_next_process(instance: Instance) -> None:
    """With the key of the accounts, and none of their text is in the folder."""
    draft = Draft(answers=IDENTITY, settings={"MAX_TRADES": "3"}, done=("identity",), notes={"login": "refused"})
    begin_setup(instance).write(draft)
    assert begin_setup(instance).read() == draft
    assert not [one for one in instance.home.rglob("*") if one.is_file() and b"ACME" in one.read_bytes()]
    instance.path(SETUP_DRAFT).write_bytes(b"tbot1.AAAA\n")
    with pytest.raises(VaultError) as damaged:
        begin_setup(instance).read()
    assert damaged.value.remedy == "Remove data/setup.enc: the set-up then asks anew, and its accounts stay."


def test_answers_that_come_at_once_are_all_kept(instance: Instance) -> None:
    """A change begins where the one before it ended, also for another person at the same page."""
    setup = begin_setup(instance)
    other = attrs.evolve(setup, vault=setup.vault)
    second = Thread(target=lambda: other.change(lambda draft: (with_setting(draft, "MAX_TRADES"), None)))

    def first(draft: Draft) -> tuple[Draft, str]:
        second.start()
        second.join(0.1)  # it has to wait
        return with_setting(draft, "SEED"), "found"

    assert setup.change(first) == "found"
    second.join()
    assert setup.read().settings == {"SEED": "3", "MAX_TRADES": "3"}


def with_setting(draft: Draft, name: str) -> Draft:
    """The draft with a setting."""
    return attrs.evolve(draft, settings={**draft.settings, name: "3"})


def test_the_instance_is_made_of_the_answers_and_the_draft_is_gone(instance: Instance) -> None:
    """The settings of a paper instance, with what was answered."""
    setup = begin_setup(instance)
    assert setup.read() == Draft()
    setup.finish(Draft(answers=IDENTITY, settings={"MAX_TRADES": "3"}))
    assert load_settings(instance.home, mode="paper").risk.max_trades == 3
    assert not instance.path(SETUP_DRAFT).exists()


def test_files_that_were_taken_over_stay_to_the_byte_unless_an_answer_changes_them(instance: Instance) -> None:
    """Comments, order and the missing line end of a trading configuration stay."""
    setup = begin_setup(instance)
    text = "# mine\nMAX_TRADES=3\nBROKER_NAME=PAPER"
    assert setup.contents(Draft(files={"env_bot": text}))["env_bot"] == text.encode()
    changed = setup.contents(Draft(files={"env_bot": text}, settings={"MAX_TRADES": "2"}))["env_bot"]
    assert changed == b"# mine\nMAX_TRADES=2\nBROKER_NAME=PAPER"


def test_answers_that_do_not_fit_make_nothing(instance: Instance) -> None:
    """The set-up goes on then."""
    setup = begin_setup(instance)
    with pytest.raises(SettingsError, match="MAX_TRADES"):
        setup.finish(Draft(settings={"MAX_TRADES": "many"}))
    assert unfinished_setup(instance) is not None


def test_what_a_killed_process_left_is_removed_with_the_draft(instance: Instance) -> None:
    """The draft beside a whole instance, also a damaged one, and a new file that was not renamed."""
    setup = begin_setup(instance)
    setup.finish(Draft(answers=IDENTITY))
    left = (instance.path(SETUP_DRAFT), instance.path(SETUP_DRAFT).with_name(".setup.enc.new"))
    for path in left:
        path.write_text("x")
    complete_setup(instance)
    assert not any(path.exists() for path in left)
    complete_setup(instance)


def test_a_folder_with_a_draft_is_used_by_nothing_else(instance: Instance) -> None:
    """Neither settings are read nor is another instance made in it, and the sentence says how to go on."""
    begin_setup(instance)
    (instance.home / ".env_bot").write_text("BROKER_NAME=PAPER\n")
    fault = read_settings_files(instance).env.fault
    assert isinstance(fault, SettingsError)
    assert fault.message == f"The set-up of {instance.home} on the web page is not finished."
    assert f"`tbot web --home {instance.home}` goes on with it" in fault.remedy
    with pytest.raises(SettingsError, match="not finished"):
        refuse_occupied(instance)
    with pytest.raises(SettingsError, match="not finished"):
        read_adoption(instance, None)


def test_an_instance_that_has_traded_is_made_whatever_form_its_settings_have(instance: Instance) -> None:
    """A bot with settings in plaintext starts again: the page asks it for no set-up."""
    instance.data.mkdir(parents=True)
    assert not is_made(instance)
    instance.journal.touch()
    assert is_made(instance)
    instance.path(SETUP_DRAFT).touch()
    assert unfinished_setup(instance) is None
    instance.path(CREATION_MARKER).touch()
    assert not is_made(instance)
    assert unfinished_setup(instance) is not None
