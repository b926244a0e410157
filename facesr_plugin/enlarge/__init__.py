"""Trained networks on pictures: weights to network to tiles to picture."""
