"""The one ordered log: from a change to its message, and on to the topic."""
