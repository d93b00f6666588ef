"""Metrics files, pictures and the HTML report."""
