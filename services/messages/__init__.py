"""From the wire to the core: the only readers of usage events, for Kafka, HTTP and files alike."""
