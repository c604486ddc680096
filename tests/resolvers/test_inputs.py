"""What a client is told about input that makes no sense."""

from __future__ import annotations

import pytest

from contracts.errors import InvalidInput
from resolvers.operations.onboard_user import OnboardUserInput


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": ""}, "This must not be empty."),
        ({"password": "2little"}, "This is too short: at least 8."),
        ({"password": "x" * 257}, "This is too long: at most 256."),
    ],
)
def test_says_what_is_wrong_with_the_length(wrong: dict[str, str], message: str) -> None:
    somebody = {"email": "kay@example.com", "name": "Kay", "password": "long enough"}
    with pytest.raises(InvalidInput) as refused:
        OnboardUserInput.check(somebody | wrong)
    assert [field.message for field in refused.value.fields] == [message]
