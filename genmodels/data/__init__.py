"""Where images come from, and batches as pure functions of the step."""
