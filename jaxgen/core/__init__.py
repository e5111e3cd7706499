"""The ground floor: types, checks, keys, mapped axes, errors, compiler options. Imports jax only."""
