"""What the paper prints, its training recipes, and the cells of its tables."""
