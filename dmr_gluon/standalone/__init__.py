"""Programs that import nothing of this package, and travel with bundles."""
