"""Prepared faces: cut out, resized, and kept in memory-mapped files."""
