"""Transfer tokens: valid for one kind of transfer until they expire, and not with other keys or changed content."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from contracts.errors import PermissionDenied
from contracts.transfer_grants import DownloadGrant, UploadGrant
from infrastructure.signing.secret_keys import SecretKeys
from infrastructure.signing.transfer_tokens import TransferTokenSigner

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
UPLOAD = UploadGrant(upload_id="upl_1", tenant_id="ten_1", user_id="usr_1", content_type="text/plain", size=3)
DOWNLOAD = DownloadGrant(
    tenant_id="ten_1",
    user_id="usr_1",
    permission="files:read",
    storage_key="key",
    name="a",
    content_type="text/plain",
    size=3,
)


def signer_at(moment: datetime, key: bytes = b"s" * 32) -> TransferTokenSigner:
    return TransferTokenSigner(SecretKeys(key), lambda: moment)


def token_of(path: str) -> str:
    return path.rpartition("/")[2]


UPLOAD_TOKEN = token_of(signer_at(NOW).upload_path(UPLOAD, NOW + timedelta(minutes=5)))
DOWNLOAD_TOKEN = token_of(signer_at(NOW).download_path(DOWNLOAD, NOW + timedelta(minutes=5)))


def test_transfer_token_is_accepted_until_it_expires() -> None:
    for seconds in (0, 299):
        signer = signer_at(NOW + timedelta(seconds=seconds))
        assert signer.read(UPLOAD_TOKEN, UploadGrant) == UPLOAD
        assert signer.read(DOWNLOAD_TOKEN, DownloadGrant) == DOWNLOAD
    for seconds in (300, 301, 3600):
        for each, kind in ((UPLOAD_TOKEN, UploadGrant), (DOWNLOAD_TOKEN, DownloadGrant)):
            with pytest.raises(PermissionDenied):
                signer_at(NOW + timedelta(seconds=seconds)).read(each, kind)  # type: ignore[type-var]


def test_upload_token_is_not_accepted_as_download_token() -> None:
    class Lookalike(UploadGrant):
        pass

    for each, kind in ((DOWNLOAD_TOKEN, UploadGrant), (UPLOAD_TOKEN, DownloadGrant), (UPLOAD_TOKEN, Lookalike)):
        with pytest.raises(PermissionDenied):
            signer_at(NOW).read(each, kind)  # type: ignore[type-var]


def test_refuses_a_token_with_another_key_or_changed_content() -> None:
    head, body, signature = UPLOAD_TOKEN.split(".")
    for signer, each in (
        (signer_at(NOW, b"t" * 32), UPLOAD_TOKEN),
        (signer_at(NOW), f"{head}.{body[:-2]}AA.{signature}"),
        (signer_at(NOW), f"{head}.{body}."),
        (signer_at(NOW), ""),
    ):
        with pytest.raises(PermissionDenied):
            signer.read(each, UploadGrant)
