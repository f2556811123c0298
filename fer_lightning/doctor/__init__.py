"""The examination of a data set without training: its content and its faults."""
