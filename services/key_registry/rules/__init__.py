"""What the registry allows, pure: who may do what, how a key stands, what is refused."""
