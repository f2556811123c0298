"""Where the epochs of a run and what came out of it are shown."""
