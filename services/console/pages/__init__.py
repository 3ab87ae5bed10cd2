"""The pages, one file each; routes.py says where each stands."""
