"""Models that other libraries trained or read: two files a format, the folder and its table of names."""
