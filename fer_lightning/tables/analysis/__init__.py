"""What the runs of a table say: its rows, their statistics, and comparisons between them."""
