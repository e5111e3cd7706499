"""The sub-commands of `python -m experiments.study`."""
