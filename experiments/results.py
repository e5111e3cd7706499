"""Write the tables of the documentation: of shipped checkpoints' cards, else of experiments/results.json.

    python -m experiments.results            # writes the tables
    python -m experiments.results --check    # exit status 1 where a file is not what the records say

A card's numbers are those of `experiments/checkpoints/NAME/reproduce.json`, which `experiments.publish` measures; of
what is not shipped they are those that `experiments.evaluate --record` wrote. A table stands between
`<!-- results: NAME -->` and `<!-- end -->` in README.md and experiments/README.md; those of a study, `study_NAME`, are
made by its module. A configuration's header has its numbers in the paragraph that begins with "Result:".
"""

import importlib
import re
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.common import results
from jaxgen.evaluate import frechet_of_as_many
from jaxgen.evaluate.distribution import OF_HELD_OUT

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "experiments/README.md")
# Columns: (heading, name of the value or a function of the values).
AUTOENCODERS = (
    ("codes x bits", "codes"), ("PSNR [dB]", "psnr"), ("SSIM", "ssim"), ("codes in use", "used"),
    ("perplexity", "perplexity"), ("training", "training"),
)
SAMPLES = (
    ("samples; held-out images", "compared"), ("read as the class asked for (real images)", "read"),
    ("Fréchet distance (held-out images)", "frechet"), ("precision", "precision"), ("recall", "recall"),
    ("nearest distance ratio", "nearest_distance_ratio"), ("bits per number or token", "bits"),
    ("training", "training"),
)
COST = (
    ("batch", "batch"), ("ms per sample", "ms_per_sample"), ("network evaluations", "evaluations_per_sample"),
    ("GFLOP per sample", "gflop_per_sample"), ("ms per reconstruction", "ms_per_reconstruction"),
    ("MB at most", "peak_mb"),
)
CLASSIFIERS = (("held-out images", "of"), ("read right", "accuracy"), ("training", "training"))
# A second stage's record holds what its first stage's reconstructions measure too.
SECOND_STAGE, RECONSTRUCTION = ("bits_per_token", "latent_error_1.0"), ("mse", "psnr", "ssim", "used", "perplexity")
FORMATS = {"psnr": "{:.1f}", "ssim": "{:.3f}", "used": "{:.0%}", "perplexity": "{:.0f}", "agreement": "{:.1%}",
           "classifier_accuracy": "{:.1%}", "precision": "{:.2f}", "recall": "{:.2f}",
           "nearest_distance_ratio": "{:.2f}", "bits_per_dim": "{:.2f}", "bits_per_token": "{:.2f}",
           "accuracy": "{:.1%}", "ms_per_sample": "{:.1f}", "ms_per_reconstruction": "{:.2f}",
           "gflop_per_sample": "{:.2f}", "peak_mb": "{:.0f}"}
UNITS = {"ms_per_sample": ("seconds_per_sample", 1e3), "ms_per_reconstruction": ("seconds_per_reconstruction", 1e3),
         "gflop_per_sample": ("flops_per_sample", 1e-9), "peak_mb": ("peak_process_bytes", 1e-6)}
LABELS = {"psnr": "PSNR {} dB", "ssim": "SSIM {}", "used": "{} of the codes in use", "perplexity": "perplexity {}",
          "agreement": "a classifier of real images reads {} of the samples as the class asked for",
          "precision": "precision {}", "recall": "recall {}", "bits_per_dim": "{} bits per number",
          "bits_per_token": "{} bits per held-out token", "accuracy": "{} of the held-out images read right",
          "training": "after {}"}


def main(arguments: list[str]) -> None:
    texts = documents()
    changed = [path for path, text in texts.items() if path.read_text(encoding="utf-8") != text]
    if "--check" in arguments:
        sys.exit(f"not as the records say: {', '.join(map(str, changed))}: run python -m experiments.results"
                 if changed else 0)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    print(f"wrote {len(changed)} files")


def documents() -> dict[Path, str]:
    """{file: its text with the tables and the numbers that the records say}."""
    values = merged()
    tables = {
        "autoencoders": table({n: v for n, v in values.items() if "psnr" in v}, AUTOENCODERS),
        "samples": table({n: v for n, v in values.items() if "agreement" in v}, SAMPLES),
        "classifiers": table({n: v for n, v in values.items() if "accuracy" in v}, CLASSIFIERS),
        "cost": table(costs(), COST),
    }
    texts = {}
    for name in DOCUMENTS:
        path = ROOT / name
        texts[path] = re.sub(
            r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)",
            lambda m: f"{m[1]}{tables[m[2]] if m[2] in tables else study(m[2])}{m[3]}",
            path.read_text(encoding="utf-8"), flags=re.S)
    for name, own in values.items():
        path = ROOT / "experiments" / "configs" / f"{name}.py"
        if not path.is_file():  # a configuration of one's own
            continue
        texts[path] = re.sub(r"^Result: .*?(?=^[A-Z][a-z]+:|^\"\"\")", f"{sentence(own)}\n",
                             path.read_text(encoding="utf-8"), count=1, flags=re.S | re.M)
    return texts


def merged() -> dict[str, dict[str, Any]]:
    """{configuration: all values of its card, else all that were recorded of it, but those of its first stage}."""
    cards, values = results.read_cards(), {}
    for record in results.read():
        if record["configuration"] not in cards:
            about = {name: record[name] for name in ("split", "examples", "samples") if name in record}
            values.setdefault(record["configuration"], {}).update(about | record["values"])
    return {name: {key: value for key, value in own.items() if key not in RECONSTRUCTION}
            if any(key in own for key in SECOND_STAGE) else own for name, own in sorted((values | cards).items())}


def costs() -> dict[str, dict[str, Any]]:
    """{configuration: what `experiments.evaluate --efficiency` recorded of it, in the units of the table}."""
    found = {}
    for record in results.read():
        if "seconds_per_reconstruction" in (own := record["values"]) or "seconds_per_sample" in own:
            scaled = {name: own[of] * factor for name, (of, factor) in UNITS.items() if of in own}
            found[record["configuration"]] = {"batch": record["batch"], **own, **scaled}
    return found


def study(name: str) -> str:
    """The tables of the records of `study_NAME`, each with its command, or that there are none."""
    found = [record for record in results.read() if record["configuration"] == name]
    if not found:
        return "Not run yet.\n"
    module = importlib.import_module(f"experiments.studies.{name.removeprefix('study_')}")
    return "\n".join(f"`{record['command']}` ({record['machine']}):\n\n{module.table(record['values']['rows'])}\n"
                     for record in found)


def table(rows: Mapping[str, Mapping[str, Any]], columns: tuple[tuple[str, str], ...]) -> str:
    """A table of Markdown."""
    lines = [["configuration", *(heading for heading, _ in columns)], ["---"] * (len(columns) + 1)]
    lines += [[f"`{name}`", *(show(own, column) for _, column in columns)] for name, own in rows.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def show(values: Mapping[str, Any], column: str) -> str:
    """One value as a table has it; empty where it was not measured."""
    if column == "of":
        return f"{values['examples']:,} of `{values['split']}`" if "split" in values else ""
    if column == "compared":
        judged = values.get("judge_held_out", values.get("examples"))
        fewer = f" ({judged:,} for the classifier)" if judged != values.get("examples") else ""
        return f"{values['samples']:,}; {show(values, 'of')}{fewer}" if "samples" in values else ""
    if column == "read":
        real = f" ({show(values, 'classifier_accuracy')})" if "classifier_accuracy" in values else ""
        return show(values, "agreement") + real
    if column == "frechet":
        name = next((key.partition(OF_HELD_OUT)[0] for key in values if OF_HELD_OUT in key), None)
        return "{} {:.3f} ({:.3f})".format(name, *frechet_of_as_many(values, name)) if name else ""
    if column == "bits":
        name = "bits_per_dim" if "bits_per_dim" in values else "bits_per_token"
        of = show(values.get("evaluations", {}).get(name, values), "of")
        return show(values, name) + (f" ({of})" if of != show(values, "of") else "")
    value = values.get(column)
    return "" if value is None else FORMATS.get(column, "{}").format(value)


def sentence(values: Mapping[str, Any]) -> str:
    """The numbers of a configuration in words, for its header."""
    parts = [label.format(show(values, name)) for name, label in LABELS.items() if name in values]
    return "\n".join(textwrap.wrap(f"Result: {', '.join(parts)}.", 118))


if __name__ == "__main__":
    main(sys.argv[1:])
