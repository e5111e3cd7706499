"""The second stage of the demo: MaskGIT's prior over the 49 codes of the MNIST VQ-VAE, for minutes on 2 CPU cores.

Paper: Chang et al., "MaskGIT: masked generative image transformer", 2022.
The network is that of `token_prior_mnist`.
Result: a classifier of real images reads 100.0% of the samples as the class asked for, after 600 steps, 75 s.
"""

from experiments.configs import token_prior_mnist


def get_config(name=None):
    config = token_prior_mnist.get_config(name)
    config.objective = "maskgit"
    config.sampling.solver = "maskgit"
    if not name:
        config.update({"num_steps": 600, "evaluate_every": 600, "checkpoint_every": 200})
        config.sampling.steps = 12
    return config
