"""Shared by all rooms: errors, files, processes, progress, and the objects that rooms pass to one another."""
