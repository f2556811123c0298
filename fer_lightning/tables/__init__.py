"""The table: what to run, what came out, and how to show it. Needs no torch."""
