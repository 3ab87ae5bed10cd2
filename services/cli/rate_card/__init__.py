"""`byok rate-card`: rate cards looked over, and put into the log."""
