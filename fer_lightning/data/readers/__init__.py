"""One data set a file; each reads annotations and returns a Manifest."""
