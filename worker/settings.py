"""What a worker process is told by its environment, read once."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class WorkerSettings(BaseSettings):
    """``SERVICE_KEY``: 32 characters or more, shared with the gateway. ``CODEC_KEYS``: ``id:base64[,id:base64...]``."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    database_url: SecretStr
    service_key: SecretStr = Field(min_length=32)
    codec_keys: SecretStr | None = None
    redis_url: SecretStr | None = None
    temporal_address: str | None = None
    temporal_namespace: str | None = None
    host: str = "127.0.0.1"
    port: int = Field(default=8090, ge=0, le=65535)
