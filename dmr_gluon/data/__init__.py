"""Prepared data sets: open, read, augment and verify them."""
