"""What runners install: leases of customers' LLM keys, and usage events that are neither lost nor charged twice.

meter = Meter.from_env()
with meter.run(org="acme", user="u1", team="t1", run_id="r42") as run:
    lease = run.key("anthropic", otherwise="raise")
    with run.act("plan", agent="a1") as act:
        reply = anthropic.Anthropic(api_key=lease.secret).messages.create(...)
        act.record(reply, lease)
"""

from byok_sdk.async_meter import AsyncMeter
from byok_sdk.async_runs import AsyncAct, AsyncMeteredStream, AsyncRun
from byok_sdk.errors import (
    ActNotRecordedError,
    ByokError,
    ClosedError,
    InvalidEventError,
    NoOwnKeyError,
    NotRecordedError,
    RegistryAwayError,
    RegistryError,
    RegistryRefusedError,
    SettingsError,
    SpoolFullError,
    StepTakenError,
    UsageError,
    UsageMissingError,
)
from byok_sdk.leases import Lease
from byok_sdk.meter import Meter
from byok_sdk.observer import tagged
from byok_sdk.runs import Act, MeteredStream, Run
from byok_sdk.settings import Settings
from byok_sdk.spool import Counts
from byok_sdk.usage.measured import Usage

__version__ = "0.1.0"

__all__ = [
    "Act",
    "ActNotRecordedError",
    "AsyncAct",
    "AsyncMeter",
    "AsyncMeteredStream",
    "AsyncRun",
    "ByokError",
    "ClosedError",
    "Counts",
    "InvalidEventError",
    "Lease",
    "Meter",
    "MeteredStream",
    "NoOwnKeyError",
    "NotRecordedError",
    "RegistryAwayError",
    "RegistryError",
    "RegistryRefusedError",
    "Run",
    "Settings",
    "SettingsError",
    "SpoolFullError",
    "StepTakenError",
    "Usage",
    "UsageError",
    "UsageMissingError",
    "tagged",
]
