"""Limits of sign-in attempts per account, network and device."""

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
NETWORK, OTHER_NETWORK = ClientInfo("192.0.2.1"), ClientInfo("198.51.100.7")


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
def buckets(request: pytest.FixtureRequest) -> TokenBucketStore:
    return MemoryTokenBuckets() if request.param == "memory" else RedisTokenBuckets(request.getfixturevalue("policy"))


@pytest.fixture
def throttle(buckets: TokenBucketStore) -> SignInThrottle:
    return SignInThrottle(buckets, SECRET, SignInLimits())


async def attempt_wrong_password(throttle: SignInThrottle, email: str = ADA, client: ClientInfo = NETWORK) -> float:
    """Attempt a sign-in with a wrong password; return the seconds to wait if it was rejected, else 0."""
    try:
        async with throttle.password_attempt(email, client):
            raise InvalidCredentials()
    except InvalidCredentials:
        return 0
    except RateLimited as raised:
        return raised.retry_after or 0


async def sign_in(throttle: SignInThrottle, email: str = ADA, client: ClientInfo = NETWORK) -> None:
    """Sign in with the right password."""
    async with throttle.password_attempt(email, client):
        pass


async def test_allows_ten_wrong_passwords_and_then_one_every_90_seconds(throttle: SignInThrottle) -> None:
    assert [await attempt_wrong_password(throttle) for _ in range(10)] == [0] * 10

    assert 80 < await attempt_wrong_password(throttle) <= 90
    assert await attempt_wrong_password(throttle, GRACE) == 0
    assert await attempt_wrong_password(throttle, client=OTHER_NETWORK) == 0


async def test_counts_spellings_of_an_email_address_as_one_account(throttle: SignInThrottle) -> None:
    for _ in range(10):
        await attempt_wrong_password(throttle)

    assert await attempt_wrong_password(throttle, " ADA@Example.com ") > 0


async def test_successful_sign_ins_are_not_limited(throttle: SignInThrottle) -> None:
    for _ in range(9):
        await attempt_wrong_password(throttle)

    for _ in range(30):
        await sign_in(throttle)
    await asyncio.gather(*(sign_in(throttle, client=OTHER_NETWORK) for _ in range(60)))


async def test_limits_attempts_of_one_network_on_many_accounts(throttle: SignInThrottle) -> None:
    waits = [await attempt_wrong_password(throttle, f"user-{n}@example.com") for n in range(101)]

    assert waits[:100] == [0] * 100
    assert waits[100] > 0


async def test_limits_attempts_of_many_networks_except_from_known_devices(
    throttle: SignInThrottle,
) -> None:
    known = NETWORK._replace(device=throttle.issue_device_token(ADA, NETWORK))
    waits = [await attempt_wrong_password(throttle, client=ClientInfo(f"192.0.2.{n}")) for n in range(51)]

    assert waits[:50] == [0] * 50
    assert 0 < waits[50] <= 18
    with pytest.raises(RateLimited):
        await sign_in(throttle, client=OTHER_NETWORK)
    await sign_in(throttle, client=known)
    await sign_in(throttle, client=OTHER_NETWORK._replace(device=known.device))


async def test_attempts_are_refilled_over_time() -> None:
    now = 0.0
    throttle = SignInThrottle(MemoryTokenBuckets(clock=lambda: now), SECRET, SignInLimits())
    for n in range(1000):
        await attempt_wrong_password(throttle, client=ClientInfo(f"192.0.2.{n}"))

    now += 18

    await sign_in(throttle, client=OTHER_NETWORK)


async def test_known_device_has_ten_attempts_of_its_own(throttle: SignInThrottle) -> None:
    device = NETWORK._replace(device=throttle.issue_device_token(ADA, NETWORK))

    waits = [await attempt_wrong_password(throttle, client=device) for _ in range(11)]

    assert waits[:10] == [0] * 10
    assert waits[10] > 0
    assert await attempt_wrong_password(throttle, client=NETWORK) == 0


async def test_device_is_known_for_one_account_and_180_days() -> None:
    now = 1_000_000.0
    throttle = SignInThrottle(MemoryTokenBuckets(), SECRET, SignInLimits(), clock=lambda: now)
    device = throttle.issue_device_token(ADA, NETWORK)
    assert device is not None
    assert throttle.issue_device_token(ADA, NETWORK._replace(device=device)) is None

    assert throttle.issue_device_token(GRACE, NETWORK._replace(device=device)) is not None
    for forged in ("", "x", "..", f"{device}0", device.replace(".", ".9", 1), "é.1.2"):
        assert throttle.issue_device_token(ADA, NETWORK._replace(device=forged)) is not None
    now += 180 * 24 * 3600 - 1
    assert throttle.issue_device_token(ADA, NETWORK._replace(device=device)) is None
    now += 1
    assert throttle.issue_device_token(ADA, NETWORK._replace(device=device)) is not None


@pytest.mark.parametrize("error", [ServiceUnavailable(service="auth"), RateLimited(retry_after=1)])
async def test_refunds_an_attempt_that_was_not_checked(throttle: SignInThrottle, error: DomainError) -> None:
    for _ in range(20):
        with pytest.raises(type(error)):
            async with throttle.password_attempt(ADA, NETWORK):
                raise error

    assert await attempt_wrong_password(throttle) == 0


async def test_cancelled_attempt_is_not_refunded(throttle: SignInThrottle) -> None:
    for _ in range(10):
        with pytest.raises(asyncio.CancelledError):
            async with throttle.password_attempt(ADA, NETWORK):
                raise asyncio.CancelledError

    assert await attempt_wrong_password(throttle) > 0


async def test_counts_codes_over_all_logins_of_a_user(throttle: SignInThrottle) -> None:
    async def try_code(user_id: str, error: type[DomainError] | None) -> None:
        async with throttle.code_attempt(user_id):
            if error:
                raise error()

    await try_code("usr_1", None)
    for _ in range(20):
        with pytest.raises(InvalidMfaCode):
            await try_code("usr_1", InvalidMfaCode)

    with pytest.raises(RateLimited) as raised:
        await try_code("usr_1", None)
    assert raised.value.retry_after is not None
    assert 600 < raised.value.retry_after <= 720
    await try_code("usr_2", None)


async def test_240_logins_of_one_account_do_not_delay_another_account(throttle: SignInThrottle) -> None:
    may_end = asyncio.Event()

    async def log_in(client: ClientInfo) -> None:
        async with throttle.password_attempt(GRACE, client):
            await may_end.wait()

    known = throttle.issue_device_token(GRACE, OTHER_NETWORK)
    flood = [asyncio.create_task(log_in(ClientInfo(OTHER_NETWORK.network, known))) for _ in range(240)]
    await asyncio.sleep(0.2)
    async with asyncio.timeout(5):
        await sign_in(throttle)
    may_end.set()
    outcomes = await asyncio.gather(*flood, return_exceptions=True)
    raised = [outcome for outcome in outcomes if isinstance(outcome, RateLimited)]
    assert len(raised) == 240 - 4 - 200, "four are checked, and 200 may wait"


async def test_checks_eight_logins_concurrently_and_four_per_account_or_network(
    throttle: SignInThrottle,
) -> None:
    may_end, concurrent = asyncio.Event(), 0

    async def log_in(email: str, network: str) -> None:
        nonlocal concurrent
        async with throttle.password_attempt(email, ClientInfo(network)):
            concurrent += 1
            await may_end.wait()

    async def assert_max_concurrent(maximum: int, emails: list[str], networks: list[str]) -> None:
        nonlocal concurrent
        concurrent = 0
        may_end.clear()
        logins = [asyncio.create_task(log_in(*pair)) for pair in zip(emails, networks, strict=True)]
        async with asyncio.timeout(10):
            while concurrent < maximum:  # noqa: ASYNC110 - the throttle sends no event
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        assert concurrent == maximum
        may_end.set()
        await asyncio.gather(*logins)

    emails, networks = [f"user-{n}@example.com" for n in range(12)], [f"192.0.2.{n}" for n in range(12)]
    await assert_max_concurrent(8, emails, networks)
    await assert_max_concurrent(4, [ADA] * 12, networks)
    await assert_max_concurrent(4, emails, [NETWORK.network] * 12)
    await assert_max_concurrent(8, emails, networks)


async def test_concurrent_attempts_of_several_processes_share_one_bucket(policy: RedisPolicy) -> None:
    bucket = [RateLimitKey("one", 10, 900), RateLimitKey("other", 50, 900)]
    processes = [RedisTokenBuckets(policy) for _ in range(4)]

    waits = await asyncio.gather(*(processes[n % 4].consume(bucket) for n in range(100)))

    assert waits.count(0) == 10
    assert await processes[0].consume(bucket[1:]) == 0, (
        "an attempt that one bucket rejects consumes nothing from the others"
    )


async def test_refunds_do_not_overfill_a_bucket_and_full_buckets_are_deleted(redis: Redis, policy: RedisPolicy) -> None:
    buckets, bucket = RedisTokenBuckets(policy), [RateLimitKey("one", 2, 0.4)]
    await buckets.consume(bucket)
    for _ in range(5):
        await buckets.refund(bucket)

    assert [await buckets.consume(bucket) == 0 for _ in range(3)] == [True, True, False]
    await asyncio.sleep(0.6)
    assert await redis.keys("*") == []


async def test_bucket_keys_contain_no_personal_data(redis: Redis, policy: RedisPolicy) -> None:
    await attempt_wrong_password(SignInThrottle(RedisTokenBuckets(policy), SECRET, SignInLimits()))

    keys = str(await redis.keys("*"))
    assert "ada" not in keys
    assert "192.0" not in keys


async def test_raises_service_unavailable_if_attempts_cannot_be_counted() -> None:
    async with open_redis(f"redis://127.0.0.1:{free_port('127.0.0.1')}/0") as unavailable:
        throttle = SignInThrottle(RedisTokenBuckets(unavailable), SECRET, SignInLimits())
        check: Callable[[], None] = pytest.fail
        with pytest.raises(ServiceUnavailable) as raised:
            async with throttle.password_attempt(ADA, NETWORK):
                check()
        assert raised.value.service == "redis"
        with pytest.raises(ServiceUnavailable):
            async with throttle.code_attempt("usr_1"):
                check()


async def test_device_token_of_a_former_key_is_accepted_and_replaced() -> None:
    old, new = SECRET.current, b"n" * 32
    buckets = MemoryTokenBuckets()
    device = SignInThrottle(buckets, SECRET, SignInLimits()).issue_device_token(ADA, NETWORK)
    during = SignInThrottle(buckets, SecretKeys(new, (old,)), SignInLimits())
    known = NETWORK._replace(device=device)
    for n in range(60):
        await attempt_wrong_password(during, client=ClientInfo(f"192.0.2.{n}"))
    await sign_in(during, client=known)

    replacement = during.issue_device_token(ADA, known)
    assert replacement is not None
    after = SignInThrottle(buckets, SecretKeys(new), SignInLimits())
    assert after.issue_device_token(ADA, NETWORK._replace(device=replacement)) is None
    assert after.issue_device_token(ADA, known) is not None, "the former key is gone"


@pytest.mark.parametrize("content", ["another type", "no number", "nan", "below zero"])
async def test_resets_a_bucket_with_an_unreadable_value(redis: Redis, policy: RedisPolicy, content: str) -> None:
    buckets, bucket = RedisTokenBuckets(policy), [RateLimitKey(f"unreadable {content}", 2, 60)]
    assert await buckets.consume(bucket) == 0
    (key,) = [each async for each in redis.scan_iter(match=f"*unreadable {content}*")]
    if content == "another type":
        await redis.set(key, b"\xff\xfe")
    else:
        tokens = {"no number": b"\xff", "nan": b"nan", "below zero": b"-1e300"}[content]
        await redis.hset(key, mapping={"tokens": tokens, "at": b"0" if content == "below zero" else b"\xff"})
        await redis.persist(key)

    assert [await buckets.consume(bucket) == 0 for _ in range(3)] == [True, True, False]
    assert await redis.ttl(key) > 0
