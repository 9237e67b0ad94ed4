"""One package a target: everything a target's own tools need, and nothing else, is below its folder."""
