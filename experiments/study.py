"""Studies: questions answered by many trainings or samplings, each one command that prints its table and draws it.

    python -m experiments.study equal_bits --workdir=runs/equal_bits
    python -m experiments.study equal_bits --workdir=runs/equal_bits --seeds=1 --only VQ FSQ

A study goes on where it was stopped: what is in its directory is not computed again. `--record` keeps the table in
experiments/results.json.

A sub-command is one entry of COMMANDS and one module `experiments/studies/<name>.py` with a docstring,
`add_arguments(parser)`, `run(args)`, and `table(rows)`, the Markdown of the rows that it records.
"""

import sys

from experiments.benchmarks.measure import WorkerError
from experiments.common.command_line import EXPECTED_ERRORS
from experiments.common.startup import keep_programs
from experiments.common.subcommands import run_subcommand

COMMANDS = {
    "equal_bits": "quantizers with the same number of bits per image: quality, use of the codes, time",
    "rate_distortion": "files of learned codes against JPEG, WebP, AVIF, JPEG 2000 and JPEG XL",
    "robustness": "codes and PSNR under changes of the input, with and without regularisation; use of the codes",
    "samplers": "solvers against network evaluations, and guidance: the distance of samples to real images",
    "second_stages": "masked and autoregressive priors and latent diffusion over one tokenizer: quality and cost",
    "time_to_quality": "the same autoencoder and U-Net trained by jaxgen and by PyTorch for the same time",
}


def main(arguments: list[str] | None = None) -> None:
    keep_programs()
    try:
        run_subcommand("study", __doc__, "experiments.studies", COMMANDS, arguments)
    except (*EXPECTED_ERRORS, WorkerError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
