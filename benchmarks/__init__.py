"""Figures that anyone can reproduce: `python -m benchmarks.NAME`, from the root of the repository.

Each runs the mirror and, where it is installed, nginx side by side on loopback, in turns, and prints ratios of medians.
"""
