"""What the web process is told by its environment, read once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.codec import KeyRing
from contracts.storage import folder_in, known_storage
from resolvers.budget import LONG_POLLS

SHORTEST_KEY = 32


class Environment(StrEnum):
    DEVELOPMENT = "development"
    PRODUCTION = "production"


class Settings(BaseSettings):
    """``secret_key`` makes session tokens, operation ids and cursors; ``service_key`` signs calls of the services.

    ``codec_keys`` is the written KeyRing that encrypts what Temporal stores. A service without an address of its own is
    at ``services_url``. What is None of Temporal's comes from its SDK's standard variables. ``storage_url`` is that of
    the files service. ``public_url`` is where clients reach the gateway; None: each client where it says that it did.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    gateway_port: int = Field(default=8080, ge=0, le=65535)
    host: str = "127.0.0.1"
    environment: Environment = Environment.DEVELOPMENT
    temporal_address: str | None = None
    temporal_namespace: str | None = None
    redis_url: str | None = None
    secret_key: SecretStr = Field(min_length=SHORTEST_KEY)
    service_key: SecretStr = Field(min_length=SHORTEST_KEY)
    codec_keys: SecretStr | None = None
    services_url: str = "http://127.0.0.1:8090"
    auth_url: str | None = None
    users_url: str | None = None
    tenants_url: str | None = None
    files_url: str | None = None
    workspaces_url: str | None = None
    data_dir: Path = Path(".data")
    storage_url: Annotated[str, AfterValidator(known_storage)] | None = None
    public_url: str | None = None
    allowed_origins: tuple[str, ...] = ()
    """Other origins whose pages may open websockets here with the viewer's cookie."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    ping_seconds: float = Field(default=20, gt=0)
    """Between two pings of a websocket, and between two signs of life on an event stream."""
    silence_seconds: float = Field(default=10, gt=0)
    """How long after a ping a peer may be silent."""
    stall_seconds: float = Field(default=30, gt=0)
    """How long a peer may take nothing of what is sent to it."""
    session_check_seconds: float = Field(default=25, gt=0, le=28)
    """Between two looks at the session of who stays, where no wake-up comes: a revocation is seen in half a minute."""
    long_polls: int = Field(default=LONG_POLLS, ge=0, le=1_200)
    """Operations that are followed by a long-poll of their own; those beyond are described at an interval."""
    drain_seconds: float = Field(default=10, ge=0)
    """Within which websockets and event streams end when the process stops."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.keys()
        if self.environment is Environment.PRODUCTION and self.codec_keys is None:
            raise ValueError("CODEC_KEYS must be set in production: what Temporal stores would not be encrypted.")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("TLS_CERT and TLS_KEY belong together: set both or neither.")
        return self

    def keys(self) -> KeyRing | None:
        return None if self.codec_keys is None else KeyRing.parse(self.codec_keys.get_secret_value())

    def storage(self) -> str:
        """Where files lie, by the same rule as the worker's."""
        return self.storage_url or folder_in(self.data_dir)

    def service(self, name: str) -> str:
        """The address of a service by its domain's name."""
        own: str | None = getattr(self, f"{name}_url")
        return own or self.services_url


def what_is_wrong(error: ValidationError) -> str:
    """The settings that are missing or wrong, in one sentence that shows no value."""
    problems = (
        f"{'_'.join(map(str, problem['loc'])).upper()} {problem['msg']}".strip()
        for problem in error.errors(include_url=False, include_input=False)
    )
    return "The environment is not right: " + "; ".join(problems)
