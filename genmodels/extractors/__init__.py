"""Networks that turn images into features and logits."""
