"""docker/compose.yaml as an engine would read it: merged, and with its variables filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import yaml
from compose_spec import PyCompose
from pydantic import BaseModel, ConfigDict

FILE = Path(__file__).parent.parent.parent / "docker" / "compose.yaml"

_VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\})")


class VariableMissing(Exception):
    """A variable has to be set; the message is the file's."""


class Service(BaseModel):
    """What of a service its processes are started with."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    image: str
    command: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    volumes: tuple[str, ...] = ()
    depends_on: tuple[str, ...] | dict[str, dict[str, str]] = ()
    profiles: tuple[str, ...] = ()
    read_only: bool = False
    networks: tuple[str, ...] = ("default",)

    @property
    def is_ours(self) -> bool:
        return self.image.startswith("adx-gateway:")


def subnets(variables: Mapping[str, str]) -> dict[str, str]:
    """The fixed subnet of each network that has one, by the network's name."""
    networks = cast("dict[str, dict[str, Any]]", _whole(variables)["networks"])
    return {name: network["ipam"]["config"][0]["subnet"] for name, network in networks.items() if "ipam" in network}


def _whole(variables: Mapping[str, str]) -> dict[str, dict[str, object]]:
    return cast("dict[str, dict[str, object]]", yaml.safe_load(_filled_in(FILE.read_text(), variables)))


def services(variables: Mapping[str, str]) -> dict[str, Service]:
    """By name. Raises VariableMissing, and ValueError where the file is not what the Compose specification says."""
    whole = _whole(variables)
    PyCompose.from_json(json.dumps(whole)).validate()
    return {name: Service.model_validate(service) for name, service in whole["services"].items()}


def _filled_in(text: str, variables: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        if found["dollar"]:
            return "$"
        told = variables.get(found["name"], "")
        if not told and found["kind"] == "?":
            raise VariableMissing(f"{found['name']}: {found['rest']}")
        return told or (found["rest"] if found["kind"] == "-" else "")

    return _VARIABLE.sub(value, text)
