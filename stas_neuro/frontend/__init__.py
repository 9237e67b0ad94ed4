"""Lowering of torch models to graphs, and traces of torch models."""
