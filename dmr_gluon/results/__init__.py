"""Runs beside the paper's tables and beside each other."""
