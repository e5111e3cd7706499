"""The exact likelihood of the probability-flow ODE, and the variational bound."""
