"""Measurements: ratios side by side in one run. None of them is a test; none asserts a time."""
