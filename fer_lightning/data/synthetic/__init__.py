"""A data set of drawn faces, and the people that a small backbone is pre-trained on."""
