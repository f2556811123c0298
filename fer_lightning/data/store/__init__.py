"""The store of prepared faces: cut out, resized, and written to memory-mapped files."""
