"""Networks that other libraries trained, as traced graphs."""
