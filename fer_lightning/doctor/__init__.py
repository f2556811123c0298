"""Reads a data set without training: what is in it, and what is wrong with it."""
