"""Train a small classifier, whose features make a perceptual distance for pictures that ImageNet has nothing like.

    python -m experiments.classifier --workdir=runs/classifier
    python -m experiments.evaluate --workdir=runs/classifier

The same command goes on with a run that was stopped. `experiments.classification.load_feature_distance` makes a term
of a loss of the trained network.
"""

from functools import partial
from pathlib import Path

from ml_collections import ConfigDict

from experiments import command_line
from experiments.classification import Examiner
from experiments.runs import load_split
from experiments.training import axis_name, describe_pictures, train_batches, train_model
from jaxgen import models, objectives, train


def train_classifier(config: ConfigDict, workdir: str | Path) -> train.FitResult:
    """Trains from the configuration, or goes on where the run in `workdir` stopped."""
    # 1. Data.
    train_set, test_set = (load_split(config, config.data[f"{split}_split"]) for split in ("train", "test"))
    shape = train_set.image_shape
    if not train_set.num_classes:
        raise ValueError(f"a classifier needs labels, and {train_set.name} has none")

    # 2. The model, as pure functions, and the objective made of them.
    sizes = {"num_classes": train_set.num_classes}
    model = models.build(**config.model.to_dict(), **sizes, axis_name=axis_name(config))
    loss_fn = partial(objectives.classifier_loss, logits=model.logits, label_smoothing=config.label_smoothing)

    # 3. What is measured along the way.
    examiner = Examiner(model)

    def evaluate(logger, variables, step):
        return examiner.measure(variables, test_set)

    # 4. Training.
    return train_model(
        config, workdir, batches=train_batches(config, train_set), init=lambda key: model.init(key, shape),
        loss_fn=loss_fn, evaluate=evaluate, describe=describe_pictures(train_set, test_set),
        saved={"model": sizes, "image_shape": shape, "class_names": train_set.class_names},
    )


if __name__ == "__main__":
    CONFIG = command_line.define_config("experiments/configs/classifier_mnist.py")
    WORKDIR = command_line.define_workdir("The run's directory, new or of a run to go on with.")

    def main():
        command_line.start_processes(CONFIG.value)
        train_classifier(CONFIG.value, WORKDIR.value)

    command_line.run(main)
