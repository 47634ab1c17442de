"""Published vectors: each comes out as published, or a rule of ours refuses it; none is left unexplained."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cryptography_vectors
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tbot_core.errors import VaultError
from tbot_core.system.secure_memory import SecureBuffer
from tbot_core.vault import files, keys, token
from tbot_core.vault.categories import CategoryPaths
from tbot_core.vault.error_codes import CODE_BY_TEXT, VaultErrorCode
from tbot_core.vault.keys import CategoryKeys, RootKey

if TYPE_CHECKING:
    from collections.abc import Iterator

VECTORS: Final = Path(cryptography_vectors.__file__).parent
WHERE: Final = CategoryPaths(category="smtp", logical="x", key=Path("/i/k"), file=Path("/i/f.enc"), home=Path("/i"))
ROOT: Final = bytes(range(32))
OURS: Final = CategoryKeys(cur=RootKey(SecureBuffer.of([ROOT])))

HELD: Final = "comes out as published"
SHORTER: Final = "a key has 44 characters, which are 256 bits"
OTHER: Final = "a token is AES-256-GCM, and its header says so"
ARGON: Final = "a passphrase is derived by argon2id"
ANSWERS: Final = {
    "KDF/argon2d.txt": ARGON,
    "KDF/argon2i.txt": ARGON,
    "KDF/argon2id.txt": HELD,
    "KDF/hkdf-generated.txt": HELD,
    "KDF/rfc-5869-HKDF-SHA1.txt": "keys are derived with SHA-256",
    "KDF/rfc-5869-HKDF-SHA256.txt": HELD,
    "ciphers/AES/GCM/gcmDecrypt128.rsp": SHORTER,
    "ciphers/AES/GCM/gcmDecrypt192.rsp": SHORTER,
    "ciphers/AES/GCM/gcmDecrypt256.rsp": HELD,
    "ciphers/AES/GCM/gcmEncryptExtIV128.rsp": SHORTER,
    "ciphers/AES/GCM/gcmEncryptExtIV192.rsp": SHORTER,
    "ciphers/AES/GCM/gcmEncryptExtIV256.rsp": HELD,
    "ciphers/AES/GCM-SIV/aes-192-gcm-siv.txt": OTHER,
    "ciphers/AES/GCM-SIV/openssl.txt": OTHER,
    "fernet/generate.json": HELD,
    "fernet/invalid.json": HELD,
    "fernet/verify.json": HELD,
}
"""What becomes of each published file about a part of ours."""


def named(answer: str, folder: str) -> list[str]:
    """The files of a folder with that answer."""
    return [name for name, said in ANSWERS.items() if said == answer and name.startswith(folder)]


def test_every_published_file_about_our_parts_has_an_answer() -> None:
    """A release of the vectors that brings another file about Fernet, AES-GCM, HKDF or argon2 is noticed."""
    about = re.compile(r"fernet/|/GCM|hkdf|argon2", re.IGNORECASE)
    found = {path.relative_to(VECTORS).as_posix() for path in VECTORS.rglob("*.*")}
    assert {name for name in found if about.search(name) and name.endswith((".json", ".rsp", ".txt"))} == set(ANSWERS)


def opened(ring: CategoryKeys, text: bytes) -> bytes:
    """What a token of either format holds."""
    plain, _ = files.open_text(ring, WHERE, text)
    with plain:
        return bytes(plain.view)


def code_of(deed: Any) -> VaultErrorCode:
    """Under which code a deed is refused."""
    with pytest.raises(VaultError) as refused:
        deed()
    return CODE_BY_TEXT[refused.value.code]


def fernet_cases(name: str) -> Any:
    """A list of the Fernet specification, each case with its ring."""
    cases = json.loads((VECTORS / "fernet" / name).read_text())
    return [
        (case, CategoryKeys(cur=keys.parse_key(memoryview(case["secret"].encode()), "smtp", "k"))) for case in cases
    ]


def test_fernets_own_vectors_open() -> None:
    """What the specification says is generated and verified opens."""
    cases = [*fernet_cases("verify.json"), *fernet_cases("generate.json")]
    assert len(cases) >= 2
    for case, ring in cases:
        assert opened(ring, case["token"].encode()) == case["src"].encode()


FERNET_REFUSALS: Final = {
    "incorrect mac": VaultErrorCode.FERNET_TAG,
    "too short": VaultErrorCode.FERNET_SHORT,
    "invalid base64": VaultErrorCode.FORMAT_UNKNOWN,
    "payload size not multiple of block size": VaultErrorCode.FERNET_SHORT,
    "payload padding error": VaultErrorCode.FERNET_TAG,
    "incorrect IV (causes padding error)": VaultErrorCode.FERNET_TAG,
}
AGELESS: Final = {"far-future TS (unacceptable clock skew)", "expired TTL"}
"""A file has no age at which it ceases to open, so these two, sound but for their time, do open."""


def test_fernets_invalid_vectors_are_refused_or_ageless() -> None:
    """Each token that the specification calls invalid is refused, but for those that are only old or early."""
    seen = set()
    for case, ring in fernet_cases("invalid.json"):
        text = case["token"].encode()
        seen.add(case["desc"])
        if case["desc"] in AGELESS:
            assert opened(ring, text) == Fernet(case["secret"]).decrypt(text)
        else:
            assert code_of(lambda ring=ring, text=text: opened(ring, text)) is FERNET_REFUSALS[case["desc"]]
    assert seen == set(FERNET_REFUSALS) | AGELESS


def numbered(name: str) -> Iterator[dict[str, str]]:
    """The cases of a file of NAME = VALUE lines, counted."""
    for block in re.split(r"^COUNT = \d+$", (VECTORS / name).read_text(), flags=re.MULTILINE)[1:]:
        yield dict(re.findall(r"^(\w+) *= *(\S*)$", block, re.MULTILINE))


def rsp(name: str) -> Iterator[tuple[dict[str, bytes], bool]]:
    """The cases of a NIST response file: its values, and whether opening must fail."""
    for block in (VECTORS / name).read_text().split("\n\n"):
        found = re.findall(r"^(Key|IV|CT|AAD|Tag|PT) = ?([0-9a-f]*)$", block, re.MULTILINE)
        if found:
            yield {key: bytes.fromhex(text) for key, text in found}, "FAIL" in block


def is_ours(case: dict[str, bytes]) -> bool:
    """Whether nonce and tag have the lengths that a token has."""
    return (len(case["IV"]), len(case["Tag"])) == (12, token.TAG_BYTES)


def text_of(nonce: bytes, sealed: bytes) -> bytes:
    """The token with this nonce, ciphertext and tag under our key, whose id and salt it bears."""
    header = token.MAGIC + bytes([token.VERSION, token.ALGORITHM]) + keys.key_id(ROOT) + bytes(32)
    return written(header + nonce + sealed)


def written(data: bytes) -> bytes:
    """The text form of a binary token."""
    return token.PREFIX + base64.urlsafe_b64encode(data).rstrip(b"=")


def binary_of(text: bytes) -> bytes:
    """The binary token of a text form."""
    body = text.removeprefix(token.PREFIX)
    return base64.urlsafe_b64decode(body + b"=" * (-len(body) % 4))


def decrypted(case: dict[str, bytes]) -> bytes | None:
    """What a case opens to, the way a token is opened; None where it does not."""
    plain = SecureBuffer(len(case["CT"]))
    try:
        AESGCM(case["Key"]).decrypt_into(case["IV"], case["CT"] + case["Tag"], case["AAD"], plain.view)
    except InvalidTag:
        return None
    return bytes(plain.view)


@pytest.mark.slow
@pytest.mark.parametrize("name", named(HELD, "ciphers"))
def test_aes_gcm_comes_out_as_published_or_has_no_place_in_a_token(name: str) -> None:
    """With our lengths of nonce and tag it opens, fails and seals as published; with any other it is refused."""
    counts = {True: 0, False: 0}
    for case, fails in rsp(name):
        counts[is_ours(case)] += 1
        if is_ours(case):
            assert decrypted(case) == (None if fails else case["PT"])
            if not fails:
                assert AESGCM(case["Key"]).encrypt(case["IV"], case["PT"], case["AAD"]) == case["CT"] + case["Tag"]
            continue
        text = text_of(case["IV"], case["CT"] + case["Tag"])
        code = code_of(lambda text=text: opened(OURS, text))
        size = len(case["IV"] + case["CT"] + case["Tag"])
        assert code is (VaultErrorCode.TOKEN_TAG if size > 12 + token.TAG_BYTES else VaultErrorCode.TOKEN_SHORT)
    assert counts == {True: 375, False: 7500}


@pytest.mark.slow
@pytest.mark.parametrize("name", named(SHORTER, "ciphers"))
def test_no_key_of_the_shorter_vectors_is_a_key(name: str) -> None:
    """AES-128 and AES-192 cannot come in: a key file that holds such a key is refused."""
    cases = list(rsp(name))
    assert len(cases) == 7875
    for case, _ in cases:
        text = memoryview(base64.urlsafe_b64encode(case["Key"]))
        assert code_of(lambda text=text: keys.parse_key(text, "smtp", "k")) is VaultErrorCode.KEY_LENGTH


@pytest.mark.parametrize("name", named(OTHER, "ciphers"))
def test_another_algorithm_is_never_tried(name: str) -> None:
    """A vector of AES-GCM-SIV in a token that says so is refused for what it says, whatever would open it."""
    cases = list(numbered(name))
    assert len(cases) >= 25
    for case in cases:
        sealed = bytes.fromhex(case["Ciphertext"] + case["Tag"])
        data = binary_of(text_of(bytes.fromhex(case["IV"]), sealed))
        code = code_of(lambda data=data: opened(OURS, written(data[:8] + b"\x02" + data[9:])))
        assert code is (VaultErrorCode.TOKEN_ALGORITHM if case["Ciphertext"] else VaultErrorCode.TOKEN_SHORT)


@pytest.mark.parametrize("size", range(token.TAG_BYTES))
def test_a_shorter_tag_never_counts(size: int) -> None:
    """GCM allows tags of 4 bytes and more; a token sealed with its own key whose tag is cut does not open."""
    data = binary_of(token.seal_token(RootKey(SecureBuffer.of([ROOT])), WHERE, b"secret" * 5))
    cut = data[: len(data) - token.TAG_BYTES + size]
    assert code_of(lambda: opened(OURS, written(cut))) is VaultErrorCode.TOKEN_TAG


@pytest.mark.parametrize(("name", "count"), [("KDF/hkdf-generated.txt", 1), ("KDF/rfc-5869-HKDF-SHA256.txt", 3)])
def test_the_hkdf_vectors_hold(name: str, count: int) -> None:
    """Those of SHA-256 come out, written into a buffer as we do."""
    cases = list(numbered(name))
    assert len(cases) == count
    for case in cases:
        out = SecureBuffer(int(case["L"]))
        salt, info = bytes.fromhex(case["salt"]), bytes.fromhex(case["info"])
        HKDF(SHA256(), int(case["L"]), salt, info).derive_into(bytes.fromhex(case["IKM"]), out.view)
        assert out.view.hex() == case["OKM"]


def test_the_argon2id_vectors_hold() -> None:
    """RFC 9106's and those of the reference program come out, written into a buffer as we do."""
    cases = list(numbered("KDF/argon2id.txt"))
    assert len(cases) == 6
    for case in cases:
        more = {name: bytes.fromhex(case[name]) for name in ("ad", "secret") if name in case}
        out = SecureBuffer(int(case["length"]))
        kdf = Argon2id(
            salt=bytes.fromhex(case["salt"]),
            length=int(case["length"]),
            iterations=int(case["iter"]),
            lanes=int(case["lanes"]),
            memory_cost=int(case["memcost"]),
            **more,
        )
        kdf.derive_into(bytes.fromhex(case["pass"]), out.view)
        assert out.view.hex() == case["output"]
