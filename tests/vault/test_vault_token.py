"""Token v1 and Fernet: what opens, and that nothing else does."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.errors import VaultError
from tbot_core.system.secure_memory import SecureBuffer
from tbot_core.vault import fernet, files, token
from tbot_core.vault.categories import CategoryPaths
from tbot_core.vault.error_codes import VaultErrorCode
from tbot_core.vault.keys import CategoryKeys, RootKey

HOME = Path("/instance")
ROOT = bytes(range(32))


def place(category: str = "smtp", logical: str = "smtp_credentials.json") -> CategoryPaths:
    """A place of that category."""
    return CategoryPaths(category=category, logical=logical, key=HOME / "k.key", file=HOME / "f.enc", home=HOME)


def key(root: bytes = ROOT) -> RootKey:
    """A key."""
    return RootKey(SecureBuffer.of([root]))


def counted(size: int) -> bytes:
    """Entropy that is the same each time: 32.. for the salt, 64.. for the nonce."""
    return bytes(range(size, 2 * size)) if size == 32 else bytes(range(64, 64 + size))


def text_of(data: bytes) -> bytes:
    """The text form of a binary token."""
    return token.PREFIX + base64.urlsafe_b64encode(data).rstrip(b"=")


def binary_of(text: bytes) -> bytes:
    """The binary token of a text form."""
    body = text.removeprefix(token.PREFIX)
    return base64.urlsafe_b64decode(body + b"=" * (-len(body) % 4))


def opened(ring: CategoryKeys, where: CategoryPaths, text: bytes) -> bytes:
    """What a token of either format holds."""
    plain, _ = files.open_text(ring, where, text)
    with plain:
        return bytes(plain.view)


def code_of(ring: CategoryKeys, where: CategoryPaths, text: bytes) -> VaultErrorCode:
    """Under which code a token is refused."""
    with pytest.raises(VaultError) as refused:
        opened(ring, where, text)
    assert refused.value.message.startswith(f"{refused.value.code} {where.category}: ")
    assert "f.enc" in refused.value.message
    assert refused.value.remedy
    return next(code for code in VaultErrorCode if code.text == refused.value.code)


SEALED = token.seal_token(key(), place(), b"secret", entropy=counted)


def test_the_layout_is_the_documented_one() -> None:
    """Magic, version, algorithm, key id, salt and nonce stand where security 6.1 says; a stranger's code opens it."""
    data = binary_of(SEALED)
    assert data[:9] == b"TBOTENC\x01\x01"
    assert data[9:17] == key().id
    assert (data[17:49], data[49:61]) == (counted(32), counted(12))
    assert len(data) == 61 + len(b"secret") + 16
    bound = b"\x00\x04smtp\x00\x15smtp_credentials.json"
    own = HKDF(SHA256(), 32, counted(32), b"tbot file key v1" + bound).derive(ROOT)
    assert AESGCM(own).decrypt(counted(12), data[61:], data[:61] + bound) == b"secret"


def test_the_golden_token_never_changes() -> None:
    """With the same key, salt and nonce the text is the same to the letter, today and in years."""
    assert SEALED.decode() == (
        "tbot1.VEJPVEVOQwEBXgHQEY_LYbQgISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0-P0BBQkNERUZHSElKS2AdPEuHCJUICv"
        "1k7BuFvYV7aZc9acM"
    )
    assert opened(CategoryKeys(cur=key()), place(), SEALED) == b"secret"


def test_the_key_id_is_the_documented_one() -> None:
    """The id is the begin of an HMAC over a fixed label, and shows nothing of the key."""
    assert key().name == "5e01d0118fcb61b4"
    assert repr(key()) == "Key(5e01d0118fcb61b4)"


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_what_is_sealed_opens(end: bytes) -> None:
    """A token opens with its key, with one final newline or none."""
    assert opened(CategoryKeys(cur=key()), place(), SEALED + end) == b"secret"


def test_two_tokens_of_one_text_differ() -> None:
    """Salt and nonce are fresh for each."""
    assert token.seal_token(key(), place(), b"a") != token.seal_token(key(), place(), b"a")


def test_f101_each_flipped_bit_is_refused() -> None:
    """No bit of the binary token can be turned unnoticed, and each refusal has the code of its part."""
    data = binary_of(SEALED)
    expected = {
        **dict.fromkeys(range(7), VaultErrorCode.TOKEN_MAGIC),
        7: VaultErrorCode.TOKEN_VERSION,
        8: VaultErrorCode.TOKEN_ALGORITHM,
        **dict.fromkeys(range(9, 17), VaultErrorCode.TOKEN_KEY_ID),
        **dict.fromkeys(range(17, len(data)), VaultErrorCode.TOKEN_TAG),
    }
    for position, code in expected.items():
        for bit in range(8):
            broken = bytearray(data)
            broken[position] ^= 1 << bit
            assert code_of(CategoryKeys(cur=key()), place(), text_of(bytes(broken))) is code


def test_each_flipped_bit_of_the_text_is_refused() -> None:
    """Nor can a bit of the text be turned."""
    allowed = {
        VaultErrorCode.FORMAT_UNKNOWN,
        VaultErrorCode.TOKEN_ALPHABET,
        VaultErrorCode.TOKEN_CANONICAL,
        VaultErrorCode.TOKEN_MAGIC,
        VaultErrorCode.TOKEN_VERSION,
    }
    allowed |= {VaultErrorCode.TOKEN_ALGORITHM, VaultErrorCode.TOKEN_KEY_ID, VaultErrorCode.TOKEN_TAG}
    for position in range(len(SEALED)):
        for bit in range(8):
            broken = bytearray(SEALED)
            broken[position] ^= 1 << bit
            assert code_of(CategoryKeys(cur=key()), place(), bytes(broken)) in allowed


def test_each_truncation_is_refused() -> None:
    """A token cut anywhere, in its text or in its bytes, does not open."""
    for size in range(len(SEALED)):
        assert code_of(CategoryKeys(cur=key()), place(), SEALED[:size]) in {
            VaultErrorCode.FILE_EMPTY,
            VaultErrorCode.FORMAT_UNKNOWN,
            VaultErrorCode.TOKEN_SHORT,
            VaultErrorCode.TOKEN_CANONICAL,
            VaultErrorCode.TOKEN_TAG,
        }
    data = binary_of(SEALED)
    for size in range(len(data)):
        code = code_of(CategoryKeys(cur=key()), place(), text_of(data[:size]))
        assert code is (VaultErrorCode.TOKEN_SHORT if size <= 77 else VaultErrorCode.TOKEN_TAG)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"", VaultErrorCode.FILE_EMPTY),
        (b"tbot2.AAAA", VaultErrorCode.FORMAT_UNKNOWN),
        (b"A=1\n", VaultErrorCode.FORMAT_UNKNOWN),
        (b" " + SEALED, VaultErrorCode.FORMAT_UNKNOWN),
        (b"\xef\xbb\xbf" + SEALED, VaultErrorCode.FORMAT_UNKNOWN),
        (SEALED + b"\n\n", VaultErrorCode.TOKEN_ALPHABET),
        (SEALED + b"\r\n", VaultErrorCode.TOKEN_ALPHABET),
        (SEALED + b"=", VaultErrorCode.TOKEN_ALPHABET),
        (SEALED + b" ", VaultErrorCode.TOKEN_ALPHABET),
        (SEALED[:40] + b"\n" + SEALED[40:], VaultErrorCode.TOKEN_ALPHABET),
        (SEALED.replace(b"-", b"+").replace(b"_", b"/") + b"+", VaultErrorCode.TOKEN_ALPHABET),
        (SEALED + b"AA", VaultErrorCode.TOKEN_CANONICAL),
        (b"tbot1.A", VaultErrorCode.TOKEN_CANONICAL),
        (b"tbot1.", VaultErrorCode.TOKEN_SHORT),
        (token.PREFIX + b"A" * (token.LIMIT_BYTES - 5), VaultErrorCode.TOKEN_TOO_LONG),
    ],
)
def test_there_is_one_way_to_write_a_token(text: bytes, code: VaultErrorCode) -> None:
    """Padding, blanks, line breaks, other alphabets, spare bits, other versions of the prefix: all are refused."""
    assert code_of(CategoryKeys(cur=key()), place(), text) is code


def test_the_longest_token_may_have_a_megabyte_and_no_byte_more() -> None:
    """The longest plaintext opens again; a longer one, and none at all, are not sealed."""
    longest = bytes(token.PLAINTEXT_BYTES)
    text = token.seal_token(key(), place(), longest)
    assert token.LIMIT_BYTES - 4 < len(text) <= token.LIMIT_BYTES == 1_048_576
    assert opened(CategoryKeys(cur=key()), place(), text + b"\n") == longest
    with pytest.raises(VaultError) as long:
        token.seal_token(key(), place(), bytes(token.PLAINTEXT_BYTES + 1))
    with pytest.raises(VaultError) as empty:
        token.seal_token(key(), place(), b"")
    assert (long.value.code, empty.value.code) == (
        VaultErrorCode.PLAINTEXT_LONG.text,
        VaultErrorCode.PLAINTEXT_EMPTY.text,
    )


NAMES = ["env", "env_bot", "login", "broker", "screener_api", "alert", "smtp", "acct_api", "network", "bot_identity"]


def test_no_file_passes_for_another_categorys() -> None:
    """Under the same key, each category opens its own token and none of the others'."""
    texts = {name: token.seal_token(key(), place(name, "x"), b"secret") for name in NAMES}
    for name, text in texts.items():
        for other in NAMES:
            if name == other:
                assert opened(CategoryKeys(cur=key()), place(other, "x"), text) == b"secret"
            else:
                assert code_of(CategoryKeys(cur=key()), place(other, "x"), text) is VaultErrorCode.TOKEN_TAG


@pytest.mark.parametrize("other", [place(logical="other"), place("smt", "psmtp_credentials.json"), place("smtp", "")])
def test_the_logical_name_is_bound_too(other: CategoryPaths) -> None:
    """Another name, or the same letters divided otherwise, do not open it."""
    assert code_of(CategoryKeys(cur=key()), other, SEALED) is VaultErrorCode.TOKEN_TAG


def test_a_file_may_be_moved() -> None:
    """Neither the path nor the folder is bound."""
    moved = CategoryPaths(
        category="smtp", logical="smtp_credentials.json", key=HOME, file=Path("/else/x"), home=Path("/else")
    )
    assert opened(CategoryKeys(cur=key()), moved, SEALED) == b"secret"


@pytest.mark.parametrize("slot", ["cur", "next", "prev"])
def test_the_key_is_found_in_any_slot(slot: str) -> None:
    """Whatever slot it is in, and whatever keys the others are, the right key opens; without it the id is unknown."""
    others = {name: key(bytes([9, number] * 16)) for number, name in enumerate({"cur", "next", "prev"} - {slot})}
    for text in (SEALED, fernet.seal_fernet(key(), place(), b"secret", seconds=0)):
        plain, found = files.open_text(CategoryKeys(**others, **{slot: key()}), place(), text)
        assert (bytes(plain.view), found.id) == (b"secret", key().id)
    assert code_of(CategoryKeys(**others), place(), SEALED) is VaultErrorCode.TOKEN_KEY_ID
    assert code_of(CategoryKeys(), place(), SEALED) is VaultErrorCode.TOKEN_KEY_ID


def test_f101_a_wrong_key_with_the_right_id_opens_nothing() -> None:
    """The id only chooses; the tag decides."""
    false = key(bytes([7, 8] * 16))
    false.id = key().id
    assert code_of(CategoryKeys(cur=false), place(), SEALED) is VaultErrorCode.TOKEN_TAG


def test_a_refusal_names_category_and_file_and_nothing_that_was_read() -> None:
    """The sentence holds the code, the category, the file as seen from the instance, and the remedy."""
    with pytest.raises(VaultError) as refused:
        opened(CategoryKeys(cur=key(bytes([7, 8] * 16))), place(), SEALED)
    assert str(refused.value) == (
        "TB-SEC-010 smtp: its file f.enc was encrypted with a key that is not among its keys. Restore it from a "
        "backup, or run `tbot secrets rekey smtp` and enter the values again."
    )
    assert refused.value.__cause__ is None


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=150).map(text_of), st.text(max_size=99).map(str.encode)))
def test_whatever_is_read_it_opens_or_is_refused_by_a_code(data: bytes) -> None:
    """The parsers know two outcomes: the plaintext, or the typed error."""
    for text in (data, b"tbot1." + data, b"gAAAA" + data):
        with pytest.raises(VaultError, match=r"^TB-SEC-0\d\d smtp: "):
            opened(CategoryKeys(cur=key()), place(), text)


@given(st.integers(0, len(SEALED) - 1), st.binary(max_size=6), st.integers(0, 6))
def test_no_edit_of_a_token_opens(position: int, new: bytes, drop: int) -> None:
    """Letters taken out of and put into a token leave the token itself, or nothing that opens."""
    edited = SEALED[:position] + new + SEALED[position + drop :]
    if edited.removesuffix(b"\n") == SEALED:
        assert opened(CategoryKeys(cur=key()), place(), edited) == b"secret"
    else:
        with pytest.raises(VaultError):
            opened(CategoryKeys(cur=key()), place(), edited)


@given(st.binary(min_size=1, max_size=300), st.binary(min_size=32, max_size=32))
def test_every_text_goes_there_and_back(plain: bytes, root: bytes) -> None:
    """In both formats, under any key."""
    where = place()
    assert opened(CategoryKeys(cur=key(root)), where, token.seal_token(key(root), where, plain)) == plain
    assert opened(CategoryKeys(cur=key(root)), where, fernet.seal_fernet(key(root), where, plain, seconds=1)) == plain


def test_each_library_reads_the_other() -> None:
    """A file written by `cryptography.fernet` opens, and the library opens ours, made at the moment that is given."""
    text44 = base64.urlsafe_b64encode(ROOT)
    assert opened(CategoryKeys(cur=key()), place(), Fernet(text44).encrypt(b"secret") + b"\n") == b"secret"
    ours = fernet.seal_fernet(key(), place(), b"secret", seconds=1_700_000_000)
    assert Fernet(text44).decrypt(ours) == b"secret"
    assert Fernet(text44).extract_timestamp(ours) == 1_700_000_000
    assert ours[:5] == b"gAAAA"


FERNET = b"gAAAAAAAAAAA9kTQ2gGprVPvnGv5BODUl7_N5DcqWu5VqJXiib0fY8ZZFTyyxy7sdFxsQsEk0Ea0eqXYt2dFx11ZvzA68-ZqTQ=="
TWO_BLOCKS = (
    b"gAAAAAAAAAAA1nHLcYTCPBdnQD1HMoFu4jOwWmvnTb92gwYzm34R7mMBfpLF"
    b"t5svHLq2f7lxMOdRvXZcrju_pBhQ-TCTPtYB_CaaL2Dyam50FeoJj7SMjpE="
)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (FERNET.rstrip(b"="), VaultErrorCode.FERNET_CANONICAL),
        (FERNET + b"\n\n", VaultErrorCode.FERNET_ALPHABET),
        (FERNET + b" ", VaultErrorCode.FERNET_ALPHABET),
        (TWO_BLOCKS[:-4], VaultErrorCode.FERNET_BLOCKS),
        (FERNET[:60], VaultErrorCode.FERNET_SHORT),
        (b"gAAAA===", VaultErrorCode.FERNET_ALPHABET),
        (b"gAAAAB==", VaultErrorCode.FERNET_CANONICAL),
        (b"gAAAA" + b"A" * token.LIMIT_BYTES, VaultErrorCode.TOKEN_TOO_LONG),
    ],
)
def test_there_is_one_way_to_write_a_fernet_token(text: bytes, code: VaultErrorCode) -> None:
    """What the library would let pass is refused before it is asked."""
    assert code_of(CategoryKeys(cur=key()), place(), text) is code


def test_each_flipped_bit_of_a_fernet_token_is_refused() -> None:
    """Nor does an old file open once a bit of it was turned or its end cut off."""
    assert opened(CategoryKeys(cur=key()), place(), FERNET) == b"secret"
    data = base64.urlsafe_b64decode(FERNET)
    for position in range(len(data)):
        for bit in range(8):
            broken = bytearray(data)
            broken[position] ^= 1 << bit
            text = base64.urlsafe_b64encode(broken)
            expected = VaultErrorCode.FERNET_TAG if text.startswith(b"gAAAA") else VaultErrorCode.FORMAT_UNKNOWN
            assert code_of(CategoryKeys(cur=key()), place(), text) is expected
    for size in range(len(data)):
        text = base64.urlsafe_b64encode(data[:size])
        code = code_of(CategoryKeys(cur=key()), place(), text)
        assert code is (
            VaultErrorCode.FILE_EMPTY
            if not size
            else VaultErrorCode.FORMAT_UNKNOWN
            if size < 4
            else VaultErrorCode.FERNET_SHORT
        )


@pytest.mark.parametrize("text", [FERNET, TWO_BLOCKS])
def test_each_truncation_of_a_fernet_text_is_refused(text: bytes) -> None:
    """Cut anywhere, its text does not open, and the code says how it is wanting."""
    wanting = {VaultErrorCode.FERNET_CANONICAL, VaultErrorCode.FERNET_SHORT, VaultErrorCode.FERNET_BLOCKS}
    for size in range(len(text)):
        code = code_of(CategoryKeys(cur=key()), place(), text[:size])
        assert code in ({VaultErrorCode.FILE_EMPTY, VaultErrorCode.FORMAT_UNKNOWN} if size < 5 else wanting)


def test_a_fernet_text_has_bounds_too() -> None:
    """The longest plaintext fits and opens; a longer one, and none at all, are refused before they are encrypted."""
    longest = bytes(fernet.PLAINTEXT_BYTES)
    text = fernet.seal_fernet(key(), place(), longest, seconds=0)
    assert token.LIMIT_BYTES - 64 < len(text) <= token.LIMIT_BYTES
    assert opened(CategoryKeys(cur=key()), place(), text) == longest
    with pytest.raises(VaultError) as long:
        fernet.seal_fernet(key(), place(), bytes(fernet.PLAINTEXT_BYTES + 1), seconds=0)
    with pytest.raises(VaultError) as empty:
        fernet.seal_fernet(key(), place(), b"", seconds=0)
    assert (long.value.code, empty.value.code) == (
        VaultErrorCode.PLAINTEXT_LONG.text,
        VaultErrorCode.PLAINTEXT_EMPTY.text,
    )


def test_the_two_formats_are_called_what_they_are() -> None:
    """Neither is called AES-256 (Fernet)."""
    assert files.format_text(SEALED) == "AES-256-GCM (tbot v1)" == files.write_format_text("aes-256-gcm")
    assert (
        files.format_text(FERNET)
        == "Fernet: AES-128-CBC + HMAC-SHA256, 256-bit composite key"
        == files.write_format_text("fernet")
    )
    assert files.format_text(b"A=1") is None
