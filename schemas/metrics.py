"""Every metric with its type, labels and unit, in one table (docs/contract.md, section 9)."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """The metric's type in Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Unit(StrEnum):
    """What one of it is."""

    EVENTS = "events"
    RECORDS = "records"
    CREDITS = "credits"
    CHANGES = "changes"
    CREDENTIALS = "credentials"
    MESSAGES = "messages"
    REPORTS = "reports"
    ORIGINS = "origins"
    DIFFERENCES = "differences"
    SECONDS = "seconds"
    YES = "1 for yes, 0 for no"


class Service(StrEnum):
    """Whose ``/metrics`` it is on."""

    KEY_REGISTRY = "key_registry"
    METERING = "metering"
    LEDGER = "ledger"
    CONSOLE = "console"
    VERIFY = "verify"
    """No service: ``byok verify`` writes a file, which node_exporter shows."""


class Metric(NamedTuple):
    """One metric: all but ``help`` is part of the contract."""

    name: str
    """As it is scraped: a counter's ends in ``_total``."""
    kind: Kind
    unit: Unit
    labels: tuple[str, ...]
    shown_by: tuple[Service, ...]
    help: str


_LEDGER = (Service.LEDGER,)
_METERING = (Service.METERING,)
_KEY_REGISTRY = (Service.KEY_REGISTRY,)
_ALL_OF_THE_LOG = (Service.KEY_REGISTRY, Service.METERING, Service.LEDGER)
_EVERY_SERVICE = (*_ALL_OF_THE_LOG, Service.CONSOLE)
_PRICED = ("event_type", "provider", "key_source", "byok_scope")


USAGE_EVENTS = Metric(
    "byok_usage_events_total",
    Kind.COUNTER,
    Unit.EVENTS,
    ("event_type", "outcome"),
    _LEDGER,
    "Usage events by what became of them.",
)
LIST_CREDITS = Metric(
    "byok_list_credits_total", Kind.COUNTER, Unit.CREDITS, _PRICED, _LEDGER, "Credits at list price, charges only."
)
CHARGED_CREDITS = Metric(
    "byok_charged_credits_total", Kind.COUNTER, Unit.CREDITS, _PRICED, _LEDGER, "Credits charged, charges only."
)
SAVED_CREDITS = Metric(
    "byok_saved_credits_total", Kind.COUNTER, Unit.CREDITS, _PRICED, _LEDGER, "Credits saved by own keys, charges only."
)
CORRECTIONS = Metric(
    "byok_corrections_total", Kind.COUNTER, Unit.EVENTS, ("reason",), _LEDGER, "Corrections after late knowledge."
)
CORRECTED_CREDITS = Metric(
    "byok_corrected_credits_total",
    Kind.COUNTER,
    Unit.CREDITS,
    ("reason", "direction"),
    _LEDGER,
    "Credits moved by corrections.",
)
DEAD_LETTERS = Metric(
    "byok_dead_letters_total", Kind.COUNTER, Unit.EVENTS, ("reason",), _LEDGER, "Events that were refused."
)
REMOVED_DEAD_LETTERS = Metric(
    "byok_removed_dead_letters_total",
    Kind.COUNTER,
    Unit.EVENTS,
    ("reason",),
    _LEDGER,
    "Dead letters whose time was over, and that were removed.",
)
CREDENTIAL_FLAGS = Metric(
    "byok_credential_flags_total", Kind.COUNTER, Unit.EVENTS, ("flag",), _LEDGER, "Charges that carry a flag."
)
UNRATED_ENTRIES = Metric(
    "byok_unrated_entries",
    Kind.GAUGE,
    Unit.EVENTS,
    ("reason",),
    _LEDGER,
    "Entries that stand as they are because they could not be rated anew after a change.",
)
CONSERVATION_RESIDUAL = Metric(
    "byok_conservation_residual_events",
    Kind.GAUGE,
    Unit.EVENTS,
    ("partition",),
    _LEDGER,
    "Offsets or events that a partition's books do not account for; anything but 0 is an alarm.",
)
RERATING_OLDEST = Metric(
    "byok_rerating_oldest_seconds",
    Kind.GAUGE,
    Unit.SECONDS,
    (),
    _LEDGER,
    "Age of the oldest registry change that is not worked off yet; 0: none.",
)
FEED_UNPLACED_OLDEST = Metric(
    "byok_feed_unplaced_oldest_seconds",
    Kind.GAUGE,
    Unit.SECONDS,
    (),
    _LEDGER,
    "How long the oldest entries without a place in the feed have waited for one; 0: none.",
)
DOOR_REFUSALS = Metric(
    "byok_door_refusals_total",
    Kind.COUNTER,
    Unit.EVENTS,
    ("reason",),
    _LEDGER,
    "Usage events that were refused over HTTP although they are well-formed.",
)
EVENT_TO_LEDGER = Metric(
    "byok_event_to_ledger_seconds",
    Kind.HISTOGRAM,
    Unit.SECONDS,
    ("event_type",),
    _METERING,
    "From the Kafka record's timestamp to the commit of its ledger entry.",
)
CONSUMER_LAG = Metric(
    "byok_consumer_lag_events",
    Kind.GAUGE,
    Unit.RECORDS,
    ("topic", "partition"),
    _METERING,
    "Records that are not yet booked.",
)
METERING_PAUSED = Metric(
    "byok_metering_paused",
    Kind.GAUGE,
    Unit.YES,
    (),
    _METERING,
    "1 while this worker books nothing because too many events became dead letters; else 0.",
)
FAILING_ORIGINS = Metric(
    "byok_failing_origins",
    Kind.GAUGE,
    Unit.ORIGINS,
    ("kind",),
    _METERING,
    "Organizations, and sources, of whose own events too many became dead letters lately.",
)
UNREADABLE_RECORDS = Metric(
    "byok_unreadable_records_total",
    Kind.COUNTER,
    Unit.RECORDS,
    (),
    _METERING,
    "Records that became dead letters because the bytes in the log cannot be read, since this worker started.",
)
COMMIT = Metric(
    "byok_commit_seconds",
    Kind.HISTOGRAM,
    Unit.SECONDS,
    (),
    _METERING,
    "How long the transaction took that booked a batch, from its first statement to its commit.",
)
BATCH = Metric(
    "byok_batch_events", Kind.HISTOGRAM, Unit.EVENTS, (), _METERING, "Events that were booked in one transaction."
)
REGISTRY_SEQ = Metric(
    "byok_registry_seq", Kind.GAUGE, Unit.CHANGES, ("service",), _ALL_OF_THE_LOG, "The last registry change known here."
)
OUTBOX_PENDING = Metric(
    "byok_outbox_pending",
    Kind.GAUGE,
    Unit.MESSAGES,
    ("outbox",),
    (Service.KEY_REGISTRY, Service.LEDGER),
    "Messages that the broker does not have yet.",
)
OUTBOX_OLDEST = Metric(
    "byok_outbox_oldest_seconds",
    Kind.GAUGE,
    Unit.SECONDS,
    ("outbox",),
    (Service.KEY_REGISTRY, Service.LEDGER),
    "How long the oldest of them has waited; 0: none.",
)
ACTIVE_CREDENTIALS = Metric(
    "byok_active_credentials",
    Kind.GAUGE,
    Unit.CREDENTIALS,
    ("scope", "provider"),
    _KEY_REGISTRY,
    "Keys that are switched on.",
)
FAILING_CREDENTIALS = Metric(
    "byok_failing_credentials",
    Kind.GAUGE,
    Unit.CREDENTIALS,
    ("provider", "outcome"),
    _KEY_REGISTRY,
    "Keys that are switched on and that their provider rejects, or whose credit is exhausted, as reported last.",
)
REGISTRY_LOG_AHEAD = Metric(
    "byok_registry_log_ahead_seconds",
    Kind.GAUGE,
    Unit.SECONDS,
    (),
    _KEY_REGISTRY,
    "How far the times of the registry log are ahead of the clock.",
)
REGISTRY_CLOCK_DIFFERENCE = Metric(
    "byok_registry_clock_difference_seconds",
    Kind.GAUGE,
    Unit.SECONDS,
    (),
    _KEY_REGISTRY,
    "How far the clock of the database is ahead of this service's.",
)

KEY_REPORTS = Metric(
    "byok_key_reports_total",
    Kind.COUNTER,
    Unit.REPORTS,
    ("provider", "outcome"),
    _KEY_REGISTRY,
    "Reports of runners on how a key fared at its provider.",
)
LEASE = Metric(
    "byok_lease_seconds",
    Kind.HISTOGRAM,
    Unit.SECONDS,
    ("outcome",),
    _KEY_REGISTRY,
    "How long leases of keys took, by what came of them.",
)
HTTP_REQUEST = Metric(
    "byok_http_request_seconds",
    Kind.HISTOGRAM,
    Unit.SECONDS,
    ("method", "route", "status"),
    _EVERY_SERVICE,
    "How long requests took until the last byte of the answer was handed on, by template of the route.",
)
BUILD_INFO = Metric(
    "byok_build_info", Kind.GAUGE, Unit.YES, ("version",), _EVERY_SERVICE, "The release that runs here; always 1."
)

VERIFY_DIFFERENCES = Metric(
    "byok_verify_differences",
    Kind.GAUGE,
    Unit.DIFFERENCES,
    ("run",),
    (Service.VERIFY,),
    "Differences that the last byok verify of this kind found.",
)
VERIFY_FINISHED = Metric(
    "byok_verify_finished_timestamp_seconds",
    Kind.GAUGE,
    Unit.SECONDS,
    ("run",),
    (Service.VERIFY,),
    "When the last byok verify of this kind came to its end, in seconds since 1970.",
)

METRICS: tuple[Metric, ...] = tuple(each for each in tuple(vars().values()) if isinstance(each, Metric))
"""All of them, in the order above."""

PROCESS_METRICS = (
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
    "python_info",
)
"""What Prometheus' own client tells of each service's process (the first six on Linux), in its own words."""
