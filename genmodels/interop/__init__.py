"""Models of other libraries: each format has one file that reads and writes folders and one with tables of names."""
