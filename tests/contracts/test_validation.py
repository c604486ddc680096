"""Validated types: time zones as browsers support them, Unicode errors, and dates of RFC 3339."""

from __future__ import annotations

import importlib.resources
import json
import shutil
import subprocess
from datetime import UTC, datetime

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from contracts.errors import InvalidInput
from contracts.validation import Name, TimeZone, validate
from schema.scalars import SCALARS

TIME_ZONE: TypeAdapter[str] = TypeAdapter(TimeZone)


def run_node(program: str, input: object = None) -> list[str]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not on PATH.")
    done = subprocess.run([node, "-e", program], input=json.dumps(input), capture_output=True, text=True, check=True)
    answer: list[str] = json.loads(done.stdout)
    return answer


def test_accepts_every_time_zone_of_a_browser() -> None:
    browser_zones = run_node('console.log(JSON.stringify(Intl.supportedValuesOf("timeZone")))')

    assert len(browser_zones) > 400
    assert [TIME_ZONE.validate_python(each) for each in browser_zones] == browser_zones


def test_browser_supports_every_accepted_time_zone() -> None:
    names = (importlib.resources.files("tzdata") / "zones").read_text().split()
    accepted = []
    for name in names:
        try:
            accepted.append(TIME_ZONE.validate_python(name))
        except ValidationError:
            continue
    unknown = run_node(
        """const unknown = JSON.parse(require("fs").readFileSync(0)).filter((timeZone) => {
          try { new Intl.DateTimeFormat("en", { timeZone }); return false } catch { return true }
        }); console.log(JSON.stringify(unknown))""",
        accepted,
    )

    assert {"Asia/Calcutta", "US/Pacific", "Europe/Kyiv", "UTC"} <= set(accepted)
    assert unknown == []


def test_refuses_lone_surrogates_with_a_message_about_unicode() -> None:
    class Named(BaseModel):
        name: Name

    with pytest.raises(InvalidInput) as refused:
        validate(Named, {"name": "a\ud800b"})

    assert [field.message for field in refused.value.fields] == ["This is not valid Unicode text."]


DATE_TIME = SCALARS[datetime].parse_value


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-27T10:00:00Z", datetime(2026, 11, 27, 10, tzinfo=UTC)),
        ("2026-11-27t10:00:00z", datetime(2026, 11, 27, 10, tzinfo=UTC)),
        ("2026-11-27T10:00:00.123456789+01:00", datetime(2026, 11, 27, 9, 0, 0, 123456, tzinfo=UTC)),
    ],
)
def test_reads_dates_in_the_format_of_rfc_3339(text: str, moment: datetime) -> None:
    assert DATE_TIME is not None
    assert DATE_TIME(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        5,
        "",
        "2026-11-27",
        "2026-11-27T10:00:00",
        "2026-11-27T10:00Z",
        "20261127T100000Z",
        "2026-W48-5T10:00:00Z",
        "2026-02-30T10:00:00Z",
        "2026-11-27T25:00:00Z",
        "2026-11-27T10:00:00+99:99",
        "0001-01-01T00:00:00+23:59",
        "2026-11-27T10:00:00,5Z",
        "٢٠٢٦-11-27T10:00:00Z",
    ],
)
def test_refuses_dates_that_rfc_3339_does_not_allow(text: object) -> None:
    assert DATE_TIME is not None
    with pytest.raises(ValueError, match=r"RFC 3339|no such date"):
        DATE_TIME(text)
