"""A flood of logins of one account, with the right password, does not delay the login of another account.

The test is also the command that replays the attack: `python -m pytest tests/end_to_end/test_login_quota.py`.
"""

from __future__ import annotations

import asyncio

from temporalio.client import Client as Temporal

from contracts.operations import ATTRIBUTE_USER
from tests.end_to_end.client import PASSWORD, Client
from tests.stack import Stack

LOGINS = 24
MAX_RUNNING = LOGINS // 2
"""The share of an account is 4. Visibility lags behind, and a login of more than 5 seconds returns its slot early."""
LOGIN = """mutation ($email: String!, $password: String!) {
  login(input: {email: $email, password: $password, waitSeconds: 0}) { operation { id } }
}"""


async def test_a_flood_of_logins_of_one_account_does_not_delay_another_account(dev_stack: Stack) -> None:
    temporal, ada = await Temporal.connect(dev_stack.temporal_address), Client(dev_stack)
    await ada.log_in("ada@example.com")
    user_id = (await ada.execute("{ viewer { user { id } } }"))["viewer"]["user"]["id"]
    running_of_ada = f"WorkflowType = 'LogIn' AND ExecutionStatus = 'Running' AND {ATTRIBUTE_USER} = '{user_id}'"
    flood = asyncio.gather(
        *(Client(dev_stack).execute_unchecked(LOGIN, email="ada@example.com", password=PASSWORD) for _ in range(LOGINS))
    )
    max_running = 0

    async def sample_running_logins() -> None:
        nonlocal max_running
        running = 1
        while running or not flood.done():  # other tests use this stack and must not wait for these logins
            found = await temporal.count_workflows(running_of_ada)
            max_running, running = max(max_running, found.count), found.count
            await asyncio.sleep(0.05)

    sampling = asyncio.create_task(sample_running_logins())
    while max_running == 0:  # noqa: ASYNC110 - the condition is in another process
        await asyncio.sleep(0.05)
    await Client(dev_stack).log_in("grace@example.com")
    assert not flood.done(), "the login of another account waited for earlier logins"
    codes = {error["extensions"]["code"] for response in await flood for error in response.get("errors", ())}
    assert codes <= {"RATE_LIMITED"}
    await sampling
    assert 1 < max_running <= MAX_RUNNING
