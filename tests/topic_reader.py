"""All that lies in a topic by now, however long a slow machine takes to hand it out."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from tests.patience import PATIENCE_SECONDS, wait_for

_MARK = b"a test has read up to here"


def everything(bootstrap: str, topic: str) -> list[Any]:
    """Every record of the topic, in the order of each partition, but for the marks of those who have read it."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    with closing(consumer):
        consumer.assign([TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)])
        consumer.seek_to_beginning()
        return read_on(consumer, bootstrap)


def read_on(consumer: KafkaConsumer, bootstrap: str) -> list[Any]:
    """What lies between where the consumer stands in each of its partitions and now.

    Silence proves nothing on a slow machine, so a mark is sent to each partition, and read for.
    """
    with closing(KafkaProducer(bootstrap_servers=bootstrap, acks="all")) as producer:
        places = consumer.assignment()
        sent = {place: producer.send(place.topic, _MARK, _MARK, partition=place.partition) for place in places}
        marks = {place: future.get(PATIENCE_SECONDS).offset for place, future in sent.items()}
    found: list[Any] = []

    def all_read() -> bool:
        for records in consumer.poll(timeout_ms=200).values():
            found.extend(records)
        return all(consumer.position(place) > mark for place, mark in marks.items())

    wait_for("the marks", all_read)
    return [record for record in found if record.value != _MARK]
