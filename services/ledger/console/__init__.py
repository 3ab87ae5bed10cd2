"""The console: server-rendered pages that need no script, over the same handlers as the API."""
