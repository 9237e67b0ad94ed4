"""From models to graphs."""
