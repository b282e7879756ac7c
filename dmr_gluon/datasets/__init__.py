"""How data sets are prepared as RecordIO."""
