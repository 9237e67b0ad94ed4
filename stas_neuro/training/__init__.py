"""Two-stage training of STAS models."""
