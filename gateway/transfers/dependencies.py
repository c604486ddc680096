"""What the endpoints of uploads and of downloads use."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.transfers.access import FindCaller
from gateway.transfers.limits import TransferLimits
from infrastructure.limits.quota import Quota
from infrastructure.signing.transfer_tokens import TransferTokenSigner
from infrastructure.storage import FileStorage


@dataclass(frozen=True)
class TransferDependencies:
    """``find_caller`` returns the user of a grant with their current permissions.

    ``quota`` counts each client's share in all processes.
    """

    storage: FileStorage
    signer: TransferTokenSigner
    find_caller: FindCaller
    quota: Quota
    limits: TransferLimits = field(default_factory=TransferLimits)
