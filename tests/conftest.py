"""What all tests share."""

from hypothesis import settings

# A slow example on a busy machine is no failure, and a failure must come back.
settings.register_profile("stas-neuro", deadline=None, derandomize=True)
settings.load_profile("stas-neuro")
