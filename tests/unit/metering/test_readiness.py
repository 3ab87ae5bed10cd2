"""What a worker tells of itself before it has anything to work on."""

from __future__ import annotations

from services.domain.directory import Directory
from services.metering.dead_letters.pauser import Pauser
from services.metering.dead_letters.share import Limit
from services.metering.readiness import Readiness
from services.metering.registry_follower import RegistryFollower
from services.metering.rerating.rerater import Rerater
from services.runtime.kafka_access import KafkaAccess

NOWHERE = "postgresql://nobody@127.0.0.1:9/none"


def test_a_worker_that_has_just_started_says_what_is_missing():
    limit = Limit(0.5, 300, 100, spares_largest=True)
    follower, rerater = RegistryFollower(NOWHERE, KafkaAccess("127.0.0.1:9"), Directory()), Rerater(NOWHERE)
    readiness = Readiness(NOWHERE, follower, rerater, Pauser(NOWHERE, limit))
    missing = {name: said for name, check in readiness.checks.items() if (said := check()) is not None}
    assert missing == {
        "registry_log": "the registry log is still being read, or holds no rate card",
        "partitions": "no partitions have been assigned yet",
        "ledger": "the ledger database is away",
    }
    assert readiness.lag() == {}
    rerater.failure.happened(OSError())
    assert readiness.checks["rerating"]() == "re-rating failed the last time (OSError)"
