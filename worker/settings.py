"""What a worker process is told by its environment, read once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, ModelWrapValidatorHandler, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from temporalio.common import WorkerDeploymentVersion

from activities.notifications.mailer import DEFAULT_SENDER, SmtpServer
from contracts.secret_keys import SecretKeys, checked_secret_keys
from infrastructure.settings_validation import (
    Environment,
    app_url_or_default,
    valid_app_url,
    valid_key_ring,
    validate_all,
    without_encryption,
)
from infrastructure.startup import SecretDatabaseUrl, SecretRedisUrl
from infrastructure.storage import default_storage_url, validate_storage_url


def _names_a_mail_server(url: SecretStr) -> SecretStr:
    SmtpServer.parse(url.get_secret_value())
    return url


def incomplete_version(told: Mapping[str, object]) -> Iterable[str]:
    """The fault of a version that is only half named."""
    if bool(told.get("worker_deployment")) != bool(told.get("worker_build_id")):
        yield "WORKER_DEPLOYMENT and WORKER_BUILD_ID must be set together: a version has both names"


class VersionSettings(BaseSettings):
    """Where Temporal is, and which version of the workflows' workers this is; without one, workers have no version.

    ``WORKER_DEPLOYMENT``: the same for all versions. ``WORKER_BUILD_ID``: another for each.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    temporal_address: str | None = None
    temporal_namespace: str | None = None
    worker_deployment: str | None = Field(default=None, pattern=r"^[\w-]{1,100}$")
    worker_build_id: str | None = Field(default=None, pattern=r"^[\w.+-]{1,100}$")

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, told: dict[str, object], read: ModelWrapValidatorHandler[Self]) -> Self:
        return validate_all(told, read, incomplete_version(told))

    def version(self) -> WorkerDeploymentVersion | None:
        if self.worker_deployment is None or self.worker_build_id is None:
            return None
        return WorkerDeploymentVersion(self.worker_deployment, self.worker_build_id)


class WorkerSettings(VersionSettings):
    """``SERVICE_KEY``: 32 characters or more, shared with the gateway; a list while it is being replaced.

    ``CODEC_KEYS``: ``id:base64[,id:base64...]``.

    ``SMTP_URL``: without it, e-mail goes into the folder ``mail`` of ``DATA_DIR``. ``APP_URL``: where people open the
    product, for links to workspaces; by default, in development, the example page.
    """

    environment: Environment = Environment.DEVELOPMENT
    database_url: SecretDatabaseUrl
    service_key: Annotated[SecretStr, AfterValidator(checked_secret_keys)]
    codec_keys: Annotated[SecretStr, AfterValidator(valid_key_ring)] | None = None
    redis_url: SecretRedisUrl | None = None
    smtp_url: Annotated[SecretStr, AfterValidator(_names_a_mail_server)] | None = None
    mail_from: str = DEFAULT_SENDER
    app_url: Annotated[str, AfterValidator(valid_app_url)] | None = None
    data_dir: Path = Path(".data")
    storage_url: Annotated[str, AfterValidator(validate_storage_url)] | None = None
    session_idle_seconds: float = Field(default=7_200, gt=0)
    """After which a session that nobody uses is over; it is over after a day in any case."""
    repair_deadline_seconds: float = Field(default=60, gt=0)
    """Within which operations that were ended from outside are undone, and the record of operations is corrected."""
    record_retention_days: float = Field(default=365, gt=0)
    """How long the record keeps operations that have closed."""
    host: str = "127.0.0.1"
    worker_port: int = Field(default=8090, ge=0, le=65535)
    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    """Where /metrics, /healthz and /readyz are told to whoever watches; nowhere without it. 0: any free one."""

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, told: dict[str, object], read: ModelWrapValidatorHandler[Self]) -> Self:
        return validate_all(told, read, [*without_encryption(told), *incomplete_version(told)])

    def product_url(self) -> str:
        """What links to workspaces begin with, by the same rule as the gateway's."""
        return app_url_or_default(self.app_url, self.environment)

    def service_keys(self) -> SecretKeys:
        return SecretKeys.parse(self.service_key.get_secret_value())

    def storage(self) -> str:
        """Where files lie, by the same rule as the gateway's."""
        return self.storage_url or default_storage_url(self.data_dir)
