"""A data set of drawn faces, and drawn people to pre-train a small backbone on."""
