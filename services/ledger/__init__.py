"""The ledger service: takes usage events in, and answers what was booked, what it follows from, and what it saved."""
