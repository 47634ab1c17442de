"""Passwords: hashes that carry their cost, few at once beside the event loop, and rules that refuse guesses only."""

from __future__ import annotations

import asyncio
import random
import string
import unicodedata

import pytest
from tbot_extension_web.access.password_rules import check_password, password_faults
from tbot_extension_web.access.passwords import (
    HashParameters,
    PasswordHasher,
    decoy_hash,
    hash_parameters,
    hash_password,
    password_matches,
)

from tbot_core.errors import UsageError

CHEAP = HashParameters(memory_kib=8, iterations=1)
NAMES = ("alice", "US_TX_SIM_B01")
GUESSES = """
passwordpassword Password1234 P@ssw0rd2026! letmein12345 iloveyou2023! admin-admin-12 welcome12345! trustno1trustno1
qwertyuiop12 1q2w3e4r5t6y zaq12wsxcde3 asdfghjkl123 0987654321qwe qazwsxedcrfv 123456789012 111111222222 aaaaaaaaaaaa
abcabcabcabc ababababababab january202612 Summer2026!! tbot-tbot-tbot paperTrading1! alice-alice-12 Alice#Trader!7
US_TX_SIM_B01x
"""


def test_the_default_cost_is_19_mib_and_two_passes() -> None:
    """A hash of the default cost says so in its text, and matches its password only."""
    text = hash_password("velvet otter quarry", HashParameters())
    assert text.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert password_matches("velvet otter quarry", text)
    assert not PasswordHasher().needs_rehash(text)
    assert PasswordHasher(HashParameters(memory_kib=65_536, iterations=3)).needs_rehash(text)


def test_two_hashes_of_a_password_differ() -> None:
    """Each hash has a salt of its own."""
    assert hash_password("a", CHEAP) != hash_password("a", CHEAP)


def test_a_password_matches_however_its_accents_are_composed() -> None:
    """Keyboards that compose an accent and those that do not enter the same password."""
    whole, parts = (unicodedata.normalize(form, "grüne Wölfe über Bäumen") for form in ("NFC", "NFD"))
    assert whole != parts
    assert password_matches(parts, hash_password(whole, CHEAP))


@pytest.mark.parametrize("text", ["", "x" * 257, "\udcff", "velvet otter quarrz", "velvet otter quarry\0"])
def test_other_passwords_do_not_match(text: str) -> None:
    """Empty, too long, not encodable or slightly different: no match, and no error."""
    assert not password_matches(text, hash_password("velvet otter quarry", CHEAP))


def test_a_password_beyond_the_longest_matches_nothing() -> None:
    """What follows the 256th character is not ignored: such a password is refused, not cut."""
    assert password_matches("x" * 256, hash_password("x" * 256, CHEAP))
    assert not password_matches("x" * 257, hash_password("x" * 257, CHEAP))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secret",
        "$argon2i$v=19$m=8,t=1,p=1$c29tZXNhbHQ$" + "A" * 43,
        "$argon2id$v=19$m=9999999,t=1,p=1$c29tZXNhbHQ$" + "A" * 43,
        "$argon2id$v=19$m=8,t=99,p=1$c29tZXNhbHQ$" + "A" * 43,
        "$argon2id$v=19$m=8,t=1,p=2$c29tZXNhbHQ$" + "A" * 43,
        "$argon2id$v=19$m=8,t=0,p=1$c29tZXNhbHQ$" + "A" * 43,
    ],
)
def test_what_is_no_hash_or_too_costly_matches_nothing(text: str) -> None:
    """A hash of another kind, or of a cost that would exhaust the machine, is replaced by one of no password."""
    hasher = PasswordHasher(CHEAP)
    assert hash_parameters(text) is None
    assert not asyncio.run(hasher.verify("secret", text))
    assert hasher.computed == 1


def test_a_hash_whose_base64_is_damaged_matches_nothing() -> None:
    """A damaged digest is a wrong password, not an error."""
    assert not password_matches("secret", "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHR$" + "/" * 43)


def test_a_decoy_has_the_cost_and_matches_nothing() -> None:
    """The hash of no password has the parameters of a real one."""
    text = decoy_hash(CHEAP)
    assert hash_parameters(text) == CHEAP
    assert not password_matches("", text)


def test_two_hashes_run_at_once_and_the_loop_goes_on() -> None:
    """However many are asked for, two run at a time, and the event loop is not blocked."""
    running, most = 0, 0

    class Slow(PasswordHasher):
        async def verify(self, password: str, text: str) -> bool:
            async with self._slots:
                nonlocal running, most
                running += 1
                most = max(most, running)
                await asyncio.sleep(0)
                running -= 1
            return await super().verify(password, text)

    async def story() -> list[bool]:
        hasher = Slow(CHEAP)
        text = await hasher.hash("velvet otter quarry")
        return await asyncio.gather(*(hasher.verify("velvet otter quarry", text) for _ in range(8)))

    assert asyncio.run(story()) == [True] * 8
    assert most == 2


@pytest.mark.parametrize("password", [*GUESSES.split(), "............ ..."])
def test_guesses_are_refused(password: str) -> None:
    """Common words, runs of keys, repetitions, years, and the names of user and bot make no password."""
    (sentence,) = password_faults(password, NAMES)
    assert "easy to guess" in sentence
    assert password not in sentence


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery staple",
        "velvet otter quarry",
        "kT9#vqLw2mZp",
        "gk4j2h5kj2h4",
        "nine lemons on a bus",
        "zwölf Hühner laufen",
        "長いパスワードの例です一二三",
        "x" * 4 + "velvet otter quarry" * 12,
    ],
)
def test_what_is_no_guess_is_accepted_without_rules_of_characters(password: str) -> None:
    """Words in a row, other scripts and random characters are accepted, with no rule about kinds of characters."""
    assert password_faults(password, NAMES) == ()


def test_random_passwords_are_accepted() -> None:
    """Of three hundred random passwords of twelve letters and digits none is taken for a guess."""
    chance = random.Random(1)
    made = ("".join(chance.choices(string.ascii_letters + string.digits, k=12)) for _ in range(300))
    assert [one for one in made if password_faults(one, NAMES)] == []


def test_length_is_bounded_on_both_sides() -> None:
    """Eleven characters are too few, 257 too many; the error has every sentence and never the password."""
    assert "at least 12" in password_faults("velvet otte")[0]
    assert password_faults("velvet otter") == ()
    assert password_faults("velvet otter quarry " * 12 + "velvet otter qua") == ()
    assert "at most 256" in password_faults("velvet otter quarry " * 13)[0]
    with pytest.raises(UsageError, match="at least 12") as caught:
        check_password("otter", NAMES)
    assert "otter" not in str(caught.value)
    check_password("velvet otter quarry", NAMES)
