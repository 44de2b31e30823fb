"""Measurements of Reprise. `make bench` runs them and prints a table; nothing here asserts a time."""
