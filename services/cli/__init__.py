"""The command line `byok`, and the whole stack on one machine (`byok up`). Not a service."""
