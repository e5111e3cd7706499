"""Metrics of many features stay within a bounded memory, in a fresh interpreter."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PEAK = """
import json, resource, sys, time
import numpy as np
from jaxgen import metrics

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

def features(seed, count, width):
    return np.random.default_rng(seed).standard_normal((count, width), np.float32)
"""
MOMENTS = PEAK + """
COUNT, WIDTH, BATCH = 50_000, 2048, 500
start, found = time.time(), [None, None]
for shift in (0, 1):
    for seed in range(COUNT // BATCH):
        batch = metrics.moments(features(seed + 1000 * shift, BATCH, WIDTH) + np.float32(0.1 * shift))
        found[shift] = batch if found[shift] is None else metrics.merge(found[shift], batch)
distance = metrics.frechet_distance(*found)
print(json.dumps({"count": found[0].count, "distance": distance, "peak": peak(), "seconds": time.time() - start}))
"""
NEIGHBOURS = PEAK + """
COUNT, WIDTH = int(sys.argv[1]), 2048
real, generated = features(0, COUNT, WIDTH), features(1, COUNT, WIDTH)
metrics.precision_recall_density_coverage(real[:1500], generated[:1500])  # libraries and buffers of a block
start, before = time.time(), peak()
found = metrics.precision_recall_density_coverage(real, generated)
print(json.dumps({"growth": peak() - before, "peak": peak(), "seconds": time.time() - start, **found._asdict()}))
"""


def measured(code, *arguments):
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT,
                            check=True)
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
def test_moments_and_distance_of_50000_features_of_inceptions_width_take_less_than_a_gigabyte():
    found = measured(MOMENTS)
    print(found)
    assert found["count"] == 50_000 and found["peak"] < 1e9
    # Two normal distributions whose means differ by 0.1 in each of 2,048 numbers; covariances differ by chance only.
    chance = 2048**2 / 50_000 / 2
    assert 2048 * 0.01 < found["distance"] < 2048 * 0.01 + 1.2 * chance


@pytest.mark.slow
def test_neighbours_of_10000_features_need_blocks_and_no_matrix_of_all_distances():
    found = measured(NEIGHBOURS, "10000")
    print(found)
    assert found["growth"] < 100e6 < 4 * 10_000**2  # bytes of that matrix; 27 MB beyond the features were seen
