"""One run: set up, trained stage by stage, tested. `python -m fer_lightning.run` is a process of its own."""
