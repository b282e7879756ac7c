"""What can be said of the networks without data: sizes, paths, equivalent forms."""
