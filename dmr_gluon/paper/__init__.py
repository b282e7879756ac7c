"""Published numbers, training recipes, and the cells of the tables."""
