"""Analyse the networks without data: sizes, paths, equivalent forms."""
