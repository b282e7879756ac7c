"""A run's folder, its log, and what is read from them."""
