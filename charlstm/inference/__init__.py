"""Trained models without torch: one step at a time, sampling and filling gaps."""
