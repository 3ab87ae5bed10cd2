"""What became known late: entries put right by reversal and correction."""
