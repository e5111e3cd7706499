"""Noise schedules, continuous and discrete, and what a network may predict."""
