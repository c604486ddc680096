"""The routes of GraphiQL: its page and assets, or a page that says how to build them."""

import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

DIST = Path(__file__).parent / "dist"

# Monaco, the editor in GraphiQL, creates style elements. Everything else must be loaded from the gateway.
PAGE_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "worker-src 'self'",
            "connect-src 'self'",
            "style-src 'self' 'unsafe-inline'",
            "font-src 'self' data:",
            "img-src 'self' data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    ),
    "X-Content-Type-Options": "nosniff",
}
# The build writes all assets into one folder. Names without a slash cannot leave that folder.
ASSET_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
# The name of each asset contains a hash of its content.
ASSET_HEADERS = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}

NOT_BUILT = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>ADX gateway · GraphiQL</title>
<body style="font: 1.1rem/1.6 system-ui, sans-serif; max-width: 40rem; margin: 20vh auto; padding: 0 1rem">
<h1>ADX gateway</h1>
<p>To get GraphiQL here, install Node.js 20 or newer, run <code>make explorer</code> and reload this page.</p>
<p>The schema is there without it: <a href="{schema_path}">{schema_path}</a></p>
"""


def explorer_routes(dist: Path, schema_path: str = "/graphql/schema") -> list[BaseRoute]:
    """Return the routes ``GET /graphiql`` and ``GET /graphiql/assets/NAME``.

    Each request reads the folder again, so that a build while the gateway runs is visible after a reload.

    Args:
        dist: the folder that ``gateway.explorer.build`` writes.
        schema_path: the path of the schema, for the page that is shown without a build.
    """
    index, assets = dist / "index.html", dist / "assets"

    async def page(_request: Request) -> Response:
        if index.is_file():
            return FileResponse(index, headers=PAGE_HEADERS)
        return HTMLResponse(NOT_BUILT.format(schema_path=schema_path), headers=PAGE_HEADERS)

    async def asset(request: Request) -> Response:
        name: str = request.path_params["name"]
        if ASSET_NAME.fullmatch(name) and (assets / name).is_file():
            return FileResponse(assets / name, headers=ASSET_HEADERS)
        return PlainTextResponse("There is no such file.", status_code=404)

    return [Route("/graphiql", page), Route("/graphiql/assets/{name}", asset)]
