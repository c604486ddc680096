"""What the endpoints of uploads and of downloads use."""

from __future__ import annotations

from dataclasses import dataclass, field

from contracts.storage import FileStorage
from contracts.transfers import TransferSigner
from gateway.http.transfer_access import FindCaller
from gateway.http.transfer_limits import TransferLimits
from infrastructure.quota import Quota


@dataclass(frozen=True)
class TransferDependencies:
    """``find_caller`` returns the user of a grant with their current permissions.

    ``quota`` counts each client's share in all processes.
    """

    storage: FileStorage
    signer: TransferSigner
    find_caller: FindCaller
    quota: Quota
    limits: TransferLimits = field(default_factory=TransferLimits)
