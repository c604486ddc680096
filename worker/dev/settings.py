"""Settings of `make dev`, read once from its environment variables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from infrastructure.settings_validation import Environment

Port = Annotated[int, Field(ge=0, le=65535)]
"""A TCP port; 0 selects any free port."""


class DevSettings(BaseSettings):
    """Settings of `make dev`: one field per environment variable, named in upper case.

    The docstring of a field is its row in docs/configuration.md. Temporal and its UI, which do not authenticate their
    clients, always listen on 127.0.0.1.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """IP address on which the gateway listens. Temporal and its UI always listen on 127.0.0.1."""
    gateway_port: Port = 8080
    """TCP port of the gateway; 0 selects any free port."""
    temporal_port: Port = 7233
    """TCP port of Temporal's development server; 0 selects any free port."""
    temporal_ui_port: Port = 8233
    """TCP port of Temporal's UI; 0 selects any free port."""
    data_dir: Path = Path(".data")
    """Folder of all data: the databases, uploaded files, e-mails and generated keys."""
    environment: Environment = Environment.DEVELOPMENT
    """Must be `development`: the passwords of the demo accounts are public."""

    @field_validator("environment")
    @classmethod
    def _reject_production(cls, environment: Environment) -> Environment:
        if environment is Environment.PRODUCTION:
            raise ValueError("make dev is not for production: its accounts have a public password")
        return environment
