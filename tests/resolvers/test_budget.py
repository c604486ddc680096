"""What a process asks of Temporal for all that it follows, together."""

from __future__ import annotations

from contextlib import ExitStack

from resolvers.budget import Budget


def test_a_few_operations_are_looked_in_on_as_soon_as_wanted() -> None:
    budget = Budget()
    with budget.looking():
        assert budget.look_seconds(0.5) == 0.5


def test_looks_at_many_operations_keep_to_their_share_and_to_that_of_few_again_when_the_others_have_gone() -> None:
    budget = Budget()
    with ExitStack() as stack:
        for _ in range(2000):
            stack.enter_context(budget.looking())
        pauses = [budget.look_seconds(0.5) for _ in range(50)]
        assert 100 * 0.8 <= min(pauses) <= max(pauses) <= 100 * 1.2, "twenty a second"
    assert budget.look_seconds(0.5) == 0.5
