"""What of this machine and this installation stands in the way of training, and what mends it."""
