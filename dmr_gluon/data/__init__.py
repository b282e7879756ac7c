"""Data sets: what they are, how they become RecordIO, how they are read."""
