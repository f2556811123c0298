"""Readers: one data set per file; each reads the annotations and returns a Manifest."""
