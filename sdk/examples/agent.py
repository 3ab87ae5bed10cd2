"""A small agent: it lets a model call its tools until the model is done, then writes the answer as it comes.

python sdk/examples/agent.py acme u1 "Plan my week."

Every step is recorded where it happens, with nothing but the SDK and httpx. ``BYOK_…`` say where the services are
(docs/how-to/integrate-a-runner.md), ``PROVIDER_URL`` where the provider is.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from byok_sdk import Lease, Meter, Run

PROVIDER = os.environ.get("PROVIDER_URL", "https://api.anthropic.com")
OUR_OWN_KEY = os.environ.get("OUR_OWN_KEY", "sk-ant-of-the-platform")
STEPS_MAX = 8


def calendar() -> str:
    """A tool."""
    return "Nothing on Monday."


TOOLS: dict[str, Callable[..., str]] = {"calendar": calendar}
OFFERED = [
    {"name": name, "description": tool.__doc__, "input_schema": {"type": "object"}} for name, tool in TOOLS.items()
]


@contextmanager
def asked(lease: Lease, messages: list[dict[str, Any]], **more: Any) -> Iterator[httpx.Response]:
    """The provider's answer, with the customer's key where one applies, and ours where none does."""
    body = {"model": "claude-sonnet-4-6", "max_tokens": 1000, "messages": messages} | more
    headers = {"x-api-key": lease.secret or OUR_OWN_KEY, "anthropic-version": "2023-06-01"}
    with httpx.stream("POST", f"{PROVIDER}/v1/messages", json=body, headers=headers, timeout=60) as answer:
        answer.raise_for_status()
        yield answer


def decide(run: Run, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ask what to do next: the tools that the model wants to be called."""
    lease = run.key("anthropic", otherwise="platform")
    with run.act("decide", agent="planner") as act, asked(lease, messages, tools=OFFERED) as answer:
        reply = json.loads(answer.read())
        act.record(reply, lease)  # on disk before it returns
    messages.append({"role": "assistant", "content": reply["content"]})
    return [block for block in reply["content"] if block["type"] == "tool_use"]


def carry_out(run: Run, wanted: dict[str, Any]) -> dict[str, Any]:
    """Call a tool. One that failed is free."""
    try:
        result, succeeded = TOOLS[wanted["name"]](**wanted["input"]), True
    except Exception as error:  # noqa: BLE001 - the model is told, and may try another way
        result, succeeded = f"It failed: {type(error).__name__}", False
    run.tool(wanted["name"], succeeded=succeeded)
    return {"type": "tool_result", "tool_use_id": wanted["id"], "content": result, "is_error": not succeeded}


def write(run: Run, messages: list[dict[str, Any]]) -> Iterator[str]:
    """The answer, word by word. Who stops reading it pays for what came until then."""
    lease = run.key("anthropic", otherwise="platform")
    with run.act("write", agent="writer") as act, asked(lease, messages, stream=True) as answer:
        lines = (line for line in answer.iter_lines() if line.startswith("data:"))
        for event in act.stream((json.loads(line[5:]) for line in lines), lease):
            yield event.get("delta", {}).get("text", "")


def work(run: Run, task: str) -> Iterator[str]:
    """The agent's loop."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": task}]
    run.workflow("planner")
    for _ in range(STEPS_MAX):
        wanted = decide(run, messages)
        if not wanted:
            break
        messages.append({"role": "user", "content": [carry_out(run, each) for each in wanted]})
    yield from write(run, [*messages, {"role": "user", "content": "Now write it."}])


def main(org: str, user: str, task: str, run_id: str = "") -> None:
    """Do one task. The same ``run_id`` again is the same run, and charges nothing twice."""
    with Meter.from_env() as meter, meter.run(org=org, user=user, run_id=run_id or str(uuid.uuid4())) as run:
        for text in work(run, task):
            sys.stdout.write(text)
        sys.stdout.write("\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
