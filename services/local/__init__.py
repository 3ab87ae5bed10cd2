"""The whole stack on one machine: processes, ports, data directory, embedded broker and database."""
