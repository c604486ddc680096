"""GraphiQL as the gateway serves it: the page, its assets, and the message when GraphiQL is not built."""

from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from gateway.explorer.build import main
from gateway.explorer.routes import explorer_routes


def http_client(dist: Path) -> httpx.AsyncClient:
    """Return a client of an application with the routes of GraphiQL."""
    app = Starlette(routes=explorer_routes(dist))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    """A folder with a built GraphiQL."""
    folder = tmp_path / "dist"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<title>GraphiQL</title>")
    (folder / "assets" / "index-C0ffee_1.js").write_text("go()")
    (folder / "built-from.sha256").write_text("a secret of the build")
    return folder


async def test_serves_the_page_with_a_policy_against_inline_scripts_and_other_hosts(dist: Path) -> None:
    async with http_client(dist) as client:
        response = await client.get("/graphiql")
    assert response.status_code == 200
    assert response.text == "<title>GraphiQL</title>"
    policy = dict(rule.split(" ", 1) for rule in response.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert not any("http" in sources or "*" in sources for sources in policy.values())


async def test_assets_are_immutable_and_the_page_is_revalidated(dist: Path) -> None:
    async with http_client(dist) as client:
        page = await client.get("/graphiql")
        asset = await client.get("/graphiql/assets/index-C0ffee_1.js")
    assert page.headers["cache-control"] == "no-cache"
    assert asset.text == "go()"
    assert asset.headers["content-type"].startswith("text/javascript")
    assert "immutable" in asset.headers["cache-control"]


async def test_explains_how_to_build_the_page_when_it_is_not_built(tmp_path: Path) -> None:
    async with http_client(tmp_path / "dist") as client:
        page = await client.get("/graphiql")
        asset = await client.get("/graphiql/assets/index-C0ffee_1.js")
    assert page.status_code == 200
    assert "install Node.js 20 or newer, run <code>make explorer</code> and reload this page." in page.text
    assert '<a href="/graphql/schema">' in page.text
    assert asset.status_code == 404


async def test_serves_a_build_that_completes_while_the_gateway_runs(tmp_path: Path) -> None:
    async with http_client(tmp_path) as client:
        assert "make explorer" in (await client.get("/graphiql")).text
        (tmp_path / "index.html").write_text("built")
        assert (await client.get("/graphiql")).text == "built"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "%2e%2e",
        "%2e%2e/built-from.sha256",
        "..%2fbuilt-from.sha256",
        "..%5cbuilt-from.sha256",
        "%2fetc%2fpasswd",
        "..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "index-C0ffee_1.js%00",
        "a" * 5000,
        "missing.js",
    ],
)
async def test_refuses_paths_outside_the_assets_folder(dist: Path, path: str) -> None:
    async with http_client(dist) as client:
        response = await client.get(f"/graphiql/assets/{path}")
    assert response.status_code == 404
    assert "secret" not in response.text


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A folder with the sources of GraphiQL."""
    folder = tmp_path / "app"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "main.tsx").write_text("one")
    (folder / "package-lock.json").write_text("{}")
    return folder


def fake_node_path(folder: Path, *, node: str = "v22.1.0", build: str = "true") -> str:
    """Write fake ``node`` and ``npm`` commands and return their PATH; ``npm`` appends its arguments to the file
    ``npm_calls``.
    """
    folder.mkdir()
    (folder / "node").write_text(f"#!/bin/sh\necho {node}\n")
    (folder / "npm").write_text(
        "#!/bin/sh\n"
        "echo $1 >> ../npm_calls\n"
        "[ $1 = ci ] && exec /bin/mkdir -p node_modules\n"
        f"{build} && /bin/mkdir -p ../dist && echo built > ../dist/index.html\n"
    )
    for name in ("node", "npm"):
        (folder / name).chmod(0o755)
    return str(folder)


def test_builds_again_only_after_a_change(tmp_path: Path, app: Path) -> None:
    path, npm_calls = fake_node_path(tmp_path / "bin"), tmp_path / "npm_calls"
    assert [main(app, path), main(app, path)] == [0, 0]
    assert npm_calls.read_text().split() == ["ci", "run"]
    (app / "src" / "main.tsx").write_text("two")
    assert main(app, path) == 0
    assert npm_calls.read_text().split() == ["ci", "run", "run"]
    (app / "package-lock.json").write_text('{"packages": {}}')
    assert main(app, path) == 0
    assert npm_calls.read_text().split() == ["ci", "run", "run", "ci", "run"]


def test_builds_again_after_a_failed_build(tmp_path: Path, app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(app, fake_node_path(tmp_path / "broken", build="echo no such module; false")) == 1
    output = capsys.readouterr().err
    assert "no such module" in output
    assert output.splitlines()[-1] == (
        "GraphiQL is left out: `npm run` failed with exit code 1. Run `make explorer` to try again."
    )
    assert main(app, fake_node_path(tmp_path / "bin")) == 0
    assert (tmp_path / "dist" / "index.html").is_file()


@pytest.mark.parametrize(("node", "reason"), [(None, "Node.js was not found"), ("v18.20.1", "Node.js 18 is too old")])
def test_skips_the_build_when_node_is_missing_or_too_old(
    tmp_path: Path, app: Path, node: str | None, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = fake_node_path(tmp_path / "bin", node=node) if node else str(tmp_path)
    assert main(app, path) == 0
    assert capsys.readouterr().out == (
        f"GraphiQL is left out, because {reason}: install Node.js 20 or newer and run `make explorer`.\n"
    )
    assert not (tmp_path / "dist").exists()
