"""EncryptionCodec and KeyRing: encryption with a new nonce per payload, bound to the id of the key."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from temporalio.api.common.v1 import Payload

from infrastructure.temporal.codec import EncryptionCodec, KeyRing, PayloadDecryptionFailed

ONE, OTHER = b"1" * 32, b"2" * 32
PLAIN = Payload(metadata={"encoding": b"json/plain", "secret": b"in its metadata"}, data=b'"in its data"')


async def encrypt(keys: KeyRing, payload: Payload = PLAIN) -> Payload:
    [payload] = await EncryptionCodec(keys).encode([payload])
    return payload


async def decrypt(keys: KeyRing, payload: Payload) -> Payload:
    [payload] = await EncryptionCodec(keys).decode([payload])
    return payload


async def test_same_payload_has_a_different_ciphertext_each_time() -> None:
    encoded = await EncryptionCodec(KeyRing({"a": ONE})).encode([PLAIN] * 1000)

    assert len({payload.data[:12] for payload in encoded}) == 1000
    assert len({payload.data[12:] for payload in encoded}) == 1000


async def test_encrypts_the_whole_payload_by_aes_256_gcm_bound_to_the_key_id() -> None:
    payload = await encrypt(KeyRing({"a": ONE, "b": OTHER}))

    assert dict(payload.metadata) == {"encoding": b"binary/encrypted", "key-id": b"a"}
    assert b"in its" not in payload.SerializeToString()
    plain = AESGCM(ONE).decrypt(payload.data[:12], payload.data[12:], b"a")
    assert Payload.FromString(plain) == PLAIN


async def test_current_key_encrypts_and_all_keys_decrypt() -> None:
    before = await encrypt(KeyRing({"a": ONE}))
    rotated = KeyRing({"b": OTHER, "a": ONE})

    assert (await encrypt(rotated)).metadata["key-id"] == b"b"
    assert await decrypt(rotated, before) == PLAIN


async def test_detects_a_changed_key_id() -> None:
    keys = KeyRing({"a": ONE, "b": ONE})
    payload = await encrypt(keys)
    payload.metadata["key-id"] = b"b"

    with pytest.raises(PayloadDecryptionFailed):
        await decrypt(keys, payload)


async def test_other_keys_cannot_decrypt_under_any_id() -> None:
    payload = await encrypt(KeyRing({"a": ONE}))

    for keys in (KeyRing({"a": OTHER}), KeyRing({"b": ONE})):
        with pytest.raises(PayloadDecryptionFailed):
            await decrypt(keys, payload)


@pytest.mark.parametrize("index", [0, 11, 12, 20, -17, -16, -1])
async def test_detects_a_changed_byte(index: int) -> None:
    payload = await encrypt(KeyRing({"a": ONE}))
    changed = bytearray(payload.data)
    changed[index] ^= 1

    with pytest.raises(PayloadDecryptionFailed):
        await decrypt(KeyRing({"a": ONE}), Payload(metadata=payload.metadata, data=bytes(changed)))


@pytest.mark.parametrize("length", [0, 1, 11, 12, 27, 28, 40])
async def test_detects_a_truncated_payload(length: int) -> None:
    payload = await encrypt(KeyRing({"a": ONE}))

    with pytest.raises(PayloadDecryptionFailed):
        await decrypt(KeyRing({"a": ONE}), Payload(metadata=payload.metadata, data=payload.data[:length]))


async def test_decodes_unencrypted_payloads_unchanged() -> None:
    assert await decrypt(KeyRing({"a": ONE}), PLAIN) == PLAIN


def key_ring_text(**keys: bytes) -> str:
    return ",".join(f"{name}:{base64.b64encode(key).decode()}" for name, key in keys.items())


def test_first_key_of_a_key_ring_is_the_current_key() -> None:
    ring = KeyRing.parse(f" {key_ring_text(new=ONE, old=OTHER)} , ")

    assert (ring.current, list(ring.ciphers)) == ("new", ["new", "old"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        key_ring_text(a=b"1" * 16),
        key_ring_text(a=b"1" * 24),
        key_ring_text(a=b"1" * 31),
        key_ring_text(a=b"1" * 33),
        key_ring_text(a=ONE, b=b"1" * 16),
        f"{key_ring_text(a=ONE)},{key_ring_text(a=OTHER)}",
        f":{base64.b64encode(ONE).decode()}",
        "a",
        "a:!" + base64.b64encode(ONE).decode(),
    ],
)
def test_refuses_an_invalid_key_ring(text: str) -> None:
    with pytest.raises(ValueError, match=r"key|base64|padding"):
        KeyRing.parse(text)
