"""Layers and transformations that several networks share: Flax modules and pure functions on arrays."""
