"""Evaluation of a trained model: metrics, corrections after training, and the result that is written."""
