"""The registry's use cases, each one transaction. Every write first takes the log's head (see ``outbox``).

All raise Refusal when the caller may not, or the state of things forbids it; then nothing is changed.
"""
