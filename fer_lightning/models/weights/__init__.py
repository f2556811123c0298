"""Files of pre-trained weights, read without running anything in them."""
