"""Metrics as pure mathematics on features and images; they know no model, no file and no flag."""
