"""Loggers of a run: its epochs and its result, as files or on a dashboard."""
