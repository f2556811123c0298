"""The command ``fer``: one file for each sub-command."""
