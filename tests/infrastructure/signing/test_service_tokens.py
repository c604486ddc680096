"""Service tokens: valid for one service and for at most a minute, signed with a current or previous key."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from contracts.base import utc_now
from contracts.callers import Caller
from contracts.errors import NotSignedIn, PermissionDenied
from contracts.transfer_grants import DownloadGrant
from infrastructure.signing.secret_keys import SecretKeys
from infrastructure.signing.service_tokens import ServiceTokenSigner
from infrastructure.signing.transfer_tokens import TransferTokenSigner

OLD, NEW, OTHER = b"o" * 32, b"n" * 32, b"x" * 32
ADA = Caller(user_id="usr_ada")


def create_token(**claims: object) -> str:
    now = int(time.time())
    defaults = {"aud": "adx-files", "iat": now, "exp": now + 30, "caller": ADA.model_dump(mode="json")}
    present = {name: value for name, value in (defaults | claims).items() if value is not None}
    return jwt.encode({"alg": "HS256"}, present, OctKey.import_key(NEW))


def test_service_accepts_a_token_for_its_audience() -> None:
    assert (
        ServiceTokenSigner("files", SecretKeys(NEW)).read(ServiceTokenSigner("files", SecretKeys(NEW)).sign(ADA)) == ADA
    )
    assert ServiceTokenSigner("files", SecretKeys(NEW)).read(create_token()) == ADA


def test_signed_token_is_valid_for_at_most_a_minute() -> None:
    token = ServiceTokenSigner("files", SecretKeys(NEW)).sign(ADA)
    claims = jwt.decode(token, OctKey.import_key(NEW), algorithms=["HS256"]).claims
    assert 0 < claims["exp"] - claims["iat"] <= 60
    assert abs(claims["iat"] - time.time()) < 5


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"aud": "adx-users"}, id="another service"),
        pytest.param({"aud": "adx-services"}, id="every service"),
        pytest.param({"aud": ["adx-users"]}, id="a list of other services"),
        pytest.param({"aud": None}, id="no service"),
        pytest.param({"exp": None}, id="no end"),
        pytest.param({"iat": None}, id="no beginning"),
        pytest.param({"exp": int(time.time()) + 3600}, id="an hour"),
        pytest.param({"iat": int(time.time()) + 3600, "exp": int(time.time()) + 3630}, id="later"),
        pytest.param({"iat": int(time.time()) - 100, "exp": int(time.time()) - 70}, id="over"),
        pytest.param({"iat": "now", "exp": "later"}, id="no times"),
        pytest.param({"caller": None}, id="no caller"),
        pytest.param({"caller": "usr_ada"}, id="a caller that is none"),
    ],
)
def test_service_refuses_an_invalid_token(claims: dict[str, object]) -> None:
    with pytest.raises(NotSignedIn):
        ServiceTokenSigner("files", SecretKeys(NEW)).read(create_token(**claims))


def test_current_key_signs_and_all_keys_verify() -> None:
    before, during, after = SecretKeys(OLD), SecretKeys(NEW, (OLD,)), SecretKeys(NEW)
    assert ServiceTokenSigner("files", during).read(ServiceTokenSigner("files", before).sign(ADA)) == ADA
    assert ServiceTokenSigner("files", after).read(ServiceTokenSigner("files", during).sign(ADA)) == ADA
    for signer in (before, SecretKeys(OTHER)):
        with pytest.raises(NotSignedIn):
            ServiceTokenSigner("files", after).read(ServiceTokenSigner("files", signer).sign(ADA))


@pytest.mark.parametrize(
    "text", ["", "short", "k" * 31, "k" * 32 + ",short", "k" * 32 + ",", "k" * 32 + "," + "k" * 32]
)
def test_refuses_a_key_list_with_a_short_or_repeated_key(text: str) -> None:
    with pytest.raises(ValueError, match="key") as refused:
        SecretKeys.parse(text)
    assert "kkk" not in str(refused.value)


def test_first_key_of_a_list_is_the_current_key() -> None:
    assert SecretKeys.parse("n" * 32 + ", " + "o" * 32) == SecretKeys(NEW, (OLD,))
    assert "nnn" not in repr(SecretKeys(NEW, (OLD,)))


def test_transfer_tokens_signed_with_a_previous_key_are_accepted() -> None:
    grant = DownloadGrant(
        tenant_id="ten_1",
        user_id="usr_1",
        permission="files:read",
        storage_key="k",
        name="n",
        content_type="text/plain",
        size=1,
    )
    path = TransferTokenSigner(SecretKeys(OLD)).download_path(grant, utc_now() + timedelta(minutes=1))
    token = path.removeprefix("/downloads/")
    assert TransferTokenSigner(SecretKeys(NEW, (OLD,))).read(token, DownloadGrant) == grant
    with pytest.raises(PermissionDenied):
        TransferTokenSigner(SecretKeys(NEW)).read(token, DownloadGrant)
