"""Settings of the gateway process, read once from its environment variables."""

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
from contracts.tenants import SubscriptionTier
from gateway.security.origins import parse_origin
from gateway.security.rate_limits import RateLimits
from gateway.websocket.websocket_limits import SocketLimits
from infrastructure.settings_validation import (
    Environment,
    RedisUrl,
    app_url_or_default,
    is_production,
    missing_encryption_errors,
    valid_app_url,
    valid_key_ring,
    validate_all,
)
from infrastructure.signing.secret_keys import SecretKeys, valid_secret_keys
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
    """Whether a feature for developers is available: GraphiQL, introspection or response traces.

    In production ``ON`` is invalid and only ``FORCE`` enables the feature, so that an environment which was copied
    from a developer's machine enables nothing.
    """

    OFF = "off"
    ON = "on"
    FORCE = "force"


class ResponseTracing(Enum):
    """The responses that have a trace of their calls in ``extensions.trace``."""

    NEVER = "never"
    ON_REQUEST = "on request"
    ALWAYS = "always"


KeyList: TypeAlias = Annotated[SecretStr, AfterValidator(valid_secret_keys)]

SERVICES = ("auth", "users", "tenants", "files", "workspaces", "operations")


def _valid_user_id(id: str) -> str:
    if not is_id(id, "usr"):
        raise ValueError("is no id of a user")
    return id


class Settings(BaseSettings):
    """Settings of the gateway process: one field per environment variable, named in upper case.

    The docstring of a field is its row in docs/configuration.md.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, use_attribute_docstrings=True)

    secret_key: KeyList
    """Keys, each at least 32 characters long and separated by commas, from which the gateway derives session tokens,
    operation ids and cursors. The first key signs; all keys verify, so that a key can be rotated (docs/deploy.md)."""
    service_key: KeyList | None = None
    """Keys, each at least 32 characters long and separated by commas, that sign the gateway's calls to every service
    without a key of its own. Required unless every service has its own key."""
    auth_key: KeyList | None = None
    """Keys for calls to the auth service, instead of SERVICE_KEY; the worker `auth` has them as its SERVICE_KEY."""
    users_key: KeyList | None = None
    """Keys for calls to the users service, instead of SERVICE_KEY; the worker `users` has them as its SERVICE_KEY."""
    tenants_key: KeyList | None = None
    """Keys for calls to the tenants service, instead of SERVICE_KEY; the worker `tenants` has them as its
    SERVICE_KEY."""
    files_key: KeyList | None = None
    """Keys for calls to the files service and for the URLs of uploads and downloads, instead of SERVICE_KEY; the
    worker `files` has them as its SERVICE_KEY."""
    workspaces_key: KeyList | None = None
    """Keys for calls to the workspaces service, instead of SERVICE_KEY. The worker `tenants` serves workspaces, so this
    is its SERVICE_KEY."""
    operations_key: KeyList | None = None
    """Keys for calls to the workflow service, which serves the record of operations, instead of SERVICE_KEY; the worker
    `operations` has them as its SERVICE_KEY."""
    environment: Environment = Environment.DEVELOPMENT
    """`development` or `production`. In production a process does not start with an insecure setting
    (docs/security.md)."""
    host: str = "127.0.0.1"
    """IP address on which the gateway listens; `0.0.0.0` listens on all interfaces."""
    gateway_port: int = Field(default=8080, ge=0, le=65535)
    """TCP port on which the gateway serves HTTP and websockets; 0 selects any free port."""
    public_url: str | None = None
    """URL at which clients reach the gateway, used in the URLs of uploads and downloads. If unset, the gateway uses the
    `Host` of each request and accepts only `localhost` and loopback addresses as `Host`."""
    app_url: Annotated[str, AfterValidator(valid_app_url)] | None = None
    """URL of the frontend: `Workspace.url` is `APP_URL/SLUG/workspaces/ID`. If unset, it is the URL of the example page
    in development, and a path without a host in production."""
    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    """TCP port of `/metrics`, `/healthz` and `/readyz` for monitoring (docs/operating.md). 0 selects any free port; if
    unset, the port does not exist."""
    temporal_address: str | None = None
    """`HOST:PORT` of the Temporal server; if unset, the setting of Temporal's SDK applies, whose default is
    `localhost:7233`."""
    temporal_namespace: str | None = None
    """Namespace in Temporal; if unset, the setting of Temporal's SDK applies, whose default is `default`."""
    temporal_ui_url: str | None = None
    """URL of Temporal's UI, used for the links to operations in `extensions.trace`."""
    redis_url: RedisUrl | None = None
    """`redis://`, `rediss://` or `unix://` URL of the Redis that all processes share. Required if more than one gateway
    or worker process runs; if unset, caches, limits and change notifications are local to the process."""
    services_url: str = "http://127.0.0.1:8090"
    """Base URL of every service without a URL of its own."""
    auth_url: str | None = None
    """Base URL of the auth service, instead of SERVICES_URL."""
    users_url: str | None = None
    """Base URL of the users service, instead of SERVICES_URL."""
    tenants_url: str | None = None
    """Base URL of the tenants service, instead of SERVICES_URL."""
    files_url: str | None = None
    """Base URL of the files service, instead of SERVICES_URL."""
    workspaces_url: str | None = None
    """Base URL of the workspaces service, instead of SERVICES_URL."""
    operations_url: str | None = None
    """Base URL of the workflow service, which serves the record of operations, instead of SERVICES_URL."""
    data_dir: Path = Path(".data")
    """Folder of the files that clients upload, if STORAGE_URL is unset."""
    storage_url: Annotated[str, AfterValidator(validate_storage_url)] | None = None
    """Storage of uploaded files: `file:///FOLDER`, or `s3://BUCKET/PREFIX?endpoint=URL&region=REGION` with credentials
    in `AWS_...`. Must be the same as in the worker `files`; if unset, the folder `files` of DATA_DIR."""
    codec_keys: Annotated[SecretStr, AfterValidator(valid_key_ring)] | None = None
    """Keys that encrypt the payloads in Temporal, the same in all processes: `ID:KEY`, where `KEY` is 32 bytes in
    base64, separated by commas. The first key encrypts, all keys decrypt. Required in production."""
    codec_readers: tuple[Annotated[str, AfterValidator(_valid_user_id)], ...] = ()
    """JSON list of the ids of the users who may decrypt payloads of any tenant through `POST /codec/decode`. If the
    list is empty, the endpoint does not exist."""
    codec_origins: tuple[str, ...] = ()
    """JSON list of the origins of Temporal's UI whose pages may call `POST /codec/decode`."""
    graphiql: FeatureVisibility | None = None
    """Whether the gateway serves GraphiQL: `on`, `off`, or `force`, which is required to serve it in production. If
    unset, it is served in development only."""
    introspection: FeatureVisibility | None = None
    """Whether the gateway answers introspection, serves `/graphql/schema` and suggests names in errors: `on`, `off`, or
    `force`, which is required in production. If unset, it does so in development only."""
    response_trace: FeatureVisibility | None = None
    """Whether every response contains `extensions.trace`, the list of the calls that the response needed: `on`, `off`,
    or `force`, which is required in production. If unset, a request in development receives it if it asks for it."""
    trusted_documents: Path | None = None
    """Path of a manifest of trusted documents, written by graphql-codegen, Apollo, Relay or `make documents`. Clients
    then send the id of a document instead of the document."""
    require_trusted_documents: bool = False
    """Whether the gateway rejects every document that is not in TRUSTED_DOCUMENTS."""
    allowed_origins: tuple[Annotated[str, AfterValidator(parse_origin)], ...] = ()
    """JSON list of the other origins whose pages may send requests and open websockets with the viewer's cookie."""
    trusted_proxies: tuple[IPvAnyNetwork, ...] = ()
    """JSON list of the networks, such as `10.0.0.0/8`, of the reverse proxies whose `X-Forwarded-For`,
    `X-Forwarded-Proto` and `X-Forwarded-Host` the gateway accepts. Required behind a reverse proxy."""
    tls_cert: FilePath | None = None
    """Path of the certificate chain in PEM format. With TLS_CERT and TLS_KEY the gateway serves TLS and HTTP/2."""
    tls_key: FilePath | None = None
    """Path of the certificate's private key in PEM format."""
    ping_interval_seconds: float = Field(default=20, gt=0)
    """Seconds between two pings of a websocket, and between two heartbeats of an event stream or a multipart
    response."""
    pong_timeout_seconds: float = Field(default=10, gt=0)
    """Seconds after a ping within which a websocket client must send a message; otherwise the gateway closes the
    socket."""
    write_timeout_seconds: float = Field(default=30, gt=0)
    """Seconds after which the gateway closes a socket or stream whose client reads nothing."""
    session_check_interval_seconds: float = Field(default=0.75, gt=0, le=4)
    """Seconds between two checks of the sessions of all open connections, at most 4: the maximum delay after which a
    connection with a changed role or membership is closed."""
    connection_init_timeout_seconds: float = Field(default=SocketLimits.init_timeout_seconds, gt=0)
    """Seconds within which a websocket client must send `connection_init`."""
    socket_messages_per_minute: int = Field(default=SocketLimits.messages_per_minute, gt=0)
    """Maximum number of messages per minute from one websocket client."""
    max_operations_per_socket: int = Field(default=SocketLimits.max_operations, gt=0)
    """Maximum number of concurrent GraphQL operations of one websocket."""
    max_sockets_per_user: int = Field(default=SocketLimits.max_per_user, gt=0)
    """Maximum number of open websockets of one user, in all gateways that share a Redis."""
    max_sockets_per_address: int = Field(default=SocketLimits.max_per_address, gt=0)
    """Maximum number of open websockets and event streams from one client network, in all gateways that share a
    Redis."""
    rate_limits: bool | None = None
    """Whether the gateway limits the rate of requests. If unset, it does so in production only; attempts to sign in are
    always limited."""
    rate_limit_per_user: dict[SubscriptionTier, NonNegativeInt] = Field(default_factory=lambda: dict(_USER_RATES))
    """JSON object: the maximum number of requests per minute of one user, by the subscription tier of the tenant in
    which the user works. 0 means no limit."""
    rate_limit_per_tenant: dict[SubscriptionTier, NonNegativeInt] = Field(default_factory=lambda: dict(_TENANT_RATES))
    """JSON object: the maximum number of requests per minute of all users of one tenant together, by the tenant's
    subscription tier. 0 means no limit."""
    rate_limit_per_address: NonNegativeInt = 12_000
    """Maximum number of requests per minute from one client network. 0 means no limit."""
    login_attempts_per_account_and_network: int = Field(default=10, ge=1)
    """Maximum number of wrong passwords in 15 minutes for one account from one client network or from one known
    device."""
    login_attempts_per_account: int = Field(default=50, ge=1)
    """Maximum number of wrong passwords in 15 minutes for one account from all unknown devices together."""
    login_attempts_per_network: int = Field(default=100, ge=1)
    """Maximum number of wrong passwords in 15 minutes from one client network, for all accounts together."""
    max_long_polls: int = Field(default=MAX_LONG_POLLS, ge=0, le=100_000)
    """Maximum number of operations that one gateway follows with a long-poll each; it follows the others with change
    notifications. By default Temporal allows a namespace 1,200 long-polls per frontend instance (docs/deploy.md)."""
    keep_alive_seconds: float = Field(default=75, gt=0, le=3_600)
    """Seconds after which the gateway closes an idle connection. Must be longer than the idle timeout of the load
    balancer (usually 60 s), which otherwise sends a request on a connection that the gateway is closing."""
    drain_seconds: float = Field(default=10, ge=0)
    """Seconds over which a gateway that stops spreads the closing of its websockets and event streams."""

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, values: dict[str, object], read: ModelWrapValidatorHandler[Self]) -> Self:
        return validate_all(values, read, _violations(values))

    def codec_key_ring(self) -> KeyRing | None:
        """Return the key ring that encrypts Temporal's payloads; None: they are not encrypted."""
        return None if self.codec_keys is None else KeyRing.parse(self.codec_keys.get_secret_value())

    def shows_graphiql(self) -> bool:
        """Return whether the gateway serves GraphiQL."""
        return self._is_visible(self.graphiql)

    def shows_schema(self) -> bool:
        """Return whether introspection and the schema's routes are available."""
        return self._is_visible(self.introspection)

    def response_traces(self) -> ResponseTracing:
        """Return which responses have a trace."""
        if self.response_trace is not None:
            return ResponseTracing.NEVER if self.response_trace is FeatureVisibility.OFF else ResponseTracing.ALWAYS
        return ResponseTracing.ON_REQUEST if self.environment is Environment.DEVELOPMENT else ResponseTracing.NEVER

    def operation_url(self, operation_id: str) -> str | None:
        """Return the URL of the operation in Temporal's UI; None if ``temporal_ui_url`` is not set."""
        if self.temporal_ui_url is None:
            return None
        namespace = self.temporal_namespace or "default"
        return f"{self.temporal_ui_url.rstrip('/')}/namespaces/{namespace}/workflows/{operation_id}"

    def rate_limit_values(self) -> RateLimits:
        """Return the rate limits of requests; all are 0, which means unlimited, if requests are not counted."""
        is_enabled = self.environment is Environment.PRODUCTION if self.rate_limits is None else self.rate_limits
        return (
            RateLimits(self.rate_limit_per_user, self.rate_limit_per_tenant, self.rate_limit_per_address)
            if is_enabled
            else RateLimits()
        )

    def sign_in_limits(self) -> SignInLimits:
        """Return the limits of attempts to sign in."""
        return SignInLimits(
            account_and_network=self.login_attempts_per_account_and_network,
            device=self.login_attempts_per_account_and_network,
            account=self.login_attempts_per_account,
            network=self.login_attempts_per_network,
        )

    def product_url(self) -> str:
        """Return the base URL of links to workspaces. The worker uses the same rule."""
        return app_url_or_default(self.app_url, self.environment)

    def storage(self) -> str:
        """Return the URL of the storage of files. The worker uses the same rule."""
        return self.storage_url or default_storage_url(self.data_dir)

    def socket_limits(self) -> SocketLimits:
        """Return the limits of websockets."""
        return SocketLimits(
            self.connection_init_timeout_seconds,
            self.socket_messages_per_minute,
            self.max_operations_per_socket,
            self.max_sockets_per_user,
            self.max_sockets_per_address,
        )

    def service_url(self, name: str) -> str:
        """Return the base URL of a service: its own, or ``services_url``.

        Args:
            name: one of ``SERVICES``.
        """
        url: str | None = getattr(self, f"{name}_url")
        return url or self.services_url

    def secret_keys(self) -> SecretKeys:
        """Return the keys of session tokens, operation ids and cursors, the current key first."""
        return SecretKeys.parse(self.secret_key.get_secret_value())

    def service_keys(self, name: str) -> SecretKeys:
        """Return the keys that sign calls of a service: its own, or ``service_key``.

        Args:
            name: one of ``SERVICES``.
        """
        keys: SecretStr | None = getattr(self, f"{name}_key") or self.service_key
        assert keys is not None, "validated when the settings are read"
        return SecretKeys.parse(keys.get_secret_value())

    def _is_visible(self, visibility: FeatureVisibility | None) -> bool:
        if visibility is None:
            return self.environment is Environment.DEVELOPMENT
        return visibility is not FeatureVisibility.OFF


def _violations(values: Mapping[str, object]) -> Iterator[str]:
    """Yield a message for each rule that concerns several settings and is violated."""
    if bool(values.get("tls_cert")) != bool(values.get("tls_key")):
        yield "TLS_CERT and TLS_KEY belong together: set both or neither"
    if str(values.get("require_trusted_documents", "")).lower() in _TRUE_VALUES and not values.get("trusted_documents"):
        yield "REQUIRE_TRUSTED_DOCUMENTS needs a manifest: set TRUSTED_DOCUMENTS to its path"
    without_key = [name for name in SERVICES if not values.get(f"{name}_key")]
    if without_key and not values.get("service_key"):
        yield f"SERVICE_KEY is missing, or a key for each of {', '.join(f'{name.upper()}_KEY' for name in without_key)}"
    if not is_production(values):
        return
    yield from missing_encryption_errors(values)
    secret = _keys(values.get("secret_key"))
    for name in ("service_key", *(f"{service}_key" for service in SERVICES)):
        if secret & _keys(values.get(name)):
            yield f"SECRET_KEY and {name.upper()} must differ in production: one would reveal the other"
    for name in ("graphiql", "introspection", "response_trace"):
        if values.get(name) == FeatureVisibility.ON:
            yield f"{name.upper()} is on in production: set {FeatureVisibility.FORCE} if that is intended"


_TRUE_VALUES = frozenset(("true", "1", "yes", "on", "y", "t"))


def _keys(value: object) -> set[str]:
    text = value.get_secret_value() if isinstance(value, SecretStr) else str(value or "")
    return {key.strip() for key in text.split(",")} - {""}
