"""Models of probabilities as a file: they code as before, by the same digest, and damage is told."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.codec import fit_context, fit_static
from jaxgen.codec.networks import IntegerMasked, IntegerNext
from jaxgen.codec.prior import Autoregressive, Masked, halton_groups
from jaxgen.codec.tables_file import load_probabilities, read_digests, save_probabilities
from tests.helpers.codec import round_trip
from tests.helpers.mutations import mutated_bytes, outcome
from tests.helpers.transformers import CODES, float_network, integer_network

RNG = np.random.default_rng(0)
NETWORKS = {"next": "causal", "masked": "masked with time and classes"}
PLANES = [RNG.integers(0, 5, (4, 2, 2)), RNG.integers(0, 7, (4, 4, 4))]
NUM_CODES = (5, 7)


def models():
    return {
        "static": fit_static(PLANES, NUM_CODES), "context": fit_context(PLANES, NUM_CODES),
        "next": Autoregressive(network=IntegerNext(network=integer_network(NETWORKS["next"])), num_codes=(CODES,),
                               block=(3, 4)),
        "masked": Masked(network=IntegerMasked(network=integer_network(NETWORKS["masked"])),
                         num_codes=(CODES,), groups=halton_groups(3, 4, 2)),
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A file of tables, the context and a network."""
    path, own = tmp_path_factory.mktemp("tables") / "codec.npz", models()
    save_probabilities(path, {name: own[name] for name in ("static", "context", "next")}, {"static": "0123"})
    return path


def test_models_come_back_with_their_digests_and_code_as_before(written):
    found = load_probabilities(written, float_network(NETWORKS["next"])[1])
    assert list(found) == ["static", "context", "next"] and read_digests(written) == {"static": "0123"}
    for name, model in found.items():
        expected = models()[name]
        assert type(model) is type(expected) and model.digest == expected.digest
        assert model.num_codes == expected.num_codes and model.block == expected.block
        for i in range(len(model.num_codes)):
            planes = PLANES if name in ("static", "context") else [RNG.integers(0, CODES, (2, 3, 4))]
            assert round_trip(model, (i,), planes)[1] == round_trip(expected, (i,), planes)[1]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_has_no_weights_of_a_network_which_are_made_of_the_models_own(name, tmp_path):
    path, model, params = tmp_path / "codec.npz", models()[name], float_network(NETWORKS[name])[1]
    save_probabilities(path, {"prior": model}, {})
    with np.load(path) as archive:
        assert {key.removeprefix("prior/") for key in archive.files} == {"about", *model.network.network.tables}
    found = load_probabilities(path, jax.tree.map(jnp.asarray, params))["prior"]
    assert type(found) is type(model) and found.digest == model.digest and found.block == model.block
    kernel = params["block1"]["mlp2"]["kernel"]
    changed = {**params, "block1": {**params["block1"], "mlp2": {**params["block1"]["mlp2"], "kernel": kernel[::-1]}}}
    assert load_probabilities(path, changed)["prior"].digest != model.digest
    with pytest.raises(ValueError, match="or of another model .* fit the codec again"):
        load_probabilities(path, {})


def test_a_file_is_whole_or_as_it_was(written, tmp_path, monkeypatch):
    path = tmp_path / "codec.npz"
    path.write_bytes(written.read_bytes())

    def full(file, **arrays):
        file.write_bytes(b"PK")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="no space left"):
        save_probabilities(path, models(), {})
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == written.read_bytes()


def test_a_model_of_floating_point_is_refused(tmp_path):
    class Floating(IntegerNext):
        exact = False

    model = Autoregressive(network=Floating(network=integer_network("causal")), num_codes=(CODES,), block=(3, 4))
    with pytest.raises(ValueError, match="prior is a Autoregressive that no file holds"):
        save_probabilities(tmp_path / "codec.npz", {"prior": model}, {})
    assert list(tmp_path.iterdir()) == []


def test_damaged_files_are_told_or_read_as_they_were(tmp_path):
    path, rng = tmp_path / "codec.npz", np.random.default_rng(1)
    model = fit_static(PLANES, NUM_CODES)
    save_probabilities(path, {"static": model}, {})
    content, whole = path.read_bytes(), 0
    for _ in range(1000):
        path.write_bytes(mutated_bytes(rng, content))
        found = outcome([str(path)], lambda: load_probabilities(path, {}))
        whole += found is not None
        assert found is None or found["static"].digest == model.digest
    assert whole < 300


@pytest.mark.parametrize("arrays", [{}, {"about": np.zeros(3, np.uint8)}, {"about": np.array([None])},
                                    {"about": np.frombuffer(b"{}", np.uint8)}])
def test_other_archives_are_told(tmp_path, arrays):
    path = tmp_path / "codec.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="holds no probabilities"):
        load_probabilities(path, {})


def test_another_version_says_so(tmp_path):
    path = tmp_path / "codec.npz"
    about = json.dumps({"version": 7, "models": {}, "digests": {}}).encode()
    np.savez(path, about=np.frombuffer(about, np.uint8))
    with pytest.raises(ValueError, match="of version 7, and this reads 1"):
        read_digests(path)
