"""One run: set-up, training of its stages, test. ``python -m fer_lightning.run`` is its process."""
