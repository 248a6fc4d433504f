"""Mamba's mixers, and the convolution that they share."""
