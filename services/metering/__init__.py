"""The metering stream processor: usage events in, ledger entries out, each exactly once."""
