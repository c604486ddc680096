"""The settings of the web process, read once from its environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum, StrEnum
from pathlib import Path
from typing import Annotated, Self, TypeAlias

from pydantic import (
    AfterValidator,
    Field,
    FilePath,
    IPvAnyNetwork,
    ModelWrapValidatorHandler,
    NonNegativeInt,
    SecretStr,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.base import is_id
from contracts.secret_keys import SecretKeys, checked_secret_keys
from contracts.tenants import SubscriptionTier
from gateway.security.csrf import origin_of
from gateway.security.rate_limits import RateLimits
from gateway.websocket.websocket_limits import SocketLimits
from infrastructure.settings_validation import (
    Environment,
    app_url_or_default,
    is_production,
    valid_app_url,
    valid_key_ring,
    validate_all,
    without_encryption,
)
from infrastructure.startup import RedisUrl
from infrastructure.storage import default_storage_url, validate_storage_url
from infrastructure.temporal.codec import KeyRing
from resolvers.following.long_poll_quota import MAX_LONG_POLLS
from resolvers.sign_in_throttle import SignInLimits

_USER_RATES = {
    SubscriptionTier.FREE: 600,
    SubscriptionTier.PROFESSIONAL: 3_000,
    SubscriptionTier.ENTERPRISE: 6_000,
}
_TENANT_RATES = {
    SubscriptionTier.FREE: 3_000,
    SubscriptionTier.PROFESSIONAL: 30_000,
    SubscriptionTier.ENTERPRISE: 120_000,
}


class FeatureVisibility(StrEnum):
    """Whether something for developers is shown. ``ON`` is a mistake in production, where only the last one shows it:
    so an environment that was copied from a developer opens nothing.
    """

    OFF = "off"
    ON = "on"
    FORCE = "force"


class ResponseTracing(Enum):
    """Which responses have ``extensions.trace``."""

    NEVER = "never"
    ON_REQUEST = "on request"
    ALWAYS = "always"


KeyList: TypeAlias = Annotated[SecretStr, AfterValidator(checked_secret_keys)]

SERVICES = ("auth", "users", "tenants", "files", "workspaces", "operations")


def _is_a_user(id: str) -> str:
    if not is_id(id, "usr"):
        raise ValueError("is no id of a user")
    return id


class Settings(BaseSettings):
    """``secret_key`` makes session tokens, operation ids and cursors; ``service_key`` signs calls of each service that
    has no key of its own. Each may be a list: the first key signs, and all verify.

    ``codec_keys`` is the written KeyRing that encrypts what Temporal stores. A service without an address of its own is
    at ``services_url``. What is None of Temporal's comes from its SDK's standard variables. ``storage_url`` is that of
    the files service. ``public_url`` is where clients reach the gateway; None: each client where it says that it did.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    gateway_port: int = Field(default=8080, ge=0, le=65535)
    host: str = "127.0.0.1"
    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    """The port of /metrics, /healthz and /readyz; None: they are not served. 0: any free one."""
    environment: Environment = Environment.DEVELOPMENT
    temporal_address: str | None = None
    temporal_namespace: str | None = None
    redis_url: RedisUrl | None = None
    secret_key: KeyList
    service_key: KeyList | None = None
    auth_key: KeyList | None = None
    users_key: KeyList | None = None
    tenants_key: KeyList | None = None
    files_key: KeyList | None = None
    workspaces_key: KeyList | None = None
    operations_key: KeyList | None = None
    codec_keys: Annotated[SecretStr, AfterValidator(valid_key_ring)] | None = None
    codec_readers: tuple[Annotated[str, AfterValidator(_is_a_user)], ...] = ()
    """Ids of the users who may have what Temporal stores decrypted, whatever tenant it is of; empty: no endpoint."""
    codec_origins: tuple[str, ...] = ()
    """Origins of Temporal's UI, whose pages may ask for that."""
    graphiql: FeatureVisibility | None = None
    introspection: FeatureVisibility | None = None
    """None of these two: on in development only. The served schema goes with introspection."""
    response_trace: FeatureVisibility | None = None
    """Whether each response has ``extensions.trace``; None: those that request it, in development only."""
    temporal_ui_url: str | None = None
    """Where Temporal's UI is, for links to operations in answers that carry a trace."""
    trusted_documents: Path | None = None
    """A manifest of graphql-codegen, Apollo, Relay or `make documents`: clients ask for its documents by their ids."""
    require_trusted_documents: bool = False
    """Whether no others are carried out."""
    services_url: str = "http://127.0.0.1:8090"
    auth_url: str | None = None
    users_url: str | None = None
    tenants_url: str | None = None
    files_url: str | None = None
    workspaces_url: str | None = None
    operations_url: str | None = None
    data_dir: Path = Path(".data")
    storage_url: Annotated[str, AfterValidator(validate_storage_url)] | None = None
    public_url: str | None = None
    app_url: Annotated[str, AfterValidator(valid_app_url)] | None = None
    """Where people open the product, for links to workspaces; None: the example page, in development."""
    allowed_origins: tuple[Annotated[str, AfterValidator(origin_of)], ...] = ()
    """Other origins whose pages may ask here and open websockets, with the viewer's cookie."""
    trusted_proxies: tuple[IPvAnyNetwork, ...] = ()
    """Networks of the proxies whose ``X-Forwarded-For``, ``-Proto`` and ``-Host`` are believed."""
    tls_cert: FilePath | None = None
    tls_key: FilePath | None = None
    ping_interval_seconds: float = Field(default=20, gt=0)
    """Between two pings of a websocket, and between two signs of life on an event stream."""
    pong_timeout_seconds: float = Field(default=10, gt=0)
    """How long after a ping a peer may be silent."""
    write_timeout_seconds: float = Field(default=30, gt=0)
    """How long a peer may take nothing of what is sent to it."""
    session_check_interval_seconds: float = Field(default=0.75, gt=0, le=4)
    """Between two checks of the sessions of open connections: a bound on how late a revocation is noticed."""
    connection_init_timeout_seconds: float = Field(default=SocketLimits.init_seconds, gt=0)
    socket_messages_per_minute: int = Field(default=SocketLimits.messages, gt=0)
    """A minute, of one websocket's client."""
    max_operations_per_socket: int = Field(default=SocketLimits.operations, gt=0)
    """Of one websocket at a time."""
    max_sockets_per_user: int = Field(default=SocketLimits.by_user, gt=0)
    max_sockets_per_address: int = Field(default=SocketLimits.by_address, gt=0)
    """Open at a time in this process, event streams among them."""
    rate_limits: bool | None = None
    """Whether requests are counted; None: in production only. Tries to sign in always are."""
    rate_limit_per_user: dict[SubscriptionTier, NonNegativeInt] = Field(default_factory=lambda: dict(_USER_RATES))
    """Requests a minute of one user, by the tier of the tenant that they work in; 0: without a bound."""
    rate_limit_per_tenant: dict[SubscriptionTier, NonNegativeInt] = Field(default_factory=lambda: dict(_TENANT_RATES))
    """The same of all users of one tenant together."""
    rate_limit_per_address: NonNegativeInt = 12_000
    """The same of one network address, whoever asks: many may sit behind it."""
    login_attempts_per_account_and_network: int = Field(default=10, ge=1)
    """Wrong passwords within a quarter of an hour, for one account from one network or on a device that it knows."""
    login_attempts_per_account: int = Field(default=50, ge=1)
    """The same for one account from wherever it is not known."""
    login_attempts_per_network: int = Field(default=100, ge=1)
    """The same from one network, for whatever accounts."""
    max_long_polls: int = Field(default=MAX_LONG_POLLS, ge=0, le=100_000)
    """Operations that are followed with a long-poll each; the others are followed with change notifications."""
    keep_alive_seconds: float = Field(default=75, gt=0, le=3_600)
    """How long a connection may be idle. Load balancers keep idle ones for 60 s as a rule and must close them first:
    otherwise they send a request on a connection that is being closed.
    """
    drain_seconds: float = Field(default=10, ge=0)
    """Within which websockets and event streams end when the process stops."""

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, values: dict[str, object], read: ModelWrapValidatorHandler[Self]) -> Self:
        return validate_all(values, read, _faults(values))

    def keys(self) -> KeyRing | None:
        return None if self.codec_keys is None else KeyRing.parse(self.codec_keys.get_secret_value())

    def shows_graphiql(self) -> bool:
        return self._shows(self.graphiql)

    def shows_schema(self) -> bool:
        return self._shows(self.introspection)

    def response_traces(self) -> ResponseTracing:
        if self.response_trace is not None:
            return ResponseTracing.NEVER if self.response_trace is FeatureVisibility.OFF else ResponseTracing.ALWAYS
        return ResponseTracing.ON_REQUEST if self.environment is Environment.DEVELOPMENT else ResponseTracing.NEVER

    def link_of(self, operation_id: str) -> str | None:
        """To the operation in Temporal's UI; None if ``temporal_ui_url`` is not set."""
        if self.temporal_ui_url is None:
            return None
        namespace = self.temporal_namespace or "default"
        return f"{self.temporal_ui_url.rstrip('/')}/namespaces/{namespace}/workflows/{operation_id}"

    def rates(self) -> RateLimits:
        counts = self.environment is Environment.PRODUCTION if self.rate_limits is None else self.rate_limits
        return (
            RateLimits(self.rate_limit_per_user, self.rate_limit_per_tenant, self.rate_limit_per_address)
            if counts
            else RateLimits()
        )

    def sign_in_limits(self) -> SignInLimits:
        return SignInLimits(
            account_and_network=self.login_attempts_per_account_and_network,
            device=self.login_attempts_per_account_and_network,
            account=self.login_attempts_per_account,
            network=self.login_attempts_per_network,
        )

    def product_url(self) -> str:
        """What links to workspaces begin with, by the same rule as the worker's."""
        return app_url_or_default(self.app_url, self.environment)

    def storage(self) -> str:
        """Where files lie, by the same rule as the worker's."""
        return self.storage_url or default_storage_url(self.data_dir)

    def socket_limits(self) -> SocketLimits:
        return SocketLimits(
            self.connection_init_timeout_seconds,
            self.socket_messages_per_minute,
            self.max_operations_per_socket,
            self.max_sockets_per_user,
            self.max_sockets_per_address,
        )

    def service(self, name: str) -> str:
        """The address of a service by its domain's name."""
        own: str | None = getattr(self, f"{name}_url")
        return own or self.services_url

    def secret_keys(self) -> SecretKeys:
        return SecretKeys.parse(self.secret_key.get_secret_value())

    def service_keys(self, name: str) -> SecretKeys:
        """The keys of a service by its domain's name."""
        own: SecretStr | None = getattr(self, f"{name}_key") or self.service_key
        assert own is not None, "checked at the start"
        return SecretKeys.parse(own.get_secret_value())

    def _shows(self, shown: FeatureVisibility | None) -> bool:
        return self.environment is Environment.DEVELOPMENT if shown is None else shown is not FeatureVisibility.OFF


def _faults(values: Mapping[str, object]) -> Iterator[str]:
    if bool(values.get("tls_cert")) != bool(values.get("tls_key")):
        yield "TLS_CERT and TLS_KEY belong together: set both or neither"
    if str(values.get("require_trusted_documents", "")).lower() in _YES and not values.get("trusted_documents"):
        yield "REQUIRE_TRUSTED_DOCUMENTS needs a manifest: name it by TRUSTED_DOCUMENTS"
    keyless = [name for name in SERVICES if not values.get(f"{name}_key")]
    if keyless and not values.get("service_key"):
        yield f"SERVICE_KEY is missing, or a key for each of {', '.join(f'{name.upper()}_KEY' for name in keyless)}"
    if not is_production(values):
        return
    yield from without_encryption(values)
    secret = _keys(values.get("secret_key"))
    for name in ("service_key", *(f"{service}_key" for service in SERVICES)):
        if secret & _keys(values.get(name)):
            yield f"SECRET_KEY and {name.upper()} must differ in production: who has the one would have the other"
    for name in ("graphiql", "introspection", "response_trace"):
        if values.get(name) == FeatureVisibility.ON:
            yield f"{name.upper()} is on in production: say {FeatureVisibility.FORCE} if that is meant"


_YES = frozenset(("true", "1", "yes", "on", "y", "t"))


def _keys(value: object) -> set[str]:
    text = value.get_secret_value() if isinstance(value, SecretStr) else str(value or "")
    return {key.strip() for key in text.split(",")} - {""}
