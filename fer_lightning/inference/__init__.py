"""A trained model for those who only use it; needs neither Hydra nor Lightning."""
