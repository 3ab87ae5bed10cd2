"""`python -m services.local.embedded.journal`: logs first, so that also what libraries say while they load is JSON."""

from __future__ import annotations

import importlib

from services.runtime.logs import configure_logs, log_crashes

if __name__ == "__main__":
    configure_logs("INFO", "journal")
    log_crashes()
    importlib.import_module("services.local.embedded.journal.program").main()
