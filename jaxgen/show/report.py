"""The parts of a page about trained models: arrays, records and numbers in, HTML out.

    curves = curves_part(read_records("runs/a/metrics.jsonl"))
    samples = samples_part(images, by_class={"0": zeros, "1": ones})
    html = report_page("My runs", [Report("runs/a", {"model": "diffusion"}, images, (curves, samples))])
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from jaxgen.show.codebook import code_plane, code_sheet, principal_plane
from jaxgen.show.curves import chart, charts_of, lines_of
from jaxgen.show.images import make_grid, scaled_to_show, to_uint8
from jaxgen.show.page import escape, folded, frames, image_html, page, section, strips, table, tiles

FIRST_CHARTS = ("loss", "reconstruction", "accuracy", "psnr", "ssim", "perplexity", "bits_per_token", "bits_per_dim")
HIDDEN = 128  # grey of what is not drawn yet
WIDE = 640  # pixels that a sheet of small images is enlarged to, about
Images = UInt8[np.ndarray, "B H W C"]


class Part(NamedTuple):
    """A part of a report; without a body it is left out."""

    name: str  # of its link
    title: str
    body: str


class Report(NamedTuple):
    """What a page says of one run."""

    title: str
    summary: Mapping[str, Any]  # a row of a gallery's table
    thumbnail: Images | None  # a few images that stand for the run
    parts: Sequence[Part]


def report_page(title: str, reports: Sequence[Report]) -> str:
    """A page of one run, or a gallery of several with a table that leads to each.

    Args:
        title: of the page.
        reports: one at least.

    Raises:
        ValueError: there are none.
    """
    if not reports:
        raise ValueError("reports is empty: a page is about one run at least")
    several, articles = len(reports) > 1, []
    for number, report in enumerate(reports):
        prefix = f"run{number + 1}-" if several else ""
        parts = [part for part in report.parts if part.body]
        links = "".join(f'<a href="#{prefix}{escape(part.name)}">{escape(part.title)}</a>' for part in parts)
        body = "".join(section(prefix + part.name, part.title, part.body) for part in parts)
        articles.append(f'<article id="{prefix}top" aria-label="{escape(report.title)}">\n'
                        f'<h1>{escape(report.title)}</h1>\n<nav aria-label="parts">{links}</nav>\n{body}</article>\n')
    return page(title, (_overview(title, reports) if several else "") + "".join(articles))


def _overview(title, reports):
    columns = list(dict.fromkeys(name for report in reports for name in report.summary))
    cards = "".join(
        f'<figure><a href="#run{number}-top">'
        f"{_sheet(report.thumbnail, f'images of {report.title}', wide=220) if report.thumbnail is not None else ''}"
        f"<figcaption>{escape(report.title)}</figcaption></a></figure>"
        for number, report in enumerate(reports, 1))
    rows = [[report.title, *(report.summary.get(name) for name in columns)] for report in reports]
    return (f'<header><h1>{escape(title)}</h1>\n<div class="row thumbs">{cards}</div>\n'
            f'{table(rows, ["run", *columns])}</header>\n')


def model_part(facts: Mapping[str, Any], config: str, card: str | None = None) -> Part:
    """What the model is.

    Args:
        facts: by name, such as the number of parameters; None is left out.
        config: the configuration as text, which opens at a click.
        card: text of the model card, where there is one.
    """
    body = table([(name, value) for name, value in facts.items() if value is not None])
    body += folded("Configuration", f"<pre>{escape(config)}</pre>")
    return Part("model", "Model", body + (folded("Model card", f"<pre>{escape(card)}</pre>") if card else ""))


def curves_part(records: Sequence[Mapping[str, float | None]]) -> Part:
    """Charts of a run's metrics over steps; those that say less about the model open at a click.

    Args:
        records: of `read_records`.
    """
    charts = {title: f"<figure>{chart(title, lines)}</figure>" for title, lines in charts_of(lines_of(records)).items()}
    first = [name for name in FIRST_CHARTS if name in charts]
    first = first or list(charts)[:4]
    rest = [charts[name] for name in charts if name not in first]
    body = f'<div class="charts">{"".join(charts[name] for name in first)}</div>' if first else ""
    if rest:
        body += folded(f"{len(rest)} more", f'<div class="charts">{"".join(rest)}</div>')
    return Part("curves", "Training", body)


def reconstructions_part(originals: Images, restored: Images, *, what: str) -> Part:
    """Originals, each above what the model makes of it.

    Args:
        originals, restored: in the same order.
        what: they are, such as "images of mnist_5k/test".
    """
    columns = min(len(originals), max(4, min(16, WIDE // (2 * originals.shape[2]))))
    pairs = [part[i : i + columns] for i in range(0, len(originals), columns) for part in (originals, restored)]
    blank = np.full((-len(originals) % columns, *originals.shape[1:]), 255, np.uint8)
    if len(blank):
        pairs[-2] = np.concatenate([pairs[-2], blank])
    return Part("reconstructions", "Reconstructions", _sheet(
        np.concatenate(pairs), f"{len(originals)} {what}, and their reconstructions", columns=columns, wide=1100,
        caption=f"Rows of {what}; below each row, its reconstructions."))


def samples_part(
    images: Images, *, by_class: Mapping[str, Images] | None = None, captions: Sequence[str] | None = None,
    how: str = "",
) -> Part:
    """Samples that were not chosen by hand: a grid, and a row for each class.

    Args:
        images: samples.
        by_class: samples by the name of their class.
        captions: of the images, where they were asked for by text.
        how: they were drawn.
    """
    if captions is not None:
        alts = [f"sample for: {caption}" for caption in captions]
        grid = tiles(images, captions, alts, scale=max(1, 96 // images.shape[2])) + f'<p class="soft">{escape(how)}</p>'
    else:
        grid = _sheet(images, f"{len(images)} samples in a grid", caption=how)
    rows = {name: _sheet(row, f"samples of class {name}", columns=len(row), wide=500)
            for name, row in (by_class or {}).items()}
    by = f'<figure aria-label="samples by class">{strips(rows)}<figcaption>By class.</figcaption></figure>'
    return Part("samples", "Samples", f'<div class="row">{grid}{by if rows else ""}</div>')


def codes_part(
    counts: Int[np.ndarray, "K"], *, what: str, chosen: Int[np.ndarray, "k"] | None = None,
    patches: UInt8[np.ndarray, "k h w C"] | None = None, vectors: Float[np.ndarray, "k D"] | None = None,
) -> Part:
    """A codebook: each code decoded, its use, and the codes in the plane of their principal axes.

    Args:
        counts: how often each code occurs.
        what: the counts are of, such as "500 images of mnist_5k/test".
        chosen: the codes that are drawn; None for all.
        patches: of each of them what the decoder makes of it, where that can be told.
        vectors: of each of them, which the plane is of.

    Raises:
        ValueError: nothing was counted.
    """
    total = int(counts.sum())
    if not total:
        raise ValueError("counts are all 0: count the codes of some examples")
    share = counts[counts > 0] / total
    perplexity = math.exp(-float(np.sum(share * np.log(share))))
    body = (f"<p>{len(share)} of {len(counts)} codes occur on {escape(what)} ({len(share) / len(counts):.1%}); "
            f"perplexity {perplexity:.0f}, as if so many were used evenly.</p>")
    body += f'<div class="charts"><figure>{_ranked_uses(counts)}</figure></div>'
    if patches is not None:
        counts = counts if chosen is None else counts[chosen]
        scale = max(1, 20 // patches.shape[1])
        sheet = code_sheet(patches, counts, scale=scale)
        body += image_html(sheet, f"{len(counts)} codes, each decoded, most used first", scale=_scale(sheet, 700),
                        caption="What the decoder draws where a code stands, the mean over its places and a little "
                                "wider than one cell, most used first. The bar is the square root of its use.")
        if vectors is not None:
            large = patches.repeat(scale, 1).repeat(scale, 2)
            body += image_html(code_plane(large, principal_plane(vectors), counts),
                            "the decoded codes at the places of their vectors in the plane of the principal axes",
                            caption="The same at the places of their vectors, along the two principal axes; faint "
                                    "where a code does not occur.")
    return Part("codes", "Codebook", body)


def _ranked_uses(counts):
    uses = np.sort(counts[counts > 0])[::-1]
    return chart("times used, by rank", {"codes": (np.arange(1, len(uses) + 1), uses.astype(float))}, axis="rank")


def denoising_part(trajectory: Float[np.ndarray, "n B H W C"], sigmas: Float[np.ndarray, "n"]) -> Part:
    """Samples on their way from noise, with a slider over the steps.

    Args:
        trajectory: after each step.
        sigmas: the noise level after each step.
    """
    sheets = [make_grid(scaled_to_show(images), columns=min(8, trajectory.shape[1])) for images in trajectory]
    labels = [f"step {step} of {len(sheets)}, noise level {sigma:.3g}" for step, sigma in enumerate(sigmas, 1)]
    return Part("denoising", "From noise to image", frames(
        sheets, labels, f"{trajectory.shape[1]} samples on their way from noise", scale=_scale(sheets[0], WIDE),
        caption="The state after each step; noise is scaled into the visible range."))


def filling_part(images: Images, drawn: Bool[np.ndarray, "n B N"], token_shape: tuple[int, ...]) -> Part:
    """The order in which tokens were drawn: finished samples of which the cells that are not there yet are grey.

    Args:
        images: the finished samples.
        drawn: which tokens there are after each step.
        token_shape: (h, w) or (h, w, levels) of the N tokens; h and w divide the images' height and width.
    """
    steps, count = drawn.shape[:2]
    cells = (images.shape[1] // token_shape[0], images.shape[2] // token_shape[1])
    shares = drawn.reshape(steps, count, *token_shape[:2], -1).mean(-1)
    sheets = []
    for share in shares:
        seen = share.repeat(cells[0], 1).repeat(cells[1], 2)[..., None]
        sheets.append(make_grid(np.round(HIDDEN + seen * (images.astype(float) - HIDDEN)).astype(np.uint8),
                                columns=min(8, count)))
    labels = [f"step {step} of {steps}, {share.mean():.0%} drawn" for step, share in enumerate(shares, 1)]
    # Brighter is later: of how many steps a cell was not complete.
    late = np.round((shares < 1).mean(0) * 255).astype(np.uint8).repeat(cells[0], 1).repeat(cells[1], 2)[..., None]
    order = make_grid(late, columns=min(8, count))
    return Part("filling", "The order of the tokens", frames(
        sheets, labels, f"{count} samples as their tokens are drawn", scale=_scale(sheets[0], WIDE),
        caption="Finished samples, of which the cells that are not drawn yet are grey.") + image_html(
        order, "when each cell was drawn, brighter is later", scale=_scale(order, WIDE),
        caption="When each cell was drawn: dark at first, bright at last."))


def neighbours_part(
    images: Images, nearest: Images, distances: Float[np.ndarray, "B"], *, shown: int = 12,
    held_out: Float[np.ndarray, "M"] | None = None, what: str = "training images",
) -> Part:
    """Samples beside the nearest training image of each, the closest first: copies show here.

    Args:
        images, nearest: samples, and the image that is nearest to each.
        distances: between them.
        shown: pairs at most.
        held_out: the distances of held-out images, to compare with.
        what: the nearest images were searched in.
    """
    first = np.argsort(distances, kind="stable")[:shown]
    pairs = [make_grid(np.stack([images[i], nearest[i]]), columns=2) for i in first]
    rows = [("samples", len(images), float(np.median(distances)), float(distances.min()))]
    if held_out is not None:
        rows.append(("held-out images", len(held_out), float(np.median(held_out)), float(held_out.min())))
    scale = max(1, 140 // pairs[0].shape[1]) if pairs[0].shape[1] < 140 else 1
    body = tiles(pairs, [f"{distances[i]:.2f}" for i in first],
                 [f"a sample, and its nearest training image at a distance of {distances[i]:.2f}" for i in first],
                 scale=scale)
    words = (f"<p>Left the sample, right the nearest of {escape(what)}, the closest pairs first; distances are root "
             "sums of squares of pixels in [0, 1].</p>")
    return Part("neighbours", "Nearest training images",
                words + body + table(rows, ["distance of", "how many", "median", "least"]))


def metrics_part(tables: Mapping[str, Mapping[str, Any]]) -> Part:
    """Numbers, and their intervals or tolerances where there are some.

    Args:
        tables: {title: {name: value}}; a value is a number, words, or (number, low, high); or all of a table's are
            (number, tolerance).
    """
    body = ""
    for title, values in tables.items():
        rows = [(name, *(value if isinstance(value, tuple) else (value,))) for name, value in values.items()]
        said = "may differ by" if any(len(row) == 3 for row in rows) else "95% interval"
        rows = [(*row[:2], f"{row[2]:.2g}" if len(row) == 3 else " to ".join(f"{bound:.4g}" for bound in row[2:]))
                for row in rows]
        some = any(row[2] for row in rows)
        body += f"<h3>{escape(title)}</h3>" + table(
            rows if some else [row[:2] for row in rows], ["measure", "value", said] if some else [])
    return Part("metrics", "Metrics", body)


def _sheet(images, alt, *, columns=None, wide=WIDE, caption=""):
    sheet = make_grid(to_uint8(images), columns=columns)
    return image_html(sheet, alt, scale=_scale(sheet, wide), caption=caption)


def _scale(sheet, wide):
    """Whole pixels, up to four for one."""
    return min(4, max(1, wide // sheet.shape[1]))
