"""A test runs each code block of the README and the documentation, or blocks.py has the reason why not."""

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
from tests.clients.npm import installed_project
from tests.docs.blocks import (
    NOT_RUN,
    STARTS_THE_STACK,
    TESTED_ELSEWHERE,
    Block,
    all_blocks,
    is_tested_elsewhere,
    parse_blocks,
)
from tests.end_to_end.client import PASSWORD, Client, graphql_socket
from tests.stack import ROOT, Stack

JAVASCRIPT_START = """
import { WebSocket as Socket } from "ws";
globalThis.WebSocket = Socket;
const { TOKEN: token, ID: id } = process.env;
"""
JAVASCRIPT_END = """
client.on("message", (message) => {
  if (message.type !== "pong" || !message.payload) return;
  console.log(JSON.stringify({ after: variables.after, authorization: message.payload.authorization }));
  process.exit(0);
});
client.on("connected", () => renew(process.env.NEW_TOKEN));
client.subscribe({ query: "subscription { operations { id } }" }, { next() {}, error: console.error, complete() {} });
"""


def only_block(page: str, language: str, containing: str = "") -> str:
    """Return the text of the page's only block in this language that contains the text."""
    (found,) = [
        each.text for each in all_blocks() if (each.page, each.language) == (page, language) and containing in each.text
    ]
    return found


TESTED_HERE: dict[tuple[str, str], str] = {
    ("docs/quickstart.md", "python"): "test_quick_start_program_prints_the_steps",
    ("docs/quickstart.md", "text"): "test_quick_start_program_prints_the_steps",
    ("docs/subscriptions.md", "js"): "test_websocket_programs_follow_an_operation_and_renew_the_token",
    ("docs/subscriptions.md", "json"): "test_token_renewal_message_receives_the_described_answer",
    ("docs/subscriptions.md", "sh"): "test_event_stream_has_the_described_form",
    ("docs/subscriptions.md", "text"): "test_event_stream_has_the_described_form",
    ("docs/operating.md", "sh"): "test_pseudonyms_command_prints_digests_of_address_and_account",
    ("docs/frontend.md", "tsx"): "test_component_of_the_frontend_page_compiles",
}
"""The test below that runs the blocks, by page and language."""


def coverage_of(block: Block) -> str | None:
    """Return the test of the block or the reason why it has none; None if neither is recorded."""
    if block.language == "sh" and block.text.partition("#")[0].strip() == STARTS_THE_STACK:
        return "dev_stack"
    if is_tested_elsewhere(block):
        return "elsewhere"
    return NOT_RUN.get((block.page, block.first_line)) or TESTED_HERE.get((block.page, block.language))


def test_every_code_block_has_a_test_or_a_reason() -> None:
    unmarked = [
        f"{each.page}:{each.line} ({each.language or 'no language'}): {each.first_line}"
        for each in all_blocks()
        if not coverage_of(each)
    ]
    assert unmarked == []


def test_every_entry_names_an_existing_block_and_test() -> None:
    found = all_blocks()
    assert set(NOT_RUN) <= {(each.page, each.first_line) for each in found}
    assert set(TESTED_HERE) <= {(each.page, each.language) for each in found}
    assert set(TESTED_HERE.values()) <= set(globals())
    for (page, heading), test in TESTED_ELSEWHERE.items():
        assert any(each.page == page and heading in ("", each.heading) for each in found), page
        assert (ROOT / test).is_file(), test


def test_parser_finds_fenced_and_indented_blocks() -> None:
    page = "# One\n\n    indented\n    more\n\n- item\n\n    of the item\n\n  ```sh\n  run\n  ```\n\n~~~\nbare\n~~~\n"
    assert [(each.language, each.text) for each in parse_blocks("p", page)] == [
        ("indented", "indented"),
        ("sh", "run\n"),
        ("", "bare\n"),
    ]


def with_addresses_of(stack: Stack, text: str) -> str:
    """Replace the gateway addresses in the text by those of this stack."""
    host = urlsplit(stack.url).netloc
    return (
        text.replace("127.0.0.1:8080", host)
        .replace("wss://gateway.example", f"ws://{host}")
        .replace("https://gateway.example", stack.url)
    )


async def logged_in_client(stack: Stack) -> Client:
    """Return a client of the demo administrator."""
    ada = Client(stack)
    await ada.log_in("ada@example.com")
    assert ada.token
    return ada


async def start_onboarding(ada: Client) -> str:
    """Start an operation and return its id."""
    answer = await ada.execute(
        "mutation ($input: OnboardUserInput!) { onboardUser(input: $input) { operation { id } } }",
        input={"email": f"{uuid4().hex}@example.com", "name": "Kay", "password": PASSWORD, "waitSeconds": 0},
    )
    return str(answer["onboardUser"]["operation"]["id"])


def run_program(*command: str, **environment: str) -> str:
    """Run the command and return its standard output."""
    done = subprocess.run(
        command, env=dict(os.environ) | environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_quick_start_program_prints_the_steps(dev_stack: Stack, tmp_path: Path) -> None:
    program = tmp_path / "quickstart.py"
    program.write_text(with_addresses_of(dev_stack, only_block("docs/quickstart.md", "python")))
    output = run_program(sys.executable, "-W", "error", str(program)).splitlines()
    assert len(output) == len(set(output)) >= 4
    assert any(" RUNNING  create_user COMPLETED" in line for line in output)
    shown = only_block("docs/quickstart.md", "text").splitlines()
    assert output[-1] == shown[-1]
    assert shown[0] in output or shown[1] in output


async def test_websocket_programs_follow_an_operation_and_renew_the_token(
    dev_stack: Stack, node_clients: Path, tmp_path: Path
) -> None:
    first, renewing = (
        only_block("docs/subscriptions.md", "js", "createClient"),
        only_block("docs/subscriptions.md", "js", "renew"),
    )
    (tmp_path / "node_modules").symlink_to(node_clients / "node_modules")
    program = tmp_path / "follow.mjs"
    program.write_text(JAVASCRIPT_START + with_addresses_of(dev_stack, first) + renewing + JAVASCRIPT_END)
    ada, again = await logged_in_client(dev_stack), await logged_in_client(dev_stack)
    environment = {"TOKEN": str(ada.token), "NEW_TOKEN": str(again.token), "ID": await start_onboarding(ada)}
    output = json.loads(
        await asyncio.to_thread(run_program, shutil.which("node") or "node", str(program), **environment)
    )
    assert output["authorization"] == "renewed"
    assert output["after"]


async def test_event_source_of_a_browser_receives_each_state(dev_stack: Stack, chromium: Path) -> None:
    block = only_block("docs/subscriptions.md", "js", "EventSource")
    ada = await logged_in_client(dev_stack)
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


async def test_token_renewal_message_receives_the_described_answer(dev_stack: Stack) -> None:
    message = json.loads(only_block("docs/subscriptions.md", "json"))
    answer = re.search(r'`(\{"type": "pong".*?\}\})`', (ROOT / "docs" / "subscriptions.md").read_text())
    assert answer
    ada, again = await logged_in_client(dev_stack), await logged_in_client(dev_stack)
    async with graphql_socket(dev_stack.websocket, ada.token) as socket:
        await socket.send(json.dumps(message).replace("NEW-TOKEN", str(again.token)))
        assert json.loads(await asyncio.wait_for(socket.recv(), 15)) == json.loads(answer[1])


async def test_event_stream_has_the_described_form(dev_stack: Stack) -> None:
    script = with_addresses_of(dev_stack, only_block("docs/subscriptions.md", "sh", "curl"))
    ada = await logged_in_client(dev_stack)
    environment = {"TOKEN": str(ada.token), "ID": await start_onboarding(ada)}
    output = await asyncio.to_thread(run_program, "sh", "-euc", script.replace("curl ", "curl -sS "), **environment)
    shown = only_block("docs/subscriptions.md", "text")
    assert without_cursors_and_states(output).endswith(without_cursors_and_states(shown))


def without_cursors_and_states(events: str) -> str:
    """Remove cursors and states from the stream, so that two streams can be compared."""
    return re.sub(r'(?<=id: )\S+|(?<="status":")\w+', "...", events).strip()


def test_pseudonyms_command_prints_digests_of_address_and_account() -> None:
    command = only_block("docs/operating.md", "sh").replace(".venv/bin/python", sys.executable)
    script = f"cd {ROOT} && {command.replace('SECRET_KEY=...', 'SECRET_KEY=' + 'k' * 32)}"
    output = run_program("sh", "-euc", script).splitlines()
    assert len(output) >= 3
    assert any("203.0.113.7" in line for line in output)


def test_component_of_the_frontend_page_compiles(tmp_path: Path) -> None:
    web = installed_project(ROOT / "examples" / "web")
    project = tmp_path / "examples" / "web"
    ignored = shutil.ignore_patterns("node_modules", "dist", "generated")
    shutil.copytree(web, project, ignore=ignored)
    shutil.copy(ROOT / "schema.graphql", tmp_path)
    (project / "node_modules").symlink_to(web / "node_modules")
    (project / "src" / "Onboarding.tsx").write_text(only_block("docs/frontend.md", "tsx"))
    done = subprocess.run(["npm", "run", "check"], cwd=project, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
