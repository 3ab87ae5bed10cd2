"""The console: pages for people, server-rendered and without script; it knows the other services by HTTP alone."""
