"""Bundles: what opens with the passphrase, and that nothing else does."""

from __future__ import annotations

import base64
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.errors import VaultError
from tbot_core.system.secret import Secret
from tbot_core.system.secure_memory import SecureBuffer
from tbot_core.vault import bundle, keys
from tbot_core.vault.bundle import BundleCipher
from tbot_core.vault.error_codes import CODE_BY_TEXT, VaultErrorCode, vault_error

if TYPE_CHECKING:
    from pathlib import Path

PASSPHRASE = "correct horse battery"
PARTS = {"broker": b'{"alpaca": {"api_key": "k"}}', "smtp": b"{}"}


@cache
def _stretched(passphrase: bytes, salt: bytes) -> bytes:
    return Argon2id(salt=salt, length=32, iterations=3, lanes=4, memory_cost=65_536).derive(passphrase)


def remembered(secret: Secret, salt: bytes) -> SecureBuffer:
    """The real argon2id, at most once for each passphrase and salt."""
    return SecureBuffer.of([_stretched(secret.inspect_bytes(), salt)])


def counted(size: int) -> bytes:
    """Entropy that is the same each time."""
    return bytes(range(size))


def seal(passphrase: str = PASSPHRASE, kind: Any = "export", **more: Any) -> BundleCipher:
    """What closes and opens a bundle."""
    return BundleCipher(kind=kind, passphrase=Secret(passphrase), **{"stretch": remembered, "entropy": counted, **more})


def code_of(text: bytes, passphrase: str = PASSPHRASE, kind: Any = "export") -> VaultErrorCode:
    """Under which code a text is refused, in a sentence that names the file."""
    with pytest.raises(VaultError, match=r"^TB-SEC-1\d\d every category: .*out\.tbot.*\.") as refused:
        seal(passphrase, kind).open(text, "out.tbot")
    assert refused.value.remedy
    assert "None" not in str(refused.value)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None
    return CODE_BY_TEXT[refused.value.code]


def binary_of(text: bytes) -> bytes:
    """The bytes of a text form."""
    body = text.removeprefix(bundle.PREFIX)
    return base64.urlsafe_b64decode(body + b"=" * (-len(body) % 4))


def text_of(data: bytes) -> bytes:
    """The text form of bytes."""
    return bundle.PREFIX + base64.urlsafe_b64encode(data).rstrip(b"=")


@pytest.fixture(scope="module")
def text() -> bytes:
    """A bundle."""
    return seal().close(PARTS, "out.tbot")


def test_a_bundle_opens_with_its_passphrase_alone() -> None:
    """The real derivation and real entropy: every part comes back, a second bundle differs, and both are wiped."""
    lock = BundleCipher(kind="export", passphrase=Secret(PASSPHRASE))
    closed = lock.close(PARTS, "out.tbot")
    assert closed != lock.close(PARTS, "out.tbot")
    with lock.open(closed + b"\n", "out.tbot") as found:
        assert found.parts == PARTS
        assert repr(found) == "Bundle([redacted])"
        kept = found.parts["broker"]
    assert bytes(kept) == bytes(len(PARTS["broker"]))
    assert b"alpaca" not in closed
    assert b"alpaca" not in binary_of(closed)


def test_a_bundle_is_made_of_published_parts(text: bytes) -> None:
    """argon2id of 64 MiB, 3 passes and 4 lanes, HKDF by kind, AES-256-GCM with the header as its associated data."""
    data = binary_of(text)
    assert data[:10] == b"TBOTBDL\x01\x01\x01"
    master = _stretched(PASSPHRASE.encode(), counted(16))
    assert data[10:46] == keys.key_id(master) + counted(16) + counted(12)
    own = HKDFExpand(SHA256(), 32, b"tbot bundle key v1 export").derive(master)
    plain = AESGCM(own).decrypt(data[34:46], data[46:], data[:46])
    assert plain == b"".join(
        len(name).to_bytes(2, "big") + len(content).to_bytes(4, "big") + name.encode() + content
        for name, content in PARTS.items()
    )


@pytest.mark.slow
@given(st.dictionaries(st.text(min_size=1, max_size=40), st.binary(max_size=200), max_size=8))
def test_whatever_is_closed_comes_back(parts: dict[str, bytes]) -> None:
    """Any names and contents, in any order."""
    with seal().open(seal().close(parts, "x"), "x") as found:
        assert found.parts == parts


@given(st.binary(max_size=200), st.booleans())
def test_whatever_is_no_bundle_is_refused(data: bytes, encoded: bool) -> None:
    """Any bytes, as they are or written as a bundle is: the typed error and nothing else."""
    code_of(text_of(data) if encoded else data)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(24))
def test_every_flipped_bit_is_refused(text: bytes, first: int) -> None:
    """Each bit of the text form, and each of what it stands for, has its code; nothing opens."""
    data, codes = binary_of(text), set()
    for position in (*range(8 * 18), *range(8 * 18 + first, 8 * len(data), 24)):
        changed = bytearray(data)
        changed[position // 8] ^= 1 << position % 8
        if not 18 <= position // 8 < 34 or position % 8 == 0:
            codes.add(code_of(text_of(bytes(changed))))
    assert codes == {
        VaultErrorCode.BUNDLE_FORMAT,
        VaultErrorCode.BUNDLE_VERSION,
        VaultErrorCode.BUNDLE_ALGORITHM,
        VaultErrorCode.BUNDLE_KIND,
        VaultErrorCode.BUNDLE_PASSPHRASE,
        VaultErrorCode.BUNDLE_TAG,
    }
    for position in range(first // 8, len(text), 3):
        changed = bytearray(text)
        changed[position] ^= 1 << first % 8
        if not len(bundle.PREFIX) + 24 <= position < len(bundle.PREFIX) + 46:
            code_of(bytes(changed))


def test_every_truncation_is_refused(text: bytes) -> None:
    """However much is cut off the end, and whatever is added."""
    codes = {code_of(text[:size]) for size in range(len(text))}
    assert codes == {
        VaultErrorCode.BUNDLE_FORMAT,
        VaultErrorCode.BUNDLE_CANONICAL,
        VaultErrorCode.BUNDLE_SHORT,
        VaultErrorCode.BUNDLE_TAG,
    }
    for added in (b"A", b"AAAA", b"=", b"\n\n", b" "):
        code_of(text + added)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda text: text[:0], VaultErrorCode.BUNDLE_FORMAT),
        (lambda text: b"tbot1." + text, VaultErrorCode.BUNDLE_FORMAT),
        (lambda text: text.replace(b"tbotbundle1.", b"tbotbundle2."), VaultErrorCode.BUNDLE_FORMAT),
        (lambda text: text_of(b"X" + binary_of(text)[1:]), VaultErrorCode.BUNDLE_FORMAT),
        (lambda text: text + b"=", VaultErrorCode.BUNDLE_CANONICAL),
        (lambda text: text[:20] + b"\n" + text[20:], VaultErrorCode.BUNDLE_CANONICAL),
        (lambda text: text + b"A" * bundle.LIMIT_BYTES, VaultErrorCode.BUNDLE_LONG),
        (lambda text: text_of(binary_of(text)[:61]), VaultErrorCode.BUNDLE_SHORT),
        (lambda text: text_of(b"TBOTBDL\x02" + binary_of(text)[8:]), VaultErrorCode.BUNDLE_VERSION),
        (lambda text: text_of(b"TBOTBDL\x01\x02" + binary_of(text)[9:]), VaultErrorCode.BUNDLE_ALGORITHM),
        (lambda text: text_of(binary_of(text)[:-1] + b"\x00"), VaultErrorCode.BUNDLE_TAG),
    ],
)
def test_what_tbot_did_not_write_is_refused(text: bytes, change: Any, code: VaultErrorCode) -> None:
    """Strictly: one prefix, one way of writing, one version."""
    assert code_of(change(text)) is code


def test_another_passphrase_or_kind_opens_nothing(text: bytes) -> None:
    """A backup is no export, not even under the same passphrase, and with its kind forged into the header."""
    assert code_of(text, "correct horse batterz") is VaultErrorCode.BUNDLE_PASSPHRASE
    assert code_of(text, kind="backup") is VaultErrorCode.BUNDLE_KIND
    data = binary_of(text)
    assert code_of(text_of(data[:9] + b"\x02" + data[10:]), kind="backup") is VaultErrorCode.BUNDLE_TAG


@pytest.mark.parametrize(
    "plain",
    [
        b"\x00",
        b"\x00\x01\x00\x00\x00\x05a1234",
        b"\x00\x09\x00\x00\x00\x00a",
        b"\x00\x01\x00\x00\x00\x00b\x00\x01\x00\x00\x00\x00a",
        b"\x00\x01\x00\x00\x00\x00a\x00\x01\x00\x00\x00\x00a",
        b"\x00\x00\x00\x00\x00\x00",
        b"\x00\x01\x00\x00\x00\x00\xff",
    ],
)
def test_parts_that_do_not_fit_are_refused(plain: bytes) -> None:
    """A part that is cut, out of order, repeated, nameless or no text: a bundle of something else."""
    master = _stretched(PASSPHRASE.encode(), counted(16))
    own = HKDFExpand(SHA256(), 32, b"tbot bundle key v1 export").derive(master)
    header = b"TBOTBDL\x01\x01\x01" + keys.key_id(master) + counted(16) + counted(12)
    assert code_of(text_of(header + AESGCM(own).encrypt(counted(12), plain, header))) is VaultErrorCode.BUNDLE_CONTENT


def test_a_bundle_lies_in_a_file_of_its_owner(tmp_path: Path) -> None:
    """Mode 0600, one final newline, and it is read back; a check before it counts may refuse it."""
    path = tmp_path / "one.tbot"
    seal().write(path, PARTS)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes() == seal().close(PARTS, "x") + b"\n"
    with seal().read(path) as found:
        assert found.parts == PARTS

    def refuse(found: bundle.SecretBundle) -> None:
        assert found.parts == {"smtp": b"{}"}
        raise vault_error(VaultErrorCode.BUNDLE_TAG, "every category", "one.tbot")

    with pytest.raises(VaultError, match="TB-SEC-108"):
        seal().write(path, {"smtp": b"{}"}, prove=refuse)
    assert [it.name for it in tmp_path.iterdir()] == ["one.tbot"]
    with seal().read(path) as found:
        assert found.parts == PARTS
    with path.open("wb") as file:
        file.truncate(bundle.LIMIT_BYTES + 2)
    with pytest.raises(VaultError, match="TB-SEC-101"):
        seal().read(path)


def test_a_short_passphrase_and_too_much_are_refused() -> None:
    """Eleven characters close nothing, twelve do; what would not be read back is not written."""
    with pytest.raises(VaultError, match="TB-SEC-110"):
        seal("elevenchars").close(PARTS, "x")
    seal("twelve chars").close(PARTS, "x")
    room = bundle.LIMIT_BYTES // 4 * 3
    seal().close({"a": bytes(room - 200)}, "x")
    with pytest.raises(VaultError, match="TB-SEC-101"):
        seal().close({"a": bytes(room)}, "x")
