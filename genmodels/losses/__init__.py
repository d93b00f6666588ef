"""Losses that tasks share: pure functions of scores and images."""
