"""Who signed in, who was refused what, which sessions ended and what was undone: a line each, with ids only."""

from __future__ import annotations

from enum import StrEnum

import structlog

log = structlog.get_logger("audit")


class Audit(StrEnum):
    SIGN_IN = "audit.sign_in"
    SIGN_OUT = "audit.sign_out"
    REFUSED = "audit.refused"
    TENANT_SWITCHED = "audit.tenant_switched"
    SESSION_REVOKED = "audit.session_revoked"
    COMPENSATED = "audit.compensated"


def audit(event: Audit, **ids: str | None) -> None:
    """Of whom and on whose behalf, ``contracts.logs.about`` adds. Of a step that is tried again it may be written
    twice, since it is written once the step has taken effect.
    """
    log.info(event.value, **{name: id for name, id in ids.items() if id is not None})
