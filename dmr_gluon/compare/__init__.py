"""Comparison of results with the paper and with each other."""
