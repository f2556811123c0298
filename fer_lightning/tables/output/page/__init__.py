"""A table as one HTML page: what its cells show beside the numbers."""
