"""The wire contracts: what other programs write and read over Kafka. Models, topics, examples; no behaviour."""
