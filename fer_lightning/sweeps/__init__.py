"""Sweeps: plan many runs, find the missing ones, and train them through Hydra's launchers."""
