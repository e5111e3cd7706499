"""The mixture of contexts against a slow loop in Python integers, on sources of known entropy, and its refusals."""

import decimal
import math

import numpy as np
import pytest

from jaxgen.codec import Probabilities, Writer, context, fit_context, fit_static
from jaxgen.codec.context import EXPERTS, LEARNED, ONE, Context
from tests.codec.test_tables import by_loop
from tests.helpers.codec import round_trip, same_tables


def markov(rng, transitions, shape):
    """Maps whose rows are chains of their own, the first code of each is even."""
    plane = np.zeros(shape, np.int64)
    plane[..., 0] = rng.integers(0, len(transitions), shape[:2])
    for x in range(1, shape[2]):
        rows = transitions[plane[..., x - 1]].cumsum(-1)
        plane[..., x] = (rows <= rng.random((*shape[:2], 1))).sum(-1).clip(0, len(transitions) - 1)
    return plane


def bits_of(model, planes):
    total = 0.0
    for i, plane in enumerate(planes):
        writer = Writer(plane[..., None])
        model.code((i,), planes[:i], plane.shape, writer)
        total += writer.bits
    return total


def nearest_logarithm(probability):
    with decimal.localcontext(prec=30):
        exact = 64 * (decimal.Decimal(max(probability, 1)) / ONE).ln()
        return math.floor(exact + decimal.Decimal("0.5"))


def nearest_exponential(below):
    with decimal.localcontext(prec=30):
        return math.floor((decimal.Decimal(-below) / 64).exp() * (1 << 24) + decimal.Decimal("0.5"))


def slow_tables(model, plane, before, known):
    """Tables by the formula of the module, diagonal by diagonal, with lists of Python integers."""
    images, height, width = known.shape
    codes, base = model.num_codes[plane], model.static.tables[plane].tolist()
    counts = {name: table.tolist() for name, table in model.counts[plane].items()
              if name != "place" or (height, width) == model.grid[plane]}
    weights = [dict(zip(EXPERTS, model.weights[plane])) for _ in range(images)]
    log_base, result = [nearest_logarithm(p) for p in base], []
    for diagonal in range(height + width - 1):
        now = []
        for image in range(images):
            changes = dict.fromkeys(EXPERTS, 0)
            for y, x in [(y, diagonal - y) for y in range(height) if 0 <= diagonal - y < width]:
                own = known[image].tolist()
                contexts = {"place": y * width + x, "left": own[y][x - 1] if x else 0,
                            "above": own[y - 1][x] if y else 0}
                if before is not None:
                    scale = before.shape[1] / height, before.shape[2] / width
                    contexts["before"] = int(before[image, math.floor(y * scale[0]), math.floor(x * scale[1])])
                gains = {}
                for name in counts:
                    seen = counts[name][contexts[name]]
                    extra = sum(n > 0 for n in seen) + 1
                    smoothed = [(n * ONE + extra * p) // (sum(seen) + extra) for n, p in zip(seen, base)]
                    gains[name] = [nearest_logarithm(p) - own for p, own in zip(smoothed, log_base)]
                logits = [log_base[s] + (sum(weights[image][name] * gains[name][s] for name in gains) >> 16)
                          for s in range(codes)]
                table = by_loop([nearest_exponential(max(logits) - logit) for logit in logits])
                result.append(table)
                symbol = own[y][x]
                for name, gain in gains.items():
                    changes[name] += 4 * (gain[symbol] - (sum(p * g for p, g in zip(table, gain)) >> 16))
                now.append((contexts, symbol))
            weights[image] = {name: min(max(weight + changes[name], 0), 4 * ONE)
                              for name, weight in weights[image].items()}
        for contexts, symbol in now:  # of all images
            for name in counts:
                counts[name][contexts[name]][symbol] += LEARNED
    return np.array(result)


@pytest.mark.parametrize("rows", [2, 1024])
def test_tables_are_those_of_a_loop_over_python_integers(rows, monkeypatch):
    monkeypatch.setattr(context, "_ROWS", rows)  # a diagonal in parts or at once
    rng = np.random.default_rng(0)
    training = [rng.integers(0, 3, (6, 2, 2)), rng.integers(0, 5, (6, 2, 4)) // 2 + rng.integers(0, 2, (6, 1, 1))]
    model = fit_context(training, (3, 4))
    for height in (2, 3):  # the second is no size of the training set: its places are not counted
        planes = [rng.integers(0, 3, (3, height, 2)), rng.integers(0, 4, (3, height, 4))]
        for i, before in enumerate((None, planes[0])):
            assert set(model.counts[i]) == set(EXPERTS) - ({"before"} if i == 0 else set())
            _, _, writer, _ = round_trip(model, (i,), planes)
            np.testing.assert_array_equal(np.concatenate(writer.tables), slow_tables(model, i, before, planes[i]))


@pytest.mark.parametrize("shape", [(4, 6), (1, 1), (5, 3)])
def test_planes_of_any_size_come_back_with_the_same_tables(shape):
    rng = np.random.default_rng(1)
    model = fit_context([rng.integers(0, 5, (4, 2, 3)), rng.integers(0, 9, (4, 4, 6))], (5, 9))
    planes = [rng.integers(0, 5, (3, -(-shape[0] // 2), -(-shape[1] // 2))), rng.integers(0, 9, (3, *shape))]
    for i, plane in enumerate(planes):
        (found,), data, writer, reader = round_trip(model, (i,), planes)
        np.testing.assert_array_equal(found, plane)
        assert same_tables(writer, reader) and len(writer.tables) == sum(plane.shape[1:]) - 1
        assert len(data) <= writer.bits / 8 * 1.001 + 8
    assert isinstance(model, Probabilities) and model.exact and model.chunks(2) == [(0,), (1,)]


def test_a_chain_takes_little_more_than_its_entropy_and_less_than_static_tables():
    rng, codes = np.random.default_rng(2), 6
    transitions = rng.dirichlet(np.full(codes, 0.2), codes)
    plane = markov(rng, transitions, (48, 12, 12))
    training, test = plane[:40], plane[40:]
    steps = transitions[test[..., :-1], test[..., 1:]]
    entropy = math.log2(codes) * test[..., 0].size - np.log2(steps).sum()
    static = bits_of(fit_static([training], (codes,)), [test])
    found = bits_of(fit_context([training], (codes,)), [test])
    assert entropy < found < 1.1 * entropy < 0.9 * static


def test_a_plane_that_follows_from_the_one_before_takes_next_to_nothing():
    rng = np.random.default_rng(3)
    coarse, permuted = rng.integers(0, 6, (30, 4, 4)), rng.permutation(6)
    planes = [coarse, permuted[coarse].repeat(2, 1).repeat(2, 2)]
    model, test = fit_context([plane[:24] for plane in planes], (6, 6)), [plane[24:] for plane in planes]
    writer = Writer(test[1][..., None])
    model.code((1,), test[:1], test[1].shape, writer)
    assert writer.bits < 0.1 * math.log2(6) * test[1].size


def test_codes_that_training_did_not_have_are_coded_too():
    model = fit_context([np.zeros((4, 2, 2), int), np.zeros((4, 2, 2), int)], (3, 3))
    planes = [np.full((1, 2, 2), 2), np.array([[[0, 1], [2, 1]]])]
    for i in range(2):
        np.testing.assert_array_equal(round_trip(model, (i,), planes)[0][0], planes[i])


def test_the_digest_is_of_all_that_tables_depend_on():
    rng = np.random.default_rng(4)
    model = fit_context([rng.integers(0, 3, (4, 2, 2))], (3,))
    parts = {name: getattr(model, name) for name in ("static", "counts", "weights", "grid")}
    others = [{"weights": ((1, 2, 3, 4),)}, {"grid": ((3, 3),)}, {"counts": ({"left": np.ones((3, 3), np.uint8)},)},
              {"static": fit_static([np.ones((1, 1, 1), int)], (3,))}]
    digests = [Context(**parts).digest, *(Context(**{**parts, **other}).digest for other in others)]
    assert digests[0] == model.digest and len(set(digests)) == 5


def test_first_weights_are_learned_from_half_of_the_images_at_most(monkeypatch):
    seen, own = [], Context._plane
    monkeypatch.setattr(Context, "_plane", lambda self, plane, before, shape, transfer: (
        seen.append(shape[0]), own(self, plane, before, shape, transfer))[1])
    rng = np.random.default_rng(5)
    for images in (2, 10, 200):
        fit_context([rng.integers(0, 3, (images, 1, 2))], (3,))
    assert sorted(set(seen)) == [1, 5, 64]


@pytest.mark.parametrize("plane, words", [
    (np.full((3, 1, 1), 4), "codes below 4"), (np.full((3, 1, 1), -1), "got .*-1"),
    (np.zeros((1, 2, 2), int), "two images or more, got 1"),
])
def test_planes_that_cannot_be_fitted_are_refused(plane, words):
    with pytest.raises(ValueError, match=words):
        fit_context([plane], (4,))
