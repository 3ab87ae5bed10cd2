"""`make kafka`: Apache Kafka with our topics on this machine, until Ctrl-C. `--fetch` only fetches what it needs."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from services.runtime.kafka_access import KafkaAccess
from services.runtime.topics import create_topics
from tests.kafka.apache_kafka import ApacheKafka
from tests.kafka.jars import KafkaUnavailableError, cache_folder, fetch, version


def main() -> int:
    """Run until told to stop."""
    parser = argparse.ArgumentParser(prog="make kafka", description=__doc__)
    parser.add_argument("--fetch", action="store_true", help="fetch the jars, say where they are, and end")
    parser.add_argument("--data-dir", type=Path, help="keep the log there (default: a folder that goes with us)")
    parser.add_argument("--port-base", type=int, help="take five consecutive ports from there on (default: free ones)")
    options = parser.parse_args()
    try:
        if options.fetch:
            fetch()
            _say(f"Apache Kafka {version()} is in {cache_folder()}")
            return 0
        if options.data_dir is not None:
            return _serve(ApacheKafka(options.data_dir, port=options.port_base))
        with tempfile.TemporaryDirectory(prefix="byok-kafka-") as folder:
            return _serve(ApacheKafka(Path(folder), port=options.port_base))
    except KafkaUnavailableError as error:
        _say(str(error))
        return 1


def _serve(kafka: ApacheKafka) -> int:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    began = time.monotonic()
    try:
        kafka.start()
        create_topics(KafkaAccess(kafka.bootstrap), replication_factor=1)
        _say(f"Apache Kafka {version()}, ready after {time.monotonic() - began:.1f} s; end it with Ctrl-C:")
        _say(f"  export BYOK_KAFKA_BOOTSTRAP={kafka.bootstrap}")
        stop.wait()
    finally:
        kafka.stop()
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
