"""The logs of a process, seen in one of its own: every line JSON, and no library drowns the rest."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.patience import PATIENCE_SECONDS

SETUP = """
import logging, sys, threading
from services.runtime import logs
logs.configure_logs("INFO", "tested")
logs.log_crashes()
"""


def lines(code: str) -> list[dict[str, Any]]:
    """What a process logs that runs ``code``; each line is JSON."""
    done = subprocess.run(
        [sys.executable, "-c", SETUP + code], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_library_says_the_same_five_times_a_minute_and_then_how_often_it_was_silent() -> None:
    logged = lines("""
now = 1000.0
logs.time.monotonic = lambda: now
for port in range(200):
    if port == 199:
        now += 61
    logging.getLogger("kafka.cluster").error(f"refresh of {port} failed")
    logging.getLogger("kafka.cluster").error("something else")
""")
    refreshes = [line for line in logged if line["event"].startswith("refresh")]
    assert [line["event"].split()[2] for line in refreshes] == ["0", "1", "2", "3", "4", "199"]
    assert refreshes[-1]["left_out"] == 194
    assert len(logged) == 2 * len(refreshes)


def test_our_own_lines_are_all_written() -> None:
    logged = lines("""
for _ in range(50):
    logs.logger("services.metering").warning("waiting for the broker")
""")
    assert len(logged) == 50


def test_what_nobody_caught_is_one_line_of_json_with_its_traceback_and_without_a_key() -> None:
    logged = lines("""
def fail():
    raise ValueError("sk-ant-api03-abcdefghijklmnopqrstuvwxyz012345")
class Held:
    def __del__(self):
        fail()
thread = threading.Thread(target=fail)
thread.start()
thread.join()
held = Held()
del held
fail()
""")
    assert [line["level"] for line in logged] == ["critical"] * 3
    for line in logged:
        assert "Traceback" in line["exception"]
        assert "in fail" in line["exception"]
        assert "abcdefgh" not in json.dumps(line)


def test_warnings_stacks_and_lines_that_cannot_be_made_are_json_too() -> None:
    logged = lines("""
import warnings
warnings.warn("sk-ant-api03-abcdefghijklmnopqrstuvwxyz012345 is no\\nkey")
logging.getLogger("library").warning("of %d", "no number")
logging.getLogger("library").warning("here", stack_info=True)
odd = {"value": float("nan"), "more": {1: {2, 3}}, "any": object}
logging.getLogger("library").warning("not a\\nnumber", extra=odd)
try:
    raise ValueError("one") from KeyError("other")
except ValueError:
    logging.getLogger("library").exception("failed")
""")
    assert [line["logger"] for line in logged] == ["py.warnings", "services.runtime.logs", *["library"] * 3]
    warning, unmade, stack, odd, failed = logged
    assert "[masked key] is no\nkey" in warning["event"]
    assert (unmade["of"], unmade["error"]) == ("library", "TypeError")
    assert "stack_info" in stack
    assert odd["value"] == "nan"
    assert "KeyError" in failed["exception"]


def test_what_an_asyncio_task_dies_of_is_a_line_of_json() -> None:
    logged = lines("""
import asyncio, gc
async def fail():
    raise ValueError("in a task")
async def main():
    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task
    gc.collect()
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(0.01)
asyncio.run(main())
""")
    assert [line["level"] for line in logged] == ["error", "error"]
    assert "in a task" in logged[0]["exception"]
    assert "ZeroDivisionError" in logged[1]["exception"]
