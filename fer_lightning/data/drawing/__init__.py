"""Faces drawn from action units: who is pictured, what the face does, and how it is photographed."""
