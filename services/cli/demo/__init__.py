"""`byok demo`: three simulated organizations on a stack of their own, and what their keys save them."""
