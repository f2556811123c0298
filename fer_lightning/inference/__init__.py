"""Use of a trained model, without Hydra and Lightning."""
