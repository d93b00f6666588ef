"""A work directory, the run that it holds, and what can be done with it."""
