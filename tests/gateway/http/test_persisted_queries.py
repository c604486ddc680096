"""Documents named by their hash: those of a manifest, and automatic persisted queries as Apollo Client speaks them."""

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
from tests.gateway.fakes import Services, settings
from tests.gateway.live_gateway import running_gateway
from tests.mail_server import silent_server
from tests.redis_access import flush, open_cache, open_redis

QUERY = "query Known {\n  __typename\n}"
OTHER = "query Other {\n  viewer {\n    user {\n      id\n    }\n  }\n}"
ANSWER = {"data": {"__typename": "Query"}}


def name_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def persisted(text: str) -> dict[str, Any]:
    return {"persistedQuery": {"version": 1, "sha256Hash": name_of(text)}}


async def post(client: httpx.AsyncClient, **body: object) -> Any:
    return (await client.post("/graphql", json=body)).json()


def code(answer: Any) -> str:
    assert "data" not in answer
    found: str = answer["errors"][0]["extensions"]["code"]
    return found


async def test_a_document_that_was_sent_once_is_known_by_its_hash(client: httpx.AsyncClient) -> None:
    answer = await post(client, extensions=persisted(QUERY))
    assert answer["errors"][0]["message"] == "PersistedQueryNotFound"
    assert code(answer) == "PERSISTED_QUERY_NOT_FOUND"
    assert await post(client, query=QUERY, extensions=persisted(QUERY)) == ANSWER
    assert await post(client, extensions=persisted(QUERY)) == ANSWER
    assert await post(client, documentId=f"sha256:{name_of(QUERY)}") == ANSWER
    assert await post(client, documentId=name_of(QUERY)) == ANSWER
    asked = {"extensions": json.dumps(persisted(QUERY))}
    assert (await client.get("/graphql", params=asked)).json() == ANSWER


async def test_a_document_of_another_hash_is_refused_and_not_kept(client: httpx.AsyncClient) -> None:
    assert code(await post(client, query=QUERY, extensions=persisted(OTHER))) == "BAD_USER_INPUT"
    assert code(await post(client, extensions=persisted(OTHER))) == "PERSISTED_QUERY_NOT_FOUND"


@pytest.mark.parametrize("text", ["{ nope }", "{", "{ " + "__typename " * 21 + "}"])
async def test_a_document_that_cannot_be_carried_out_is_not_kept(client: httpx.AsyncClient, text: str) -> None:
    assert code(await post(client, query=text, extensions=persisted(text))) == "BAD_USER_INPUT"
    assert code(await post(client, extensions=persisted(text))) == "PERSISTED_QUERY_NOT_FOUND"


@pytest.mark.parametrize(
    "extensions",
    [
        {"persistedQuery": {"version": 2, "sha256Hash": name_of(QUERY)}},
        {"persistedQuery": {"version": 1}},
        {"persistedQuery": {"version": 1, "sha256Hash": 5}},
        {"persistedQuery": {"version": 1, "sha256Hash": "x" * 64}},
        {"documentId": {"a": 1}},
        {"documentId": "../../etc/passwd"},
    ],
)
async def test_a_name_that_is_none_is_refused(client: httpx.AsyncClient, extensions: dict[str, Any]) -> None:
    assert code(await post(client, extensions=extensions)) == "BAD_USER_INPUT"


async def test_processes_learn_documents_from_each_other() -> None:
    cache, schema = MemoryCache(), build_schema().documents
    await PersistedQueries(schema, cache).resolve(QUERY, persisted(QUERY))
    assert await PersistedQueries(schema, cache).resolve(None, persisted(QUERY)) == QUERY


async def test_what_strangers_send_cannot_fill_the_cache() -> None:
    cache, documents = MemoryCache(), build_schema().documents
    named = PersistedQueries(documents, cache)
    for n in range(550):
        text = f"query q{n} {{ __typename }}"
        await named.resolve(text, persisted(text))
    assert len(named._local) == 500  # noqa: SLF001
    places = set(cache._values._entries)  # noqa: SLF001
    assert len(places) > 400
    assert places <= {f"gateway:document:{n}" for n in range(4_096)}


async def test_long_documents_are_kept_at_hand_up_to_two_million_characters_those_used_last() -> None:
    cache, documents = MemoryCache(), build_schema().documents
    named = PersistedQueries(documents, cache)
    texts = [f"query q{n} {{ __typename }} #{'x' * 9_970}" for n in range(300)]
    for text in texts:
        await named.resolve(text, persisted(text))
        await named.resolve(None, persisted(texts[0]))
    kept = named._local.values()  # noqa: SLF001
    assert 1_980_000 < sum(map(len, kept)) <= 2_000_000
    assert list(kept)[-1] == texts[0], "it was used last"
    assert texts[-1] in kept


async def test_a_document_is_shared_for_a_day(redis_url: str) -> None:
    async with open_cache(redis_url) as cache, Redis.from_url(redis_url) as redis:
        await flush(redis_url)
        await PersistedQueries(build_schema().documents, cache).resolve(QUERY, persisted(QUERY))
        (place,) = await redis.keys("gateway:document:*")
        assert 24 * 3600 - 60 < await redis.ttl(place) <= 24 * 3600


async def test_a_cache_that_hangs_holds_up_a_document_for_half_a_second() -> None:
    async with silent_server() as port, open_redis(f"redis://127.0.0.1:{port}/0", timeout_seconds=0.5) as redis:
        named, began = PersistedQueries(build_schema().documents, RedisCache(redis)), time.monotonic()
        with pytest.raises(GraphQLError, match="PersistedQueryNotFound"):
            await named.resolve(None, persisted(OTHER))
        assert await named.resolve(QUERY, persisted(QUERY)) == QUERY
        assert 0.4 < time.monotonic() - began < 4


async def test_documents_are_named_by_hash_over_websockets_too(
    temporal_address: str, services: Services, cache: Cache, tmp_path: Path
) -> None:
    configured = settings(temporal_address, data_dir=tmp_path)
    async with running_gateway(configured, services, cache=cache) as gateway, gateway.open() as socket:

        async def ask(name: str, **payload: object) -> Any:
            await socket.say({"id": name, "type": "subscribe", "payload": payload})
            return await socket.next()

        unknown = await ask("a", extensions=persisted(QUERY))
        assert unknown["type"] == "error"
        assert unknown["payload"][0]["message"] == "PersistedQueryNotFound"
        assert (await ask("b", query=QUERY, extensions=persisted(QUERY)))["payload"] == ANSWER
        assert (await socket.next())["type"] == "complete"
        assert (await ask("c", extensions=persisted(QUERY)))["payload"] == ANSWER
        assert (await socket.next())["type"] == "complete"
        assert (await ask("d", documentId=name_of(QUERY)))["payload"] == ANSWER


@asynccontextmanager
async def trusting(
    temporal_address: str, services: Services, folder: Path, *, only: bool
) -> AsyncIterator[httpx.AsyncClient]:
    (folder / "known.graphql").write_text(QUERY)
    assert main([str(folder), str(folder / "documents.json")]) == 0
    configured = settings(
        temporal_address,
        data_dir=folder,
        trusted_documents=folder / "documents.json",
        require_trusted_documents=only,
    )
    app = create_app(configured, Dependencies(services=services.transport, cache=MemoryCache()))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        yield client


async def test_documents_of_the_manifest_are_known_from_the_start(
    temporal_address: str, services: Services, tmp_path: Path
) -> None:
    async with trusting(temporal_address, services, tmp_path, only=False) as client:
        assert await post(client, extensions=persisted(QUERY)) == ANSWER
        assert "errors" not in await post(client, query="{ __typename }")


async def test_where_only_documents_of_the_manifest_are_taken_all_others_are_refused(
    temporal_address: str, services: Services, tmp_path: Path
) -> None:
    async with trusting(temporal_address, services, tmp_path, only=True) as client:
        assert await post(client, extensions=persisted(QUERY)) == ANSWER
        assert await post(client, documentId=name_of(QUERY)) == ANSWER
        assert await post(client, query=QUERY) == ANSWER
        for body in ({"query": OTHER}, {"query": OTHER, "extensions": persisted(OTHER)}, {}):
            assert code(await post(client, **body)) == "BAD_USER_INPUT"
        assert code(await post(client, extensions=persisted(OTHER))) == "PERSISTED_QUERY_NOT_FOUND"
        for text in (OTHER, 'subscription { operation(id: "x") { id } }'):
            stream = await client.post("/graphql", json={"query": text}, headers={"accept": "text/event-stream"})
            assert "Only documents of the manifest" in stream.text
        assert services.calls == []


async def test_no_way_leads_around_the_manifest(temporal_address: str, services: Services, tmp_path: Path) -> None:
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
        for n, asked in enumerate(
            (
                {"query": OTHER},
                {"query": OTHER, "extensions": persisted(OTHER)},
                {"query": follow},
                {"query": QUERY + " "},
            )
        ):
            await socket.say({"id": f"a{n}", "type": "subscribe", "payload": asked})
            message = await socket.next()
            assert message["type"] == "error"
            assert "Only documents of the manifest" in message["payload"][0]["message"]
            for accept in ("text/event-stream", "multipart/mixed;subscriptionSpec=1.0", "application/json"):
                answer = await http.post(f"{gateway.http}/graphql", json=asked, headers={"accept": accept})
                assert "Only documents of the manifest" in answer.text
        await socket.say({"id": "b", "type": "subscribe", "payload": {"extensions": persisted(OTHER)}})
        assert (await socket.next())["payload"][0]["extensions"]["code"] == "PERSISTED_QUERY_NOT_FOUND"
        await socket.say({"id": "c", "type": "subscribe", "payload": {"documentId": name_of(QUERY)}})
        assert (await socket.next())["payload"] == ANSWER
        by_get = await http.get(f"{gateway.http}/graphql", params={"query": OTHER})
        assert "Only documents of the manifest" in by_get.text
    assert services.calls == []


async def test_a_document_that_somebody_puts_into_the_cache_under_another_s_name_is_not_carried_out() -> None:
    cache, documents = MemoryCache(), build_schema().documents
    await PersistedQueries(documents, cache).resolve(QUERY, persisted(QUERY))
    (place,) = cache._values._entries  # noqa: SLF001
    await cache.set_many({place: OTHER}, ttl_seconds=60)
    with pytest.raises(GraphQLError, match="PersistedQueryNotFound"):
        await PersistedQueries(documents, cache).resolve(None, persisted(QUERY))


def test_the_manifest_has_each_operation_with_the_fragments_that_it_uses(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "b.graphql").write_text(
        "# two operations\nquery One { viewer { user { ...Person } } }  query Two { __typename }"
        " fragment Unused on User { id }"
    )
    (tmp_path / "below" / "a.gql").write_text("fragment Person on User { ...Name, id } fragment Name on User { name }")
    assert main([str(tmp_path), str(tmp_path / "one.json")]) == 0
    assert main([str(tmp_path), str(tmp_path / "two.json")]) == 0
    written = (tmp_path / "one.json").read_text()
    assert written == (tmp_path / "two.json").read_text()
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
    assert json.loads(written) == {name_of(one): one, name_of(two): two}
    assert list(json.loads(written)) == sorted(json.loads(written))


@pytest.mark.parametrize(
    ("written", "said"),
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
def test_documents_that_would_be_refused_are_kept_out_of_the_manifest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], written: str, said: str
) -> None:
    (tmp_path / "known.graphql").write_text(written)
    assert main([str(tmp_path), str(tmp_path / "one.json")]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "one.json").exists()


def test_says_in_a_sentence_why_no_manifest_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none"), "x"]) == 1
    assert "There is no folder" in capsys.readouterr().err
    (tmp_path / "known.graphql").write_text(QUERY)
    assert main([str(tmp_path), str(tmp_path / "gone" / "one.json")]) == 1
    assert capsys.readouterr().err.endswith("cannot be written: No such file or directory\n")
    assert main([]) == 2


APOLLO = {"format": "apollo-persisted-query-manifest", "version": 1}
OPERATION = {"id": name_of(QUERY), "name": "Known", "type": "query", "body": QUERY}


@pytest.mark.parametrize(
    ("manifest", "ids"),
    [
        ({name_of(QUERY): QUERY}, ()),
        ({f"sha256:{name_of(QUERY)}": QUERY}, ()),
        ({hashlib.sha1(QUERY.encode()).hexdigest(): QUERY}, (hashlib.sha1(QUERY.encode()).hexdigest(),)),
        ({hashlib.md5(QUERY.encode()).hexdigest(): QUERY}, (hashlib.md5(QUERY.encode()).hexdigest(),)),
        ({"release-7/Known": QUERY}, ("release-7/Known",)),
        ({**APOLLO, "operations": [OPERATION]}, ()),
        ({**APOLLO, "operations": [OPERATION | {"id": "Known", "clientName": "web"}]}, ("Known",)),
    ],
)
async def test_the_manifests_of_clients_are_read(
    temporal_address: str, services: Services, tmp_path: Path, manifest: Any, ids: tuple[str, ...]
) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(manifest))
    configured = settings(temporal_address, data_dir=tmp_path, trusted_documents=path, require_trusted_documents=True)
    async with running_gateway(configured, services) as gateway, gateway.open() as socket, httpx.AsyncClient() as http:
        for n, id in enumerate((*ids, name_of(QUERY), f"sha256:{name_of(QUERY)}")):
            named: list[dict[str, Any]] = [
                {"documentId": id},
                {"doc_id": id},
                {"id": id},
                {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": id}}},
                {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": id}}, "query": QUERY},
                {"query": QUERY, "id": "7", "doc_id": None},
            ]
            for m, body in enumerate(named):
                assert (await http.post(f"{gateway.http}/graphql", json=body)).json() == ANSWER, body
                params = {name: json.dumps(part) if isinstance(part, dict) else part for name, part in body.items()}
                assert (await http.get(f"{gateway.http}/graphql", params=params)).json() == ANSWER, params
                await socket.say({"id": f"{n}.{m}", "type": "subscribe", "payload": body})
                assert (await socket.next())["payload"] == ANSWER, body
                assert (await socket.next())["type"] == "complete"
        other = {"query": OTHER, "documentId": name_of(QUERY)}
        assert code((await http.post(f"{gateway.http}/graphql", json=other)).json()) == "BAD_USER_INPUT"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        ("", "is not JSON"),
        ('{"a": ', "is not JSON"),
        ("[]", "it must be a JSON object from ids to documents"),
        ("{}", "it holds no documents"),
        (json.dumps({QUERY: name_of(QUERY)}), "is not an id"),
        (json.dumps({name_of(QUERY): {"text": QUERY}}), "it must be a JSON object from ids to documents"),
        (json.dumps({name_of(QUERY): OTHER}), "has another SHA256 hash"),
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
def test_a_start_with_a_wrong_manifest_says_what_is_wrong_with_it(
    tmp_path: Path, written: str | None, said: str
) -> None:
    path = tmp_path / "documents.json"
    if written is not None:
        path.write_text(written)
    with pytest.raises(InvalidManifest) as refused:
        read_manifest(path, build_schema().documents)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)
