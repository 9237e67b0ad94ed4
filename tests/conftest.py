"""What all tests share."""

from hypothesis import settings

# The machine is shared with other work: an example that takes long is no failure, and a failure must come back.
settings.register_profile("stas-neuro", deadline=None, derandomize=True)
settings.load_profile("stas-neuro")
