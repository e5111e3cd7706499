"""Noise levels, solvers, guidance, the sampling loop, editing."""
