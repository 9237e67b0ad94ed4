"""Training of STAS models in two stages, and fine-tuning of graphs."""
