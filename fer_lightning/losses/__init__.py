"""Loss heads, one per file: each has a classifier and returns unreduced, unweighted losses per sample."""
