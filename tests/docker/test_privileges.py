"""Each process has only its own secrets, reaches only the servers it needs, and its accounts have least privilege."""

from __future__ import annotations

import re
import string
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import pytest
import yaml
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError

from tests.docker import kubernetes
from tests.docker.compose import services
from tests.docker.deployed import DOCKER, WORKERS, compose_processes, fresh_variables, make_roles, redis_arguments
from tests.end_to_end.client import Client
from tests.servers import running_postgres, running_redis
from tests.stack import Stack, plain_environment, run_module
from worker.database import DOMAINS
from worker.registry import PROCESSES
from worker.roles import role_of

DASHBOARD = """{ viewer { user { name email } operations(first: 5) { totalCount nodes { id } }
  tenantOverview { availableTenants { id name } } } }"""
STORAGE = ("STORAGE_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
SECRETS = {
    "gateway": {
        "SECRET_KEY",
        *(f"{name}_KEY" for name in ("AUTH", "USERS", "TENANTS", "FILES", "OPERATIONS")),
        "CODEC_KEYS",
        "REDIS_URL",
        *STORAGE,
    },
    "auth": {"SERVICE_KEY", "CODEC_KEYS", "DATABASE_URL", "REDIS_URL"},
    "users": {"SERVICE_KEY", "CODEC_KEYS", "DATABASE_URL"},
    "tenants": {"SERVICE_KEY", "CODEC_KEYS", "DATABASE_URL", "REDIS_URL"},
    "files": {"SERVICE_KEY", "CODEC_KEYS", "DATABASE_URL", *STORAGE},
    "operations": {"SERVICE_KEY", "CODEC_KEYS", "DATABASE_URL", "REDIS_URL", "SMTP_URL"},
    "migrate": {"DATABASE_URL"},
}
"""The secrets of each process."""
ENDPOINTS = {
    "DATABASE_URL": ("postgres", 5432),
    "REDIS_URL": ("redis", 6379),
    "STORAGE_URL": ("storage", 9000),
    "SMTP_URL": ("mail", 587),
}
IMAGE = re.compile(
    r"[a-z0-9./-]+(@sha256:[0-9a-f]{64}|:(RELEASE\.[0-9TZ-]+|v?\d+\.\d+\.\d+(-[a-z]+)?))|postgres:\d+\.\d+(-[a-z]+)?"
)
"""An image with a digest or an exact version; PostgreSQL's versions have two numbers."""


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return fresh_variables(tmp_path_factory.mktemp("variables"))


def test_kubernetes_gives_each_process_only_its_own_secrets() -> None:
    assert set(kubernetes.pods()) == set(SECRETS)
    for name, keys in SECRETS.items():
        assert kubernetes.secrets_of(name) == {(f"adx-{name}", key) for key in keys}, name


def test_compose_gives_each_process_the_same_secrets(variables: dict[str, str]) -> None:
    for name, process in compose_processes(variables).items():
        given = {key for key, value in process.environment.items() if any(each in value for each in variables.values())}
        known_to_all = {"STORAGE_URL", "AWS_ACCESS_KEY_ID", "SMTP_URL"}
        for domain in DOMAINS:  # a process that serves several domains has one key, under the name of each domain
            own, hosted = f"{role_of(domain).removeprefix('adx_').upper()}_KEY", f"{domain.upper()}_KEY"
            if hosted != own and process.environment.get(own) == process.environment.get(hosted):
                given.discard(hosted)
        assert given == SECRETS["migrate" if name == "demo" else name] - known_to_all, name


def test_two_processes_share_only_the_secrets_that_both_need(variables: dict[str, str]) -> None:
    environments = {
        name: str(process.environment) for name, process in compose_processes(variables).items() if name != "demo"
    }
    holders = {key: {name for name, text in environments.items() if value in text} for key, value in variables.items()}
    for key, names in holders.items():
        if key == "CODEC_KEYS":
            assert names == {"gateway", *WORKERS}
        elif re.fullmatch(r"(AUTH|USERS|TENANTS|FILES|OPERATIONS)_KEY", key):
            assert names == {"gateway", key.partition("_")[0].lower()}
        else:
            assert len(names) <= 1, key


def test_the_database_roles_are_those_of_the_processes() -> None:
    sql = (DOCKER / "postgres" / "roles.sql").read_text()
    roles = set(re.findall(r"CREATE ROLE (adx_\w+)", sql))
    assert roles == {f"adx_{name}" for name in (*WORKERS, "migrate")}
    for domain in DOMAINS:
        (process,) = (
            name for name, parts in PROCESSES.items() if name != "all" and domain in {part.__name__ for part in parts}
        )
        assert role_of(domain) == f"adx_{process}"


@pytest.fixture(scope="module")
def database_urls(variables: dict[str, str]) -> Iterator[dict[str, str]]:
    """Return the database URL of each process, after the migration."""
    with running_postgres() as postgres:
        address = make_roles(postgres, variables)
        urls = {
            name: process.environment["DATABASE_URL"].replace("postgres/adx", address)
            for name, process in compose_processes(variables).items()
            if "DATABASE_URL" in process.environment
        }
        for _ in range(2):  # the migration runs again at each release
            run_module("worker.migrate", plain_environment() | {"DATABASE_URL": urls["migrate"]})
        yield urls


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.mark.parametrize("name", WORKERS)
async def test_a_worker_reads_and_writes_its_own_tables_only(database_urls: dict[str, str], name: str) -> None:
    async with connected(database_urls[name]) as connection:
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        tables = [row["tablename"] for row in rows]
        domains = [domain for domain in DOMAINS if role_of(domain) == f"adx_{name}"]
        own = [table for table in tables for domain in domains if table.startswith(f"{domain}_")]
        read_too = ["tenants_membership"] if name == "auth" else []
        assert own
        for table in tables:
            may = {
                verb
                for verb in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
                if await connection.fetchval("SELECT has_table_privilege($1, $2)", f'"{table}"', verb)
            }
            if table in own:
                assert may == {"SELECT", "INSERT", "UPDATE", "DELETE"}, table
            else:
                assert may == ({"SELECT"} if table in read_too else set()), table
        for statement in (
            "CREATE TABLE mine (id int)",
            "CREATE TEMPORARY TABLE mine (id int)",
            "CREATE SCHEMA mine",
            "CREATE ROLE mine",
            f'DROP TABLE "{min(own)}"',
            f'ALTER TABLE "{min(own)}" ADD COLUMN mine int',
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)


@pytest.mark.parametrize("other", ["temporal", "temporal_visibility", "postgres", "template1"])
async def test_no_process_opens_another_database(database_urls: dict[str, str], other: str) -> None:
    for name, url in database_urls.items():
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with connected(url.removesuffix("/adx") + f"/{other}"):
                pytest.fail(name)


@pytest.fixture(scope="module")
def redis_urls(variables: dict[str, str]) -> Iterator[dict[str, str]]:
    with running_redis(redis_arguments(variables)) as url:
        address = url.removeprefix("redis://")
        yield {
            name: process.environment["REDIS_URL"].replace("redis:6379/0", address)
            for name, process in compose_processes(variables).items()
            if "REDIS_URL" in process.environment
        } | {"anonymous": url}


async def may(url: str, *command: str) -> bool:
    async with Redis.from_url(url) as redis:
        try:
            await redis.execute_command(*command)  # type: ignore[no-untyped-call]
        except (NoPermissionError, AuthenticationError):
            return False
    return True


async def test_redis_requires_a_password_and_allows_workers_only_sessions(redis_urls: dict[str, str]) -> None:
    anonymous = redis_urls.pop("anonymous")
    assert await may(anonymous, "PING")
    for command in (
        ("GET", "auth:session:x"),
        ("SET", "x", "1"),
        ("PUBLISH", "changes:names", "x"),
        ("CONFIG", "GET", "*"),
    ):
        assert not await may(anonymous, *command)
        guessed = redis_urls["gateway"].replace(urlsplit(redis_urls["gateway"]).password or "", "wrong")
        assert not await may(guessed, *command)
    for name, url in redis_urls.items():
        assert await may(url, "SET", "auth:session:x", "1")
        assert await may(url, "PUBLISH", "changes:names", "x")
        assert await may(url, "PUBLISH", "changes:topic:x", "") == (name in ("gateway", "operations"))
        assert await may(url, "SET", "place", "1") == (name == "gateway")
        assert await may(url, "EVAL", "return 1", "0") == (name == "gateway")
        for words in ("FLUSHALL", "CONFIG GET *", "ACL LIST", "KEYS *", "SHUTDOWN NOSAVE", "MONITOR"):
            assert not await may(url, *words.split()), (name, words)


def test_network_policies_deny_connections_by_default() -> None:
    for name in kubernetes.pods():
        for direction in ("Ingress", "Egress"):
            assert kubernetes.is_closed_by_default(name, direction), (name, direction)


def test_each_process_may_reach_only_the_servers_of_its_environment() -> None:
    blank = {(f"adx-{name}", key): "" for name, keys in SECRETS.items() for key in keys}
    for name, process in kubernetes.processes(blank).items():
        expected = {("kube-system", 53)}
        for key, value in process.environment.items():
            if key in ENDPOINTS:
                expected.add(ENDPOINTS[key])
            elif key == "TEMPORAL_ADDRESS" or value.startswith("http://"):
                url = urlsplit(value if "//" in value else f"//{value}")
                assert url.hostname is not None
                assert url.port is not None
                expected.add((url.hostname.rpartition(".")[2], url.port))
        assert kubernetes.reached_by(name) == expected, name


def test_only_the_gateway_reaches_workers_and_only_the_ingress_reaches_gateways() -> None:
    for name, port in WORKERS.items():
        assert kubernetes.reaching(name) == {("gateway", int(port)), ("monitoring", 9464)}
    assert kubernetes.reaching("gateway") == {("ingress-nginx", 8080), ("monitoring", 9464)}
    assert kubernetes.reaching("migrate") == set()


def test_storage_accounts_reach_the_files_of_their_bucket_only(variables: dict[str, str]) -> None:
    for name in ("gateway", "files"):
        url = urlsplit(compose_processes(variables)[name].environment["STORAGE_URL"])
        bucket, prefix = url.netloc, url.path.strip("/")
        policy = yaml.safe_load((DOCKER / "storage" / f"{name}.json").read_text())
        objects, listing = policy["Statement"]
        assert objects["Resource"] == [f"arn:aws:s3:::{bucket}/{prefix}/*"]
        assert (listing["Action"], listing["Resource"]) == (["s3:ListBucket"], [f"arn:aws:s3:::{bucket}"])
        assert listing["Condition"] == {"StringLike": {"s3:prefix": [f"{prefix}/*"]}}
        assert all(not set(action) & set(string.punctuation) - {":"} for action in objects["Action"]), "no wildcard"
        assert ("s3:DeleteObject" in objects["Action"]) == (name == "files")
        assert compose_processes(variables)[name].environment["AWS_ACCESS_KEY_ID"] == f"adx-{name}"


def test_every_image_is_pinned_to_a_version_in_one_place(variables: dict[str, str]) -> None:
    compose = (DOCKER / "compose.yaml").read_text()
    images = yaml.safe_load(compose)["x-images"]
    bases = re.findall(r"^ARG \w+_IMAGE=(\S+)$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    for image in (*images, *bases):
        assert IMAGE.fullmatch(image), image
    assert {each.image for each in services(variables).values() if not each.is_ours} == set(images)
    everything = "".join(file.read_text() for file in DOCKER.rglob("*") if file.is_file() and file.suffix != ".lock")
    for image in (*images, *bases):
        assert everything.count(image) == 1, image
    assert not re.search(r"^FROM (?!\$\{\w+_IMAGE\})", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    assert {kubernetes.container(name)["image"] for name in kubernetes.pods()} == {"adx-gateway"}


@pytest.fixture(params=["deployed_stack", "kubernetes_stack"])
def stack(request: pytest.FixtureRequest) -> Stack:
    found: Stack = request.getfixturevalue(request.param)
    return found


async def test_processes_work_with_their_own_privileges_only(stack: Stack) -> None:
    assert set(stack.processes) == {*WORKERS, "gateway-0", "gateway-1"}
    ada = Client(stack)
    await ada.log_in("ada@example.com")
    for tenant in ("Globex", "Acme"):
        await ada.ensure_tenant(tenant)
    await ada.execute(DASHBOARD)
    logs = {log.name: log.read_text() for log in stack.data_dir.glob("*.log")}
    assert {f"{process}.log" for process in stack.processes} <= set(logs)
    for log, text in logs.items():
        assert not re.search("permission denied|NOPERM|NOAUTH|WRONGPASS|NoPermission|InsufficientPrivilege", text), log
