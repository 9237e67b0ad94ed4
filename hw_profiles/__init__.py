"""What each chip costs: one TOML file a chip, every number with its unit, interval, basis and source."""
