"""Everything of a stack in which a key could come to rest or to light."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path

import httpx
import psycopg
from kafka import KafkaConsumer, TopicPartition
from psycopg.sql import SQL, Identifier

from tests.e2e.running import Stack
from tests.patience import PATIENCE_SECONDS, wait_for

Sink = tuple[str, bytes]
TOPICS = {"byok.registry-changes": 1, "byok.usage-events": 12, "byok.usage-dead-letters": 3}
_TABLES = """SELECT schemaname, relname FROM pg_stat_user_tables
             UNION SELECT 'pg_catalog', 'pg_stat_activity' UNION SELECT 'pg_catalog', 'pg_statistic'"""


def owner_dsn(stack: Stack, database: str) -> str:
    """The database as the owner of its tables."""
    passwords = json.loads((stack.data_dir / "secrets" / "passwords.json").read_text())
    service, owner = f"{database}_service", f"{database}_owner"
    dsn: str = stack.told[f"{database}_dsn"]
    return dsn.replace(passwords[service], passwords[owner]).replace(service, owner)


def tables(stack: Stack) -> Iterator[Sink]:
    """Every table of both databases: its rows as text, and each byte string in them as the bytes that it is."""
    for database in ("registry", "ledger"):
        with psycopg.connect(owner_dsn(stack, database), autocommit=True) as connection:
            for schema, table in connection.execute(_TABLES).fetchall():
                query = SQL("SELECT t::text FROM {} t").format(Identifier(schema, table))
                try:
                    text = "\n".join(row[0] for row in connection.execute(query))
                except psycopg.errors.InsufficientPrivilege:
                    continue
                yield f"table {database}: {schema}.{table}", text.encode()
                raw = b"\n".join(bytes.fromhex(run) for run in re.findall(r"\\x((?:[0-9a-f]{2})+)", text))
                yield f"table {database}: {schema}.{table} (bytes)", raw


def topics(stack: Stack, produced: Collection[tuple[int, int]]) -> Iterator[Sink]:
    """Every record: key, headers, value. ``produced`` are usage records that came from outside as they are."""
    consumer = KafkaConsumer(bootstrap_servers=stack.told["kafka"], auto_offset_reset="earliest")
    for topic, count in TOPICS.items():
        partitions = [TopicPartition(topic, number) for number in range(count)]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        content = bytearray()

        def read_to_the_end() -> bool:
            for partition, records in consumer.poll(200).items():
                for record in records:
                    if topic == "byok.usage-events" and (partition.partition, record.offset) in produced:  # noqa: B023
                        continue
                    headers = b"\n".join(name.encode() + b"=" + value for name, value in record.headers)
                    content.extend(b"\n".join([record.key or b"", headers, record.value or b"", b""]))  # noqa: B023
            # What ListOffsets calls the end is wrong on the embedded broker; the high watermark of a fetch is right.
            return all(
                (end := consumer.highwater(one)) is not None and consumer.position(one) >= end
                for one in partitions  # noqa: B023
            )

        wait_for(f"the end of {topic}", read_to_the_end)
        yield f"topic {topic}", bytes(content)
    consumer.close()


def pages(stack: Stack) -> Iterator[Sink]:
    """What a service says of itself."""
    for url in stack.told["metrics"]:
        yield f"metrics {url}", httpx.get(url, timeout=PATIENCE_SECONDS).content
    for service in ("registry_url", "ledger_url"):
        for page in ("openapi.json", "docs", "healthz", "readyz"):
            yield f"{service} {page}", httpx.get(f"{stack.told[service]}/{page}", timeout=PATIENCE_SECONDS).content


def files(folder: Path) -> Iterator[Sink]:
    """Every file below ``folder``: logs, tables, write-ahead log, whatever else is left behind."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield f"file {path.relative_to(folder)}", path.read_bytes()
