"""A runner that is killed: it records acts, and says on standard output which of them returned from `record`.

    python -m tests.sdk.chaos_runner '{"settings…"}'

An act's name says all about it, so that one that is done again is the same act.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from byok_sdk import AsyncMeter, Meter, NotRecordedError, Settings

_EPOCH = datetime(2026, 11, 25, tzinfo=UTC)
_REPEATED = 5
_DISK_FULL_BYTES = 40_000


def tokens_of(act: int) -> int:
    """How much input the act uses."""
    return 100 + act % 97


def reply_of(act: int) -> dict[str, Any]:
    """What the provider answers to it."""
    used = {"prompt_tokens": tokens_of(act), "completion_tokens": 7, "total_tokens": tokens_of(act) + 7}
    return {"id": f"chatcmpl-{act}", "model": "deepseek-chat", "usage": used}


class Runner:
    """One process of a runner."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.name: str = told["name"]
        self.org_id: str = told["org_id"]
        self.first = max(0, told["first"] - _REPEATED)
        self.chance = random.Random(told["seed"])  # noqa: S311 - it is to be the same again
        self.settings = Settings(
            registry_url=told["url"],
            ledger_url=told["url"],
            token=told["token"],
            spool_dir=Path(told["spool_dir"]),
            linger_seconds=0.01,
            adopt_seconds=0.3,
            timeout_seconds=3.0,
            exit_seconds=0.2,
        )

    def say(self, what: str, act: int) -> None:
        """In one write, so that a kill leaves no half of a line."""
        try:
            os.write(1, f"{what} {self.name} {act}\n".encode())
        except OSError:
            # Nobody listens: the test is gone, and so is this.
            os._exit(1)

    def at(self, act: int) -> datetime:
        return _EPOCH + timedelta(seconds=act)

    def record(self, meter: Meter, act: int) -> None:
        self.say("tries", act)
        run = meter.run(org=self.org_id, user="u1", run_id=f"{self.name}-{act}")
        try:
            with run.act("step", agent=f"{self.name}-{act}", at=self.at(act)) as step:
                step.record(reply_of(act), provider="deepseek")
        except NotRecordedError:
            self.say("refused", act)
        else:
            self.say("recorded", act)

    def threads(self) -> None:
        """Some threads, each with every fourth act; now and then the disk is full for a while, or a child works too."""
        meter = Meter(self.settings)

        def work(thread: int) -> None:
            for act in range(self.first + thread, sys.maxsize, 4):
                self.record(meter, act)
                threading.Event().wait(self.chance.random() * 0.02)

        for thread in range(4):
            threading.Thread(target=work, args=(thread,), daemon=True).start()
        threading.Event().wait(self.chance.random() * 0.5)
        if self.chance.random() < 0.5 and os.fork() == 0:
            self.name += "c"
            for act in range(40):
                self.record(meter, act)
            os._exit(0)
        while True:
            if self.chance.random() < 0.3:
                self.fill_disk()
            threading.Event().wait(0.2)

    def fill_disk(self) -> None:
        """Files of this process cannot grow, as on a disk without room."""
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (_DISK_FULL_BYTES, hard))
        threading.Event().wait(self.chance.random() * 0.3)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

    async def tasks(self) -> None:
        """The same in asyncio."""
        meter = AsyncMeter(self.settings)

        async def work(task: int) -> None:
            for act in range(self.first + task, sys.maxsize, 4):
                self.say("tries", act)
                run = meter.run(org=self.org_id, user="u1", run_id=f"{self.name}-{act}")
                async with run.act("step", agent=f"{self.name}-{act}", at=self.at(act)) as step:
                    await step.record(reply_of(act), provider="deepseek")
                self.say("recorded", act)
                await asyncio.sleep(self.chance.random() * 0.02)

        await asyncio.gather(*map(work, range(4)))


if __name__ == "__main__":
    runner = Runner(json.loads(sys.argv[1]))
    if runner.chance.random() < 0.3:
        asyncio.run(runner.tasks())
    else:
        runner.threads()
