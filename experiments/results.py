"""Write the tables of the documentation from experiments/results.json, which `experiments.evaluate --record` fills.

    python -m experiments.results            # writes the tables
    python -m experiments.results --check    # exit status 1 where a file is not what the records say

A table stands between `<!-- results: NAME -->` and `<!-- end -->` in README.md and experiments/README.md. A
configuration's header has its numbers in the paragraph that begins with "Result:".
"""

import re
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.common import results

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "experiments/README.md")
# Columns: (heading, name of the value or a function of the values).
AUTOENCODERS = (
    ("codes x bits", "codes"), ("PSNR [dB]", "psnr"), ("SSIM", "ssim"), ("codes in use", "used"),
    ("perplexity", "perplexity"), ("training", "training"),
)
SAMPLES = (
    ("read as the class asked for", "agreement"), ("real images", "classifier_accuracy"),
    ("distance to training images, median (least)", "distance_to_training"),
    ("of held-out images", "held_out_distance_to_training"), ("within a class", "distance_within_class"),
    ("bits per number or token", "bits"), ("training", "training"),
)
# A second stage's record holds what its first stage's reconstructions measure too.
SECOND_STAGE, RECONSTRUCTION = ("bits_per_token", "latent_error_1.0"), ("mse", "psnr", "ssim", "used", "perplexity")
FORMATS = {"psnr": "{:.1f}", "ssim": "{:.3f}", "used": "{:.0%}", "perplexity": "{:.0f}", "agreement": "{:.1%}",
           "classifier_accuracy": "{:.1%}", "distance_within_class": "{:.1f}", "bits_per_dim": "{:.2f}",
           "bits_per_token": "{:.2f}"}
LABELS = {"psnr": "PSNR {} dB", "ssim": "SSIM {}", "used": "{} of the codes in use", "perplexity": "perplexity {}",
          "agreement": "a classifier of real images reads {} of the samples as the class asked for",
          "bits_per_dim": "{} bits per number", "bits_per_token": "{} bits per held-out token"}


def main(arguments: list[str]) -> None:
    changed = [path for path, text in documents().items() if path.read_text(encoding="utf-8") != text]
    if "--check" in arguments:
        sys.exit(f"not as the records say: {', '.join(map(str, changed))}: run python -m experiments.results"
                 if changed else 0)
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")
    print(f"wrote {len(changed)} files")


def documents() -> dict[Path, str]:
    """{file: its text with the tables and the numbers that the records say}."""
    values = merged()
    tables = {
        "autoencoders": table({n: v for n, v in values.items() if "psnr" in v}, AUTOENCODERS),
        "samples": table({n: v for n, v in values.items() if "agreement" in v}, SAMPLES),
    }
    texts = {}
    for name in DOCUMENTS:
        path = ROOT / name
        texts[path] = re.sub(
            r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}{tables[m[2]]}{m[3]}",
            path.read_text(encoding="utf-8"), flags=re.S)
    for name, own in values.items():
        path = ROOT / "experiments" / "configs" / f"{name}.py"
        if not path.is_file():  # a configuration of one's own
            continue
        texts[path] = re.sub(r"^Result: .*?(?=^[A-Z][a-z]+:|^\"\"\")", f"{sentence(own)}\n",
                             path.read_text(encoding="utf-8"), count=1, flags=re.S | re.M)
    return texts


def merged() -> dict[str, dict[str, Any]]:
    """{configuration: all values that were recorded of it, but those of its first stage}."""
    values: dict[str, dict[str, Any]] = {}
    for record in results.read():
        own = record["values"]
        if any(name in own for name in SECOND_STAGE):
            own = {name: value for name, value in own.items() if name not in RECONSTRUCTION}
        values.setdefault(record["configuration"], {}).update(own)
    return values


def table(rows: Mapping[str, Mapping[str, Any]], columns: tuple[tuple[str, str], ...]) -> str:
    """A table of Markdown."""
    lines = [["configuration", *(heading for heading, _ in columns)], ["---"] * (len(columns) + 1)]
    lines += [[f"`{name}`", *(show(own, column) for _, column in columns)] for name, own in rows.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def show(values: Mapping[str, Any], column: str) -> str:
    """One value as a table has it; empty where it was not measured."""
    if column.endswith("distance_to_training"):
        median, least = values.get(f"{column}_median"), values.get(f"{column}_least")
        return "" if median is None else f"{median:.2f} ({least:.2f})"
    if column == "bits":
        column = "bits_per_dim" if "bits_per_dim" in values else "bits_per_token"
    value = values.get(column)
    return "" if value is None else FORMATS.get(column, "{}").format(value)


def sentence(values: Mapping[str, Any]) -> str:
    """The numbers of a configuration in words, for its header."""
    parts = [label.format(show(values, name)) for name, label in LABELS.items() if name in values]
    return "\n".join(textwrap.wrap(f"Result: {', '.join(parts)}.", 118))


if __name__ == "__main__":
    main(sys.argv[1:])
