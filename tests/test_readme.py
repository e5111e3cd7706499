"""The README's Python runs as it stands there."""

import re
from pathlib import Path

import jax
import numpy as np

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_examples_run_in_order_and_give_what_they_say():
    namespace = {}
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) == 6
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    namespace |= {"saved": namespace["params"]["network"], "read": namespace["loaded"].params}
    assert namespace["output"].indices.shape == (4, 7, 7, 2)
    assert namespace["output"].losses["commitment"].shape == (4, 7, 7)
    assert np.isfinite(namespace["loss"]) and namespace["images"].shape == (2, 32, 32, 3)
    # Hinge and l1 have comparable gradients, and an untrained generator is no reason for the largest weight.
    assert 0 < namespace["metrics"]["gan_weight"] < 1e4 and namespace["x_r"].shape == (2, 32, 32, 3)
    # The example's data have a standard deviation of 0.5, and so must the samples.
    assert abs(float(np.std(namespace["x0"])) - 0.5) < 0.05
    assert namespace["pictures"].shape == (4, 16, 16, 3) and np.isfinite(namespace["pictures"]).all()
    assert namespace["codes"].max() < 512 and (namespace["codes"][:, :21] == 0).all()
    assert len(np.unique(namespace["codes"][:, 21:])) > 20
    for before, after in zip(*(jax.tree.leaves(namespace[n]) for n in ("saved", "read"))):
        np.testing.assert_array_equal(before, after)


def test_nothing_was_left_to_fill_in():
    assert re.findall(r"@[A-Z_]+@|TODO", README) == []


def test_every_configuration_is_named():
    configs = {p.stem for p in (Path(__file__).parents[1] / "experiments" / "configs").glob("[a-z]*_*.py")}
    assert {name for name in configs if f"`{name}`" not in README} == set()


def test_every_script_and_link_exists():
    root = Path(__file__).parents[1]
    for script in re.findall(r"python -m (experiments\.\w+)", README):
        assert (root / f"{script.replace('.', '/')}.py").is_file(), script
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (root / link).is_file(), link
