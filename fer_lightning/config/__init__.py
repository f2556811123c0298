"""conf/ composed by Hydra; from the config to objects, and to what identifies a run."""
