"""The second stage of the demo: `token_prior_mnist` in fewer steps, for a demo of minutes on 2 CPU cores."""

from experiments.configs import token_prior_mnist


def get_config(name=None):
    config = token_prior_mnist.get_config(name)
    if not name:
        config.update({"num_steps": 600, "evaluate_every": 600, "checkpoint_every": 200})
    return config
