"""Loss heads, one a file: a classifier and unreduced, unweighted per-sample losses."""
