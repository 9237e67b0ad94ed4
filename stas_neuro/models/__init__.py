"""Spiking vision transformers with halting, in torch on norse's LIF neurons."""
