"""Flax networks, one family per file: arrays in, arrays out, without losses, optimizers or config."""
