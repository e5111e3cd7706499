"""Autoencoders in the format of taming-transformers."""
