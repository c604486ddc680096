"""Tries to sign in: few for who guesses, none taken from who knows, and no way to keep an owner out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from redis.asyncio import Redis

from contracts.errors import DomainError, InvalidCredentials, InvalidMfaCode, RateLimited, ServiceUnavailable
from infrastructure.limits.rate_limit import MemoryTokenBuckets, RateLimitKey, RedisTokenBuckets, TokenBucketStore
from infrastructure.redis_policy import RedisPolicy
from infrastructure.signing.secret_keys import SecretKeys
from resolvers.sign_in_throttle import ClientInfo, SignInLimits, SignInThrottle
from tests.redis_access import open_redis
from worker.dev.ports import free_port

SECRET = SecretKeys(b"s" * 32)
ADA, GRACE = "ada@example.com", "grace@example.com"
HOME, AWAY = ClientInfo("192.0.2.1"), ClientInfo("198.51.100.7")


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        await client.flushdb()
        yield client


@pytest.fixture
async def policy(redis_url: str, redis: Redis) -> AsyncIterator[RedisPolicy]:
    async with open_redis(redis_url) as policy:
        yield policy


@pytest.fixture(params=["memory", "redis"])
def tries(request: pytest.FixtureRequest) -> TokenBucketStore:
    return MemoryTokenBuckets() if request.param == "memory" else RedisTokenBuckets(request.getfixturevalue("policy"))


@pytest.fixture
def throttle(tries: TokenBucketStore) -> SignInThrottle:
    return SignInThrottle(tries, SECRET, SignInLimits())


async def guess(throttle: SignInThrottle, email: str = ADA, client: ClientInfo = HOME) -> float:
    """The seconds to wait where it was not looked at."""
    try:
        async with throttle.password_attempt(email, client):
            raise InvalidCredentials()
    except InvalidCredentials:
        return 0
    except RateLimited as refused:
        return refused.retry_after or 0


async def sign_in(throttle: SignInThrottle, email: str = ADA, client: ClientInfo = HOME) -> None:
    async with throttle.password_attempt(email, client):
        pass


async def test_ten_wrong_passwords_are_looked_at_and_then_one_every_minute_and_a_half(throttle: SignInThrottle) -> None:
    assert [await guess(throttle) for _ in range(10)] == [0] * 10

    assert 80 < await guess(throttle) <= 90
    assert await guess(throttle, GRACE) == 0
    assert await guess(throttle, client=AWAY) == 0


async def test_an_account_is_the_same_however_it_is_written(throttle: SignInThrottle) -> None:
    for _ in range(10):
        await guess(throttle)

    assert await guess(throttle, " ADA@Example.com ") > 0


async def test_who_knows_the_password_may_sign_in_as_often_as_they_like(throttle: SignInThrottle) -> None:
    for _ in range(9):
        await guess(throttle)

    for _ in range(30):
        await sign_in(throttle)
    await asyncio.gather(*(sign_in(throttle, client=AWAY) for _ in range(60)))


async def test_one_network_may_not_try_a_password_on_everybody(throttle: SignInThrottle) -> None:
    waits = [await guess(throttle, f"user-{n}@example.com") for n in range(101)]

    assert waits[:100] == [0] * 100
    assert waits[100] > 0


async def test_many_networks_together_have_fifty_tries_at_an_account_and_its_own_devices_go_on(
    throttle: SignInThrottle,
) -> None:
    known = HOME._replace(device=throttle.issue_device_token(ADA, HOME))
    waits = [await guess(throttle, client=ClientInfo(f"192.0.2.{n}")) for n in range(51)]

    assert waits[:50] == [0] * 50
    assert 0 < waits[50] <= 18
    with pytest.raises(RateLimited):
        await sign_in(throttle, client=AWAY)
    await sign_in(throttle, client=known)
    await sign_in(throttle, client=AWAY._replace(device=known.device))


async def test_whatever_strangers_do_the_tries_of_others_come_back_by_themselves() -> None:
    now = 0.0
    throttle = SignInThrottle(MemoryTokenBuckets(clock=lambda: now), SECRET, SignInLimits())
    for n in range(1000):
        await guess(throttle, client=ClientInfo(f"192.0.2.{n}"))

    now += 18

    await sign_in(throttle, client=AWAY)


async def test_a_known_device_has_ten_tries_of_its_own(throttle: SignInThrottle) -> None:
    device = HOME._replace(device=throttle.issue_device_token(ADA, HOME))

    waits = [await guess(throttle, client=device) for _ in range(11)]

    assert waits[:10] == [0] * 10
    assert waits[10] > 0
    assert await guess(throttle, client=HOME) == 0


async def test_a_device_is_known_for_its_account_only_and_for_half_a_year() -> None:
    now = 1_000_000.0
    throttle = SignInThrottle(MemoryTokenBuckets(), SECRET, SignInLimits(), clock=lambda: now)
    device = throttle.issue_device_token(ADA, HOME)
    assert device is not None
    assert throttle.issue_device_token(ADA, HOME._replace(device=device)) is None

    assert throttle.issue_device_token(GRACE, HOME._replace(device=device)) is not None
    for made_up in ("", "x", "..", f"{device}0", device.replace(".", ".9", 1), "é.1.2"):
        assert throttle.issue_device_token(ADA, HOME._replace(device=made_up)) is not None
    now += 180 * 24 * 3600 - 1
    assert throttle.issue_device_token(ADA, HOME._replace(device=device)) is None
    now += 1
    assert throttle.issue_device_token(ADA, HOME._replace(device=device)) is not None


@pytest.mark.parametrize("trouble", [ServiceUnavailable(service="auth"), RateLimited(retry_after=1)])
async def test_a_try_that_nobody_looked_at_is_given_back(throttle: SignInThrottle, trouble: DomainError) -> None:
    for _ in range(20):
        with pytest.raises(type(trouble)):
            async with throttle.password_attempt(ADA, HOME):
                raise trouble

    assert await guess(throttle) == 0


async def test_who_hangs_up_before_the_answer_has_had_their_try(throttle: SignInThrottle) -> None:
    for _ in range(10):
        with pytest.raises(asyncio.CancelledError):
            async with throttle.password_attempt(ADA, HOME):
                raise asyncio.CancelledError

    assert await guess(throttle) > 0


async def test_codes_are_counted_over_all_logins_of_a_user(throttle: SignInThrottle) -> None:
    async def try_code(user_id: str, error: type[DomainError] | None) -> None:
        async with throttle.code_attempt(user_id):
            if error:
                raise error()

    await try_code("usr_1", None)
    for _ in range(20):
        with pytest.raises(InvalidMfaCode):
            await try_code("usr_1", InvalidMfaCode)

    with pytest.raises(RateLimited) as refused:
        await try_code("usr_1", None)
    assert refused.value.retry_after is not None
    assert 600 < refused.value.retry_after <= 720
    await try_code("usr_2", None)


async def test_240_logins_of_one_account_leave_another_user_s_login_its_usual_way(throttle: SignInThrottle) -> None:
    may_end = asyncio.Event()

    async def log_in(client: ClientInfo) -> None:
        async with throttle.password_attempt(GRACE, client):
            await may_end.wait()

    known = throttle.issue_device_token(GRACE, AWAY)
    flood = [asyncio.create_task(log_in(ClientInfo(AWAY.network, known))) for _ in range(240)]
    await asyncio.sleep(0.2)
    async with asyncio.timeout(5):
        await sign_in(throttle)
    may_end.set()
    outcomes = await asyncio.gather(*flood, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, RateLimited)]
    assert len(refused) == 240 - 4 - 200, "four are looked at, and 200 may wait"


async def test_eight_logins_are_looked_at_at_a_time_and_four_of_one_account_or_network(
    throttle: SignInThrottle,
) -> None:
    may_end, under_way = asyncio.Event(), 0

    async def log_in(email: str, network: str) -> None:
        nonlocal under_way
        async with throttle.password_attempt(email, ClientInfo(network)):
            under_way += 1
            await may_end.wait()

    async def assert_at_a_time(most: int, emails: list[str], networks: list[str]) -> None:
        nonlocal under_way
        under_way = 0
        may_end.clear()
        asking = [asyncio.create_task(log_in(*pair)) for pair in zip(emails, networks, strict=True)]
        async with asyncio.timeout(10):
            while under_way < most:  # noqa: ASYNC110 - it is looked at from outside
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        assert under_way == most
        may_end.set()
        await asyncio.gather(*asking)

    emails, networks = [f"user-{n}@example.com" for n in range(12)], [f"192.0.2.{n}" for n in range(12)]
    await assert_at_a_time(8, emails, networks)
    await assert_at_a_time(4, [ADA] * 12, networks)
    await assert_at_a_time(4, emails, [HOME.network] * 12)
    await assert_at_a_time(8, emails, networks)


async def test_of_many_tries_at_once_in_many_processes_no_more_are_let_through(policy: RedisPolicy) -> None:
    bucket = [RateLimitKey("one", 10, 900), RateLimitKey("other", 50, 900)]
    processes = [RedisTokenBuckets(policy) for _ in range(4)]

    waits = await asyncio.gather(*(processes[n % 4].consume(bucket) for n in range(100)))

    assert waits.count(0) == 10
    assert await processes[0].consume(bucket[1:]) == 0, "who is refused by one bucket takes nothing from the others"


async def test_a_bucket_is_no_fuller_than_full_and_forgotten_once_it_is(redis: Redis, policy: RedisPolicy) -> None:
    tries, bucket = RedisTokenBuckets(policy), [RateLimitKey("one", 2, 0.4)]
    await tries.consume(bucket)
    for _ in range(5):
        await tries.refund(bucket)

    assert [await tries.consume(bucket) == 0 for _ in range(3)] == [True, True, False]
    await asyncio.sleep(0.6)
    assert await redis.keys("*") == []


async def test_what_is_counted_names_nobody(redis: Redis, policy: RedisPolicy) -> None:
    await guess(SignInThrottle(RedisTokenBuckets(policy), SECRET, SignInLimits()))

    keys = str(await redis.keys("*"))
    assert "ada" not in keys
    assert "192.0" not in keys


async def test_nobody_signs_in_where_tries_cannot_be_counted() -> None:
    async with open_redis(f"redis://127.0.0.1:{free_port('127.0.0.1')}/0") as nowhere:
        throttle = SignInThrottle(RedisTokenBuckets(nowhere), SECRET, SignInLimits())
        looked: Callable[[], None] = pytest.fail
        with pytest.raises(ServiceUnavailable) as refused:
            async with throttle.password_attempt(ADA, HOME):
                looked()
        assert refused.value.service == "redis"
        with pytest.raises(ServiceUnavailable):
            async with throttle.code_attempt("usr_1"):
                looked()


async def test_a_device_stays_known_under_a_former_key_and_is_named_anew() -> None:
    old, new = SECRET.current, b"n" * 32
    tries = MemoryTokenBuckets()
    device = SignInThrottle(tries, SECRET, SignInLimits()).issue_device_token(ADA, HOME)
    during = SignInThrottle(tries, SecretKeys(new, (old,)), SignInLimits())
    known = HOME._replace(device=device)
    for n in range(60):
        await guess(during, client=ClientInfo(f"192.0.2.{n}"))
    await sign_in(during, client=known)

    renamed = during.issue_device_token(ADA, known)
    assert renamed is not None
    after = SignInThrottle(tries, SecretKeys(new), SignInLimits())
    assert after.issue_device_token(ADA, HOME._replace(device=renamed)) is None
    assert after.issue_device_token(ADA, known) is not None, "without its key it is not known"


@pytest.mark.parametrize("garbage", ["another type", "no number", "nan", "below zero"])
async def test_a_bucket_that_holds_garbage_begins_anew(redis: Redis, policy: RedisPolicy, garbage: str) -> None:
    tries, bucket = RedisTokenBuckets(policy), [RateLimitKey(f"garbage {garbage}", 2, 60)]
    assert await tries.consume(bucket) == 0
    (key,) = [each async for each in redis.scan_iter(match=f"*garbage {garbage}*")]
    if garbage == "another type":
        await redis.set(key, b"\xff\xfe")
    else:
        tokens = {"no number": b"\xff", "nan": b"nan", "below zero": b"-1e300"}[garbage]
        await redis.hset(key, mapping={"tokens": tokens, "at": b"0" if garbage == "below zero" else b"\xff"})
        await redis.persist(key)

    assert [await tries.consume(bucket) == 0 for _ in range(3)] == [True, True, False]
    assert await redis.ttl(key) > 0
