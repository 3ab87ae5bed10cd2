"""Public maps of what models cost, read into what a line of a card can say."""
