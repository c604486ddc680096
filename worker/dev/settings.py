"""What `make dev` may be told by its environment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from infrastructure.settings_validation import Environment

Port = Annotated[int, Field(ge=0, le=65535)]
"""0: any free one."""


class DevSettings(BaseSettings):
    """``HOST`` is where the gateway listens; Temporal and its UI, which ask nobody who they are, stay on 127.0.0.1."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    host: str = "127.0.0.1"
    gateway_port: Port = 8080
    temporal_port: Port = 7233
    temporal_ui_port: Port = 8233
    data_dir: Path = Path(".data")
    environment: Environment = Environment.DEVELOPMENT

    @field_validator("environment")
    @classmethod
    def _is_no_production(cls, environment: Environment) -> Environment:
        if environment is Environment.PRODUCTION:
            raise ValueError("make dev is not for production: its accounts and their password are known to everybody")
        return environment
