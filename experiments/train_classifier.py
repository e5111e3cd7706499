"""Train a small classifier, whose features make a perceptual distance for images that ImageNet has nothing like.

    python -m experiments.train_classifier --workdir=runs/classifier
    python -m experiments.evaluate --workdir=runs/classifier

The same command goes on with a run that was stopped. `--config.perceptual.name=classifier` of
`experiments.train_vqgan` makes a term of a loss of the trained network.
"""

from functools import partial

from ml_collections import ConfigDict

from experiments.common import command_line
from experiments.common.training import Recipe, build_model, load_data
from jaxgen import evaluate, objectives


def build(config: ConfigDict, workdir: str | None = None) -> Recipe:
    """The run that a configuration describes."""
    # 1. Data.
    train_set, test_set = load_data(config)
    if not train_set.num_classes:
        raise ValueError(f"a classifier needs labels, and {train_set.name} has none")

    # 2. The model, and the objective made of its methods.
    sizes = {"num_classes": train_set.num_classes}
    model = build_model(config, sizes)
    loss_fn = partial(objectives.classifier_loss, logits=model.logits, label_smoothing=config.label_smoothing,
                      entry=train_set.example)

    # 3. What is measured along the way.
    measure = evaluate.classification(model)

    def watch(logger, variables, step):
        return measure(variables, test_set)

    return Recipe(model=model, sizes=sizes, train_set=train_set, test_set=test_set, loss_fn=loss_fn, watch=watch)


if __name__ == "__main__":
    command_line.train(build, "classifier_mnist", models=("classifier",))
