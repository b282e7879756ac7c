"""Results beside the paper's tables."""
