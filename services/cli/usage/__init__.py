"""`byok usage`: usage events from files onto the topic."""
