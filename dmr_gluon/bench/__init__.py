"""How fast this project is on this machine: `dmr bench`."""
