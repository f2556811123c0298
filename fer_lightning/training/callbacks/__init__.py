"""What is called while a stage is trained."""
