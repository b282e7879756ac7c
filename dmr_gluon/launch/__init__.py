"""Training with several processes, on one machine or many: start them, watch them, end them."""
