"""Integer programs as files of lava-dl's netx (HDF5)."""
