"""Error messages for invalid input."""

from __future__ import annotations

import pytest

from contracts.errors import InvalidInput
from resolvers.operations.onboard_user import OnboardUserInput


@pytest.mark.parametrize(
    ("invalid_fields", "message"),
    [
        ({"name": ""}, "This must not be empty."),
        ({"password": "2little"}, "This is too short: at least 8."),
        ({"password": "x" * 257}, "This is too long: at most 256."),
    ],
)
def test_rejects_input_that_is_too_short_or_too_long(invalid_fields: dict[str, str], message: str) -> None:
    valid_input = {"email": "kay@example.com", "name": "Kay", "password": "long enough"}
    with pytest.raises(InvalidInput) as raised:
        OnboardUserInput.check(valid_input | invalid_fields)
    assert [field.message for field in raised.value.fields] == [message]
