"""What a trained model is worth: metrics, corrections after training, and the result that is written."""
