"""The dependencies of the upload and download endpoints."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.transfers.access import FindCaller
from gateway.transfers.limits import TransferLimits
from infrastructure.limits.quota import Quota
from infrastructure.signing.transfer_tokens import TransferTokenSigner
from infrastructure.storage import FileStorage


@dataclass(frozen=True)
class TransferDependencies:
    """The components that both endpoints use.

    Attributes:
        storage: stores the bytes of files.
        signer: verifies the tokens in signed URLs.
        find_caller: returns the user of a grant with the user's current permissions.
        quota: counts the transfers of each client in all processes.
        limits: the limits of one transfer and of all transfers.
    """

    storage: FileStorage
    signer: TransferTokenSigner
    find_caller: FindCaller
    quota: Quota
    limits: TransferLimits = field(default_factory=TransferLimits)
