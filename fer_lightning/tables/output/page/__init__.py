"""A table as one HTML page: what its runs show beside the numbers."""
