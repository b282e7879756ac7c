"""The machine, its libraries and processes; nothing here knows of networks."""
