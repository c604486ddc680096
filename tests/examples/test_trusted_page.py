"""The example page on a gateway that executes only the documents of the page's own manifest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from playwright.async_api import Browser, FilePayload, expect

from tests.clients.npm import installed_project
from tests.examples.page import WEB, Site, Visit, npm, running_site

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def trusted_site(chromium: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The page built with trusted documents, in front of a gateway that requires them."""
    installed_project(WEB)
    folder = tmp_path_factory.mktemp("trusting")
    built, manifest = folder / "dist", folder / "documents.json"
    npm("run", "build", "--", "--outDir", str(built), VITE_TRUSTED_DOCUMENTS="true")
    manifest.write_bytes((WEB / "src" / "adx" / "generated" / "persisted-documents.json").read_bytes())
    environment = {"TRUSTED_DOCUMENTS": str(manifest), "REQUIRE_TRUSTED_DOCUMENTS": "true"}
    with running_site(folder, built=built, **environment) as site:
        yield site


async def test_page_works_with_trusted_documents_only(shared_browser: Browser, trusted_site: Site) -> None:
    async with await shared_browser.new_context() as context:
        visit = Visit(await context.new_page(), trusted_site)
        bodies: list[str] = []
        visit.page.on("request", lambda request: bodies.append(request.post_data or ""))
        await visit.sign_in_and_wait("ada@example.com", "Ada")
        file = FilePayload(name=f"{uuid4().hex[:8]}.txt", mimeType="text/plain", buffer=b"words")
        await visit.page.get_by_label("Upload a file").set_input_files(file)
        await expect(visit.operation("File upload")).to_contain_text("Completed")
        await visit.page.get_by_label("Tenant: Acme").click()
        await visit.page.get_by_role("button", name="Globex").click()
        await expect(visit.page.get_by_text("Admin at Globex")).to_be_visible()
        await expect(visit.state).to_have_text("Live")
        await visit.sign_out()
    async with httpx.AsyncClient(trust_env=False) as http:
        refused = await http.post(f"{trusted_site.stack.url}/graphql", json={"query": "{ __typename }"})
    assert "Only documents of the manifest" in refused.text
    requests = [body for body in bodies if body.startswith("{")]
    assert requests
    assert not any('"query"' in body for body in requests)
    subscribed = [frame for frame in visit.sent if '"subscribe"' in frame]
    assert (
        len([frame for frame in subscribed if '"sha256Hash"' in frame and '"query":""' in frame]) == len(subscribed) > 1
    )
