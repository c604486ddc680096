"""Each code block of the README and the documentation is run by a test, or blocks.py has the reason why not."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

from playwright.async_api import async_playwright

from tests.browser.conftest import ARGUMENTS
from tests.browser.conftest import chromium as chromium
from tests.clients.conftest import node_clients as node_clients
from tests.clients.npm import installed
from tests.docs.blocks import (
    NO_PROGRAMS,
    NOT_RUN,
    RUN_ELSEWHERE,
    STARTS_THE_STACK,
    Block,
    blocks,
    is_run_elsewhere,
    read,
)
from tests.end_to_end.client import PASSWORD, Client, graphql_socket
from tests.stack import ROOT, Stack

JS_PRELUDE = """
import { WebSocket as Socket } from "ws";
globalThis.WebSocket = Socket;
const { TOKEN: token, ID: id } = process.env;
"""
JS_END = """
client.on("message", (message) => {
  if (message.type !== "pong" || !message.payload) return;
  console.log(JSON.stringify({ after: variables.after, authorization: message.payload.authorization }));
  process.exit(0);
});
client.on("connected", () => renew(process.env.NEW_TOKEN));
client.subscribe({ query: "subscription { operations { id } }" }, { next() {}, error: console.error, complete() {} });
"""


def the(page: str, language: str, containing: str = "") -> str:
    """Return the text of the page's only block in this language that contains the text."""
    (found,) = [
        each.text for each in blocks() if (each.page, each.language) == (page, language) and containing in each.text
    ]
    return found


RUN_HERE: dict[tuple[str, str], str] = {
    ("docs/quickstart.md", "python"): "test_the_quick_start_shows_several_steps_as_they_happen",
    ("docs/quickstart.md", "text"): "test_the_quick_start_shows_several_steps_as_they_happen",
    ("docs/subscriptions.md", "js"): "test_the_programs_of_subscriptions_follow_and_renew",
    ("docs/subscriptions.md", "json"): "test_the_message_that_renews_a_token_is_answered_as_described",
    ("docs/subscriptions.md", "sh"): "test_an_event_stream_looks_as_described",
    ("docs/subscriptions.md", "text"): "test_an_event_stream_looks_as_described",
    ("docs/operating.md", "sh"): "test_the_digests_of_an_address_and_an_account_are_printed",
    ("docs/frontend.md", "tsx"): "test_the_component_of_the_frontend_page_compiles",
}
"""The test below that runs the blocks, by page and language."""


def how(block: Block) -> str | None:
    """Return how the block is tested or why not; None if neither is recorded."""
    if block.language == "sh" and block.text.partition("#")[0].strip() == STARTS_THE_STACK:
        return "dev_stack"
    if is_run_elsewhere(block):
        return "elsewhere"
    return (
        NOT_RUN.get((block.page, block.first))
        or NO_PROGRAMS.get(block.language)
        or RUN_HERE.get((block.page, block.language))
    )


def test_every_block_is_run_or_says_why_not() -> None:
    unmarked = [
        f"{each.page}:{each.line} ({each.language or 'no language'}): {each.first}"
        for each in blocks()
        if not how(each)
    ]
    assert unmarked == []


def test_each_entry_is_of_a_block_that_exists_and_each_test_named_exists() -> None:
    found = blocks()
    assert set(NOT_RUN) <= {(each.page, each.first) for each in found}
    assert set(RUN_HERE) <= {(each.page, each.language) for each in found}
    assert set(RUN_HERE.values()) <= set(globals())
    for (page, heading), test in RUN_ELSEWHERE.items():
        assert any(each.page == page and heading in ("", each.heading) for each in found), page
        assert (ROOT / test).is_file(), test


def test_blocks_are_found_fenced_and_indented_and_in_lists() -> None:
    page = "# One\n\n    indented\n    more\n\n- item\n\n    of the item\n\n  ```sh\n  run\n  ```\n\n~~~\nbare\n~~~\n"
    assert [(each.language, each.text) for each in read("p", page)] == [
        ("indented", "indented"),
        ("sh", "run\n"),
        ("", "bare\n"),
    ]


def at(stack: Stack, text: str) -> str:
    """Replace the addresses in the text by those of this stack."""
    host = urlsplit(stack.url).netloc
    return (
        text.replace("127.0.0.1:8080", host)
        .replace("wss://gateway.example", f"ws://{host}")
        .replace("https://gateway.example", stack.url)
    )


async def signed_in(stack: Stack) -> Client:
    ada = Client(stack)
    await ada.log_in("ada@example.com")
    assert ada.token
    return ada


async def start_onboarding(ada: Client) -> str:
    answer = await ada.ask(
        "mutation ($input: OnboardUserInput!) { onboardUser(input: $input) { operation { id } } }",
        input={"email": f"{uuid4().hex}@example.com", "name": "Kay", "password": PASSWORD, "waitSeconds": 0},
    )
    return str(answer["onboardUser"]["operation"]["id"])


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command, env=dict(os.environ) | environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_quick_start_shows_several_steps_as_they_happen(dev_stack: Stack, tmp_path: Path) -> None:
    program = tmp_path / "quickstart.py"
    program.write_text(at(dev_stack, the("docs/quickstart.md", "python")))
    said = run(sys.executable, "-W", "error", str(program)).splitlines()
    assert len(said) == len(set(said)) >= 4
    assert any(" RUNNING  create_user COMPLETED" in line for line in said)
    shown = the("docs/quickstart.md", "text").splitlines()
    assert said[-1] == shown[-1]
    assert shown[0] in said or shown[1] in said


async def test_the_programs_of_subscriptions_follow_and_renew(
    dev_stack: Stack, node_clients: Path, tmp_path: Path
) -> None:
    first, renewing = the("docs/subscriptions.md", "js", "createClient"), the("docs/subscriptions.md", "js", "renew")
    (tmp_path / "node_modules").symlink_to(node_clients / "node_modules")
    program = tmp_path / "follow.mjs"
    program.write_text(JS_PRELUDE + at(dev_stack, first) + renewing + JS_END)
    ada, again = await signed_in(dev_stack), await signed_in(dev_stack)
    environment = {"TOKEN": str(ada.token), "NEW_TOKEN": str(again.token), "ID": await start_onboarding(ada)}
    said = json.loads(await asyncio.to_thread(run, shutil.which("node") or "node", str(program), **environment))
    assert said["authorization"] == "renewed"
    assert said["after"]


async def test_the_event_source_of_a_page_receives_each_state(dev_stack: Stack, chromium: Path) -> None:
    block = the("docs/subscriptions.md", "js", "EventSource")
    ada = await signed_in(dev_stack)
    operation_id = await start_onboarding(ada)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        async with browser, await browser.new_context(bypass_csp=True) as context:
            page = await context.new_page()
            await page.goto(f"{dev_stack.url}/healthz")
            login = "mutation ($input: LoginInput!) { login(input: $input) { operation { status } } }"
            body = {"query": login, "variables": {"input": {"email": "ada@example.com", "password": PASSWORD}}}
            await page.evaluate(
                "body => fetch('/graphql', {method: 'POST', headers: {'content-type': 'application/json'}, body})",
                json.dumps(body),
            )
            seen = await page.evaluate(
                f"""id => new Promise((resolve) => {{
                  const seen = [], show = (answer) => seen.push(answer);
                  {block}
                  events.addEventListener("complete", () => resolve(seen));
                }})""",
                operation_id,
            )
    assert [each["data"]["operation"]["id"] for each in seen] == [operation_id] * len(seen)
    assert seen[-1]["data"]["operation"]["status"] == "COMPLETED"


async def test_the_message_that_renews_a_token_is_answered_as_described(dev_stack: Stack) -> None:
    message = json.loads(the("docs/subscriptions.md", "json"))
    answer = re.search(r'`(\{"type": "pong".*?\}\})`', (ROOT / "docs" / "subscriptions.md").read_text())
    assert answer
    ada, again = await signed_in(dev_stack), await signed_in(dev_stack)
    async with graphql_socket(dev_stack.websocket, ada.token) as socket:
        await socket.send(json.dumps(message).replace("NEW-TOKEN", str(again.token)))
        assert json.loads(await asyncio.wait_for(socket.recv(), 15)) == json.loads(answer[1])


async def test_an_event_stream_looks_as_described(dev_stack: Stack) -> None:
    script = at(dev_stack, the("docs/subscriptions.md", "sh", "curl"))
    ada = await signed_in(dev_stack)
    environment = {"TOKEN": str(ada.token), "ID": await start_onboarding(ada)}
    said = await asyncio.to_thread(run, "sh", "-euc", script.replace("curl ", "curl -sS "), **environment)
    shown = the("docs/subscriptions.md", "text")
    assert shape(said).endswith(shape(shown))


def shape(events: str) -> str:
    """Remove cursors and states from the stream, so that two streams can be compared."""
    return re.sub(r'(?<=id: )\S+|(?<="status":")\w+', "...", events).strip()


def test_the_digests_of_an_address_and_an_account_are_printed() -> None:
    command = the("docs/operating.md", "sh").replace(".venv/bin/python", sys.executable)
    script = f"cd {ROOT} && {command.replace('SECRET_KEY=...', 'SECRET_KEY=' + 'k' * 32)}"
    said = run("sh", "-euc", script).splitlines()
    assert len(said) >= 3
    assert any("203.0.113.7" in line for line in said)


def test_the_component_of_the_frontend_page_compiles(tmp_path: Path) -> None:
    web = installed(ROOT / "examples" / "web")
    project = tmp_path / "examples" / "web"
    ignored = shutil.ignore_patterns("node_modules", "dist", "generated")
    shutil.copytree(web, project, ignore=ignored)
    shutil.copy(ROOT / "schema.graphql", tmp_path)
    (project / "node_modules").symlink_to(web / "node_modules")
    (project / "src" / "Onboarding.tsx").write_text(the("docs/frontend.md", "tsx"))
    done = subprocess.run(["npm", "run", "check"], cwd=project, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
