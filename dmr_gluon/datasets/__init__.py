"""Prepare data sets as RecordIO."""
