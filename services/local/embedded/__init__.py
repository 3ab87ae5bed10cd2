"""What `byok up` runs on: a PostgreSQL and a Kafka-protocol broker that come as wheels."""
