"""Documents that a hash names: trusted documents of a manifest, and automatic persisted queries of Apollo Client."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from graphql import GraphQLError
from redis.asyncio import Redis

from gateway.app import create_app
from gateway.dependencies import Dependencies
from gateway.http.document_manifest import main
from gateway.http.persisted_queries import PersistedQueries
from gateway.http.trusted_documents import InvalidManifest, read_manifest
from infrastructure.caching.cache import Cache, MemoryCache, RedisCache
from schema.schema import build_schema
from tests.gateway.fakes import FakeServices, settings
from tests.gateway.live_gateway import running_gateway
from tests.mail_server import silent_server
from tests.redis_access import flush, open_cache, open_redis

QUERY = "query Known {\n  __typename\n}"
OTHER = "query Other {\n  viewer {\n    user {\n      id\n    }\n  }\n}"
ANSWER = {"data": {"__typename": "Query"}}


def hash_of(text: str) -> str:
    """Return the SHA-256 hash of the document in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def persisted(text: str) -> dict[str, Any]:
    """Return the ``extensions`` of an automatic persisted query."""
    return {"persistedQuery": {"version": 1, "sha256Hash": hash_of(text)}}


async def post(client: httpx.AsyncClient, **body: object) -> Any:
    """Post the request body and return the JSON response."""
    return (await client.post("/graphql", json=body)).json()


def error_code(response: Any) -> str:
    """Return the code of the first error of a response without data."""
    assert "data" not in response
    found: str = response["errors"][0]["extensions"]["code"]
    return found


async def test_document_that_was_sent_once_is_executed_by_its_hash(client: httpx.AsyncClient) -> None:
    response = await post(client, extensions=persisted(QUERY))
    assert response["errors"][0]["message"] == "PersistedQueryNotFound"
    assert error_code(response) == "PERSISTED_QUERY_NOT_FOUND"
    assert await post(client, query=QUERY, extensions=persisted(QUERY)) == ANSWER
    assert await post(client, extensions=persisted(QUERY)) == ANSWER
    assert await post(client, documentId=f"sha256:{hash_of(QUERY)}") == ANSWER
    assert await post(client, documentId=hash_of(QUERY)) == ANSWER
    body = {"extensions": json.dumps(persisted(QUERY))}
    assert (await client.get("/graphql", params=body)).json() == ANSWER


async def test_refuses_a_document_with_another_hash_and_does_not_store_it(client: httpx.AsyncClient) -> None:
    assert error_code(await post(client, query=QUERY, extensions=persisted(OTHER))) == "BAD_USER_INPUT"
    assert error_code(await post(client, extensions=persisted(OTHER))) == "PERSISTED_QUERY_NOT_FOUND"


@pytest.mark.parametrize("text", ["{ nope }", "{", "{ " + "__typename " * 21 + "}"])
async def test_does_not_store_an_invalid_document(client: httpx.AsyncClient, text: str) -> None:
    assert error_code(await post(client, query=text, extensions=persisted(text))) == "BAD_USER_INPUT"
    assert error_code(await post(client, extensions=persisted(text))) == "PERSISTED_QUERY_NOT_FOUND"


@pytest.mark.parametrize(
    "extensions",
    [
        {"persistedQuery": {"version": 2, "sha256Hash": hash_of(QUERY)}},
        {"persistedQuery": {"version": 1}},
        {"persistedQuery": {"version": 1, "sha256Hash": 5}},
        {"persistedQuery": {"version": 1, "sha256Hash": "x" * 64}},
        {"documentId": {"a": 1}},
        {"documentId": "../../etc/passwd"},
    ],
)
async def test_refuses_malformed_hashes_and_ids(client: httpx.AsyncClient, extensions: dict[str, Any]) -> None:
    assert error_code(await post(client, extensions=extensions)) == "BAD_USER_INPUT"


async def test_processes_share_documents_through_the_cache() -> None:
    cache, schema = MemoryCache(), build_schema().documents
    await PersistedQueries(schema, cache).resolve(QUERY, persisted(QUERY))
    assert await PersistedQueries(schema, cache).resolve(None, persisted(QUERY)) == QUERY


async def test_documents_of_clients_occupy_a_bounded_part_of_the_cache() -> None:
    cache, documents = MemoryCache(), build_schema().documents
    persisted_queries = PersistedQueries(documents, cache)
    for n in range(550):
        text = f"query q{n} {{ __typename }}"
        await persisted_queries.resolve(text, persisted(text))
    assert len(persisted_queries._local) == 500  # noqa: SLF001
    cache_keys = set(cache._values._entries)  # noqa: SLF001
    assert len(cache_keys) > 400
    assert cache_keys <= {f"gateway:document:{n}" for n in range(4_096)}


async def test_keeps_the_last_used_documents_up_to_two_million_characters_in_memory() -> None:
    cache, documents = MemoryCache(), build_schema().documents
    persisted_queries = PersistedQueries(documents, cache)
    texts = [f"query q{n} {{ __typename }} #{'x' * 9_970}" for n in range(300)]
    for text in texts:
        await persisted_queries.resolve(text, persisted(text))
        await persisted_queries.resolve(None, persisted(texts[0]))
    kept = persisted_queries._local.values()  # noqa: SLF001
    assert 1_980_000 < sum(map(len, kept)) <= 2_000_000
    assert list(kept)[-1] == texts[0], "it was the last one used"
    assert texts[-1] in kept


async def test_shared_documents_expire_after_a_day(redis_url: str) -> None:
    async with open_cache(redis_url) as cache, Redis.from_url(redis_url) as redis:
        await flush(redis_url)
        await PersistedQueries(build_schema().documents, cache).resolve(QUERY, persisted(QUERY))
        (cache_key,) = await redis.keys("gateway:document:*")
        assert 24 * 3600 - 60 < await redis.ttl(cache_key) <= 24 * 3600


async def test_hanging_cache_delays_a_document_by_half_a_second() -> None:
    async with silent_server() as port, open_redis(f"redis://127.0.0.1:{port}/0", timeout_seconds=0.5) as redis:
        persisted_queries, began = PersistedQueries(build_schema().documents, RedisCache(redis)), time.monotonic()
        with pytest.raises(GraphQLError, match="PersistedQueryNotFound"):
            await persisted_queries.resolve(None, persisted(OTHER))
        assert await persisted_queries.resolve(QUERY, persisted(QUERY)) == QUERY
        assert 0.4 < time.monotonic() - began < 4


async def test_executes_documents_by_hash_over_websockets(
    temporal_address: str, services: FakeServices, cache: Cache, tmp_path: Path
) -> None:
    configured = settings(temporal_address, data_dir=tmp_path)
    async with running_gateway(configured, services, cache=cache) as gateway, gateway.open() as socket:

        async def execute(name: str, **payload: object) -> Any:
            await socket.send({"id": name, "type": "subscribe", "payload": payload})
            return await socket.receive()

        unknown = await execute("a", extensions=persisted(QUERY))
        assert unknown["type"] == "error"
        assert unknown["payload"][0]["message"] == "PersistedQueryNotFound"
        assert (await execute("b", query=QUERY, extensions=persisted(QUERY)))["payload"] == ANSWER
        assert (await socket.receive())["type"] == "complete"
        assert (await execute("c", extensions=persisted(QUERY)))["payload"] == ANSWER
        assert (await socket.receive())["type"] == "complete"
        assert (await execute("d", documentId=hash_of(QUERY)))["payload"] == ANSWER


@asynccontextmanager
async def gateway_with_manifest(
    temporal_address: str, services: FakeServices, folder: Path, *, required: bool
) -> AsyncIterator[httpx.AsyncClient]:
    """Run a gateway with a manifest that contains only ``QUERY``; yield an HTTP client of it."""
    (folder / "known.graphql").write_text(QUERY)
    assert main([str(folder), str(folder / "documents.json")]) == 0
    configured = settings(
        temporal_address,
        data_dir=folder,
        trusted_documents=folder / "documents.json",
        require_trusted_documents=required,
    )
    app = create_app(configured, Dependencies(services=services.transport, cache=MemoryCache()))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        yield client


async def test_executes_documents_of_the_manifest_by_hash_from_the_start(
    temporal_address: str, services: FakeServices, tmp_path: Path
) -> None:
    async with gateway_with_manifest(temporal_address, services, tmp_path, required=False) as client:
        assert await post(client, extensions=persisted(QUERY)) == ANSWER
        assert "errors" not in await post(client, query="{ __typename }")


async def test_refuses_documents_outside_a_required_manifest(
    temporal_address: str, services: FakeServices, tmp_path: Path
) -> None:
    async with gateway_with_manifest(temporal_address, services, tmp_path, required=True) as client:
        assert await post(client, extensions=persisted(QUERY)) == ANSWER
        assert await post(client, documentId=hash_of(QUERY)) == ANSWER
        assert await post(client, query=QUERY) == ANSWER
        for body in ({"query": OTHER}, {"query": OTHER, "extensions": persisted(OTHER)}, {}):
            assert error_code(await post(client, **body)) == "BAD_USER_INPUT"
        assert error_code(await post(client, extensions=persisted(OTHER))) == "PERSISTED_QUERY_NOT_FOUND"
        for text in (OTHER, 'subscription { operation(id: "x") { id } }'):
            stream = await client.post("/graphql", json={"query": text}, headers={"accept": "text/event-stream"})
            assert "Only documents of the manifest" in stream.text
        assert services.calls == []


async def test_every_transport_refuses_documents_outside_a_required_manifest(
    temporal_address: str, services: FakeServices, tmp_path: Path
) -> None:
    (tmp_path / "known.graphql").write_text(QUERY)
    assert main([str(tmp_path), str(tmp_path / "documents.json")]) == 0
    configured = settings(
        temporal_address,
        data_dir=tmp_path,
        trusted_documents=tmp_path / "documents.json",
        require_trusted_documents=True,
    )
    follow = 'subscription { operation(id: "x") { id } }'
    async with running_gateway(configured, services) as gateway, gateway.open() as socket, httpx.AsyncClient() as http:
        for n, body in enumerate(
            (
                {"query": OTHER},
                {"query": OTHER, "extensions": persisted(OTHER)},
                {"query": follow},
                {"query": QUERY + " "},
            )
        ):
            await socket.send({"id": f"a{n}", "type": "subscribe", "payload": body})
            message = await socket.receive()
            assert message["type"] == "error"
            assert "Only documents of the manifest" in message["payload"][0]["message"]
            for accept in ("text/event-stream", "multipart/mixed;subscriptionSpec=1.0", "application/json"):
                response = await http.post(f"{gateway.http}/graphql", json=body, headers={"accept": accept})
                assert "Only documents of the manifest" in response.text
        await socket.send({"id": "b", "type": "subscribe", "payload": {"extensions": persisted(OTHER)}})
        assert (await socket.receive())["payload"][0]["extensions"]["code"] == "PERSISTED_QUERY_NOT_FOUND"
        await socket.send({"id": "c", "type": "subscribe", "payload": {"documentId": hash_of(QUERY)}})
        assert (await socket.receive())["payload"] == ANSWER
        by_get = await http.get(f"{gateway.http}/graphql", params={"query": OTHER})
        assert "Only documents of the manifest" in by_get.text
    assert services.calls == []


async def test_does_not_execute_a_cached_document_with_another_hash() -> None:
    cache, documents = MemoryCache(), build_schema().documents
    await PersistedQueries(documents, cache).resolve(QUERY, persisted(QUERY))
    (cache_key,) = cache._values._entries  # noqa: SLF001
    await cache.set_many({cache_key: OTHER}, ttl_seconds=60)
    with pytest.raises(GraphQLError, match="PersistedQueryNotFound"):
        await PersistedQueries(documents, cache).resolve(None, persisted(QUERY))


def test_manifest_contains_each_operation_with_its_fragments(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "b.graphql").write_text(
        "# two operations\nquery One { viewer { user { ...Person } } }  query Two { __typename }"
        " fragment Unused on User { id }"
    )
    (tmp_path / "below" / "a.gql").write_text("fragment Person on User { ...Name, id } fragment Name on User { name }")
    assert main([str(tmp_path), str(tmp_path / "one.json")]) == 0
    assert main([str(tmp_path), str(tmp_path / "two.json")]) == 0
    content = (tmp_path / "one.json").read_text()
    assert content == (tmp_path / "two.json").read_text()
    one = """query One {
  viewer {
    user {
      ...Person
    }
  }
}

fragment Person on User {
  ...Name
  id
}

fragment Name on User {
  name
}"""
    two = "query Two {\n  __typename\n}"
    assert json.loads(content) == {hash_of(one): one, hash_of(two): two}
    assert list(json.loads(content)) == sorted(json.loads(content))


@pytest.mark.parametrize(
    ("content", "expected_message"),
    [
        ("{ nope }", "known.graphql: an unnamed query: Cannot query field 'nope'"),
        ("query A {\n  viewer {", "known.graphql:2: Syntax Error"),
        ("query A { viewer { user { ...Gone } } }", "A: Unknown fragment 'Gone'"),
        ("fragment F on User { id }", "There is no operation"),
        ("type A { b: Int }", "something other than operations and fragments"),
        (
            "query A { __typename }\nfragment F on User { id } fragment F on User { name }",
            "another fragment is named F",
        ),
    ],
)
def test_writes_no_manifest_with_an_invalid_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, expected_message: str
) -> None:
    (tmp_path / "known.graphql").write_text(content)
    assert main([str(tmp_path), str(tmp_path / "one.json")]) == 1
    assert expected_message in capsys.readouterr().err
    assert not (tmp_path / "one.json").exists()


def test_explains_why_no_manifest_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none"), "x"]) == 1
    assert "There is no folder" in capsys.readouterr().err
    (tmp_path / "known.graphql").write_text(QUERY)
    assert main([str(tmp_path), str(tmp_path / "gone" / "one.json")]) == 1
    assert capsys.readouterr().err.endswith("cannot be written: No such file or directory\n")
    assert main([]) == 2


APOLLO = {"format": "apollo-persisted-query-manifest", "version": 1}
OPERATION = {"id": hash_of(QUERY), "name": "Known", "type": "query", "body": QUERY}


@pytest.mark.parametrize(
    ("manifest", "ids"),
    [
        ({hash_of(QUERY): QUERY}, ()),
        ({f"sha256:{hash_of(QUERY)}": QUERY}, ()),
        ({hashlib.sha1(QUERY.encode()).hexdigest(): QUERY}, (hashlib.sha1(QUERY.encode()).hexdigest(),)),
        ({hashlib.md5(QUERY.encode()).hexdigest(): QUERY}, (hashlib.md5(QUERY.encode()).hexdigest(),)),
        ({"release-7/Known": QUERY}, ("release-7/Known",)),
        ({**APOLLO, "operations": [OPERATION]}, ()),
        ({**APOLLO, "operations": [OPERATION | {"id": "Known", "clientName": "web"}]}, ("Known",)),
    ],
)
async def test_reads_the_manifest_formats_of_client_tools(
    temporal_address: str, services: FakeServices, tmp_path: Path, manifest: Any, ids: tuple[str, ...]
) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(manifest))
    configured = settings(temporal_address, data_dir=tmp_path, trusted_documents=path, require_trusted_documents=True)
    async with running_gateway(configured, services) as gateway, gateway.open() as socket, httpx.AsyncClient() as http:
        for n, id in enumerate((*ids, hash_of(QUERY), f"sha256:{hash_of(QUERY)}")):
            requests: list[dict[str, Any]] = [
                {"documentId": id},
                {"doc_id": id},
                {"id": id},
                {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": id}}},
                {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": id}}, "query": QUERY},
                {"query": QUERY, "id": "7", "doc_id": None},
            ]
            for m, body in enumerate(requests):
                assert (await http.post(f"{gateway.http}/graphql", json=body)).json() == ANSWER, body
                params = {name: json.dumps(part) if isinstance(part, dict) else part for name, part in body.items()}
                assert (await http.get(f"{gateway.http}/graphql", params=params)).json() == ANSWER, params
                await socket.send({"id": f"{n}.{m}", "type": "subscribe", "payload": body})
                assert (await socket.receive())["payload"] == ANSWER, body
                assert (await socket.receive())["type"] == "complete"
        other = {"query": OTHER, "documentId": hash_of(QUERY)}
        assert error_code((await http.post(f"{gateway.http}/graphql", json=other)).json()) == "BAD_USER_INPUT"


@pytest.mark.parametrize(
    ("content", "expected_message"),
    [
        (None, "cannot be read: No such file or directory"),
        ("", "is not JSON"),
        ('{"a": ', "is not JSON"),
        ("[]", "it must be a JSON object from ids to documents"),
        ("{}", "it holds no documents"),
        (json.dumps({QUERY: hash_of(QUERY)}), "is not an id"),
        (json.dumps({hash_of(QUERY): {"text": QUERY}}), "it must be a JSON object from ids to documents"),
        (json.dumps({hash_of(QUERY): OTHER}), "has another SHA256 hash"),
        (json.dumps({f"sha1:{'0' * 40}": OTHER}), "has another SHA1 hash"),
        (json.dumps({"0" * 32: OTHER}), "has another MD5 hash"),
        (json.dumps({"mine": "{ nope }"}), "mine: Cannot query field 'nope'"),
        (json.dumps({"mine": "hello"}), "mine: Syntax Error"),
        (json.dumps({str(n): "{ nope }" for n in range(9)}), "... and 4 more."),
        (json.dumps(APOLLO | {"version": 2, "operations": [OPERATION]}), "version: "),
        (json.dumps(APOLLO | {"format": "other", "operations": [OPERATION]}), "format: "),
        (json.dumps(APOLLO), "operations: Field required"),
        (json.dumps(APOLLO | {"operations": [{"id": "a"}]}), "operations.0.body: Field required"),
        (json.dumps(APOLLO | {"operations": [OPERATION, OPERATION | {"body": OTHER}]}), "two different documents"),
    ],
)
def test_explains_what_is_wrong_with_an_invalid_manifest(
    tmp_path: Path, content: str | None, expected_message: str
) -> None:
    path = tmp_path / "documents.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InvalidManifest) as refused:
        read_manifest(path, build_schema().documents)
    assert expected_message in str(refused.value)
    assert str(path) in str(refused.value)
