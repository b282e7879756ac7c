"""A run's folder and log, and everything that is read from them."""
