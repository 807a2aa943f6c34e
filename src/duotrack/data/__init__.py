"""Training data: clips on disk, rendered pairs, and the samples drawn from both. Knows no torch."""
