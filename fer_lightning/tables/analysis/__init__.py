"""Analysis of the runs of a table: its rows, their statistics, and comparisons between them."""
