"""Facial-expression recognition on imbalanced faces, compared in a table that can be trusted."""

__version__ = "0.1.0"
