"""Pure mathematics on features and images."""
