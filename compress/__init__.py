"""What is done to a trained network to store it in fewer bytes."""
