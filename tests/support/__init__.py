"""What tests share: random networks, oracles, and drivers of the command line and of Lava."""
