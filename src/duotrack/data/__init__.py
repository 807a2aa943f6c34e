"""Data sets on disk: the five benchmarks, clips to train on, rendered pairs, and the samples drawn from them.

Knows no torch.
"""
