"""The BYOK credit-metering system: key registry, metering and ledger, over one pure core."""
