"""What was done is said on the next page of the same session."""

from __future__ import annotations

import attrs
from tbot_extension_web.access.credentials import Role
from tbot_extension_web.access.logins import Session
from tbot_extension_web.notices import MOST_WAITING, Notices

ANNA = Session(id=1, user="anna", role=Role.ADMIN, csrf="of anna", stepped_up=False)
BOB = attrs.evolve(ANNA, user="bob", csrf="of bob")


def test_a_sentence_is_shown_once_and_to_its_session_alone() -> None:
    """Several that wait are shown together; without a session there is none."""
    notices = Notices()
    notices.put(ANNA, ["Killed."])
    notices.put(ANNA, ["Cleared."])
    assert notices.pop(None) == notices.pop(BOB) == ()
    assert notices.pop(ANNA) == ("Killed.", "Cleared.")
    assert notices.pop(ANNA) == ()


def test_sentences_of_ended_sessions_do_not_pile_up() -> None:
    """The oldest go first."""
    notices = Notices()
    notices.put(ANNA, ["Killed."])
    notices.put(BOB, ["Stopped."])
    for number in range(MOST_WAITING - 1):
        notices.put(attrs.evolve(ANNA, id=number + 2), ["x"])
    assert notices.pop(ANNA) == ()
    assert notices.pop(BOB) == ("Stopped.",)
