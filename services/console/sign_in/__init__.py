"""Who somebody is: signing in and out, and the session in between, which lives in sealed cookies alone."""
