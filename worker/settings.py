"""Settings of a worker process, read once from its environment variables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, ModelWrapValidatorHandler, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from temporalio.common import WorkerDeploymentVersion

from activities.notifications.mailer import DEFAULT_SENDER, SmtpServer
from infrastructure.settings_validation import (
    Environment,
    SecretDatabaseUrl,
    SecretRedisUrl,
    app_url_or_default,
    missing_encryption_errors,
    valid_app_url,
    valid_key_ring,
    validate_all,
)
from infrastructure.signing.secret_keys import SecretKeys, valid_secret_keys
from infrastructure.storage import default_storage_url, validate_storage_url


def _validate_smtp_url(url: SecretStr) -> SecretStr:
    SmtpServer.parse(url.get_secret_value())
    return url


def incomplete_version(values: Mapping[str, object]) -> Iterable[str]:
    """Yield an error message if only one of the two names of a version is set."""
    if bool(values.get("worker_deployment")) != bool(values.get("worker_build_id")):
        yield "WORKER_DEPLOYMENT and WORKER_BUILD_ID must be set together: a version has both names"


class VersionSettings(BaseSettings):
    """Settings of `worker.versions` and of every worker process: Temporal's address, and the version of the workers.

    Workers have no version unless both names of the version are set.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, use_attribute_docstrings=True)

    temporal_address: str | None = None
    """`HOST:PORT` of the Temporal server; if unset, the setting of Temporal's SDK applies, whose default is
    `localhost:7233`."""
    temporal_namespace: str | None = None
    """Namespace in Temporal; if unset, the setting of Temporal's SDK applies, whose default is `default`."""
    worker_deployment: str | None = Field(default=None, pattern=r"^[\w-]{1,100}$")
    """Name of the deployment in Temporal, the same for all versions of the workers `operations`; set it together with
    WORKER_BUILD_ID (docs/upgrades.md)."""
    worker_build_id: str | None = Field(default=None, pattern=r"^[\w.+-]{1,100}$")
    """Name of this build, different for each version of the workers `operations`; set it together with
    WORKER_DEPLOYMENT."""

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, values: dict[str, object], read: ModelWrapValidatorHandler[Self]) -> Self:
        return validate_all(values, read, incomplete_version(values))

    def version(self) -> WorkerDeploymentVersion | None:
        if self.worker_deployment is None or self.worker_build_id is None:
            return None
        return WorkerDeploymentVersion(self.worker_deployment, self.worker_build_id)


class WorkerSettings(VersionSettings):
    """Settings of a worker process: one field per environment variable, named in upper case.

    The docstring of a field is its row in docs/configuration.md.
    """

    database_url: SecretDatabaseUrl
    """`postgres://USER:PASSWORD@HOST/NAME` or `sqlite://FILE`: the database of the domains that the process serves."""
    service_key: Annotated[SecretStr, AfterValidator(valid_secret_keys)]
    """Keys, each at least 32 characters long and separated by commas, with which the gateway signs its calls to this
    process: the gateway's SERVICE_KEY, or its key for this service. All keys verify, so that a key can be rotated."""
    environment: Environment = Environment.DEVELOPMENT
    """`development` or `production`. In production a process does not start with an insecure setting
    (docs/security.md)."""
    host: str = "127.0.0.1"
    """IP address on which the HTTP endpoints of the services listen; `0.0.0.0` listens on all interfaces."""
    worker_port: int = Field(default=8090, ge=0, le=65535)
    """TCP port of the HTTP endpoints of the services; 0 selects any free port."""
    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    """TCP port of `/metrics`, `/healthz` and `/readyz` for monitoring (docs/operating.md). 0 selects any free port; if
    unset, the port does not exist."""
    redis_url: SecretRedisUrl | None = None
    """`redis://`, `rediss://` or `unix://` URL of the Redis that all processes share. Required if more than one gateway
    or worker process runs."""
    codec_keys: Annotated[SecretStr, AfterValidator(valid_key_ring)] | None = None
    """Keys that encrypt the payloads in Temporal, the same in all processes: `ID:KEY`, where `KEY` is 32 bytes in
    base64, separated by commas. The first key encrypts, all keys decrypt. Required in production."""
    data_dir: Path = Path(".data")
    """Folder of the uploaded files, if STORAGE_URL is unset, and of the e-mails, if SMTP_URL is unset."""
    storage_url: Annotated[str, AfterValidator(validate_storage_url)] | None = None
    """Storage of uploaded files: `file:///FOLDER`, or `s3://BUCKET/PREFIX?endpoint=URL&region=REGION` with credentials
    in `AWS_...`. Used by the worker `files`; if unset, the folder `files` of DATA_DIR."""
    smtp_url: Annotated[SecretStr, AfterValidator(_validate_smtp_url)] | None = None
    """`smtp://` or `smtps://` URL of the mail server, used by the worker `operations`. If unset, e-mails are written
    into the folder `mail` of DATA_DIR."""
    mail_from: str = DEFAULT_SENDER
    """Sender of e-mails."""
    app_url: Annotated[str, AfterValidator(valid_app_url)] | None = None
    """URL of the frontend, with which the links in e-mails begin. If unset, it is the URL of the example
    page in development, and a path without a host in production."""
    session_idle_seconds: float = Field(default=7_200, gt=0)
    """Seconds after which an unused session ends. Every session ends 24 hours after it began."""
    repair_deadline_seconds: float = Field(default=60, gt=0)
    """Seconds within which the worker `operations` undoes operations that were terminated or timed out, and corrects
    the record of operations."""
    record_retention_days: float = Field(default=365, gt=0)
    """Days for which the record of operations keeps closed operations."""

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, values: dict[str, object], read: ModelWrapValidatorHandler[Self]) -> Self:
        return validate_all(values, read, [*missing_encryption_errors(values), *incomplete_version(values)])

    def product_url(self) -> str:
        """What links to workspaces begin with, by the same rule as the gateway's."""
        return app_url_or_default(self.app_url, self.environment)

    def service_keys(self) -> SecretKeys:
        return SecretKeys.parse(self.service_key.get_secret_value())

    def storage(self) -> str:
        """Where files lie, by the same rule as the gateway's."""
        return self.storage_url or default_storage_url(self.data_dir)
