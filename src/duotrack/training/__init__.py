"""Training by coupled knowledge distillation."""
