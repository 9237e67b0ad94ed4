"""Networks as files of the neuromorphic intermediate representation (NIR)."""
