"""How the Faust application is set up, where no test can wait long enough to see it."""

from __future__ import annotations

from schemas.topics import USAGE_EVENTS
from services.metering.settings import StreamSettings
from services.metering.stream.app import create_faust_app


def test_a_worker_stays_in_its_group_for_as_long_as_the_topic_keeps_what_waits() -> None:
    # Past this interval without a fetch it leaves the group, and cannot come back: a paused worker fetches nothing.
    kept_seconds = int(USAGE_EVENTS.config["retention.ms"]) / 1000
    assert create_faust_app(StreamSettings()).conf.broker_max_poll_interval > kept_seconds
