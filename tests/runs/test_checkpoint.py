"""Checkpoints: what is restored is what was saved, on any devices, and what was damaged since is named."""

import json
import shutil
import time
from collections import namedtuple
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen.runs import Checkpointer, DamagedCheckpointError
from jaxgen.runs.checkpoint import read
from jaxgen.train import make_mesh, shard_state
from tests.helpers import toy

OPTIMIZER = optax.adam(1e-2)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A directory with the checkpoints 10, 20, 30; tests that change it work on a copy."""
    directory = tmp_path_factory.mktemp("saved") / "checkpoints"
    with Checkpointer(directory, keep=3) as checkpointer:
        for step in (5, 10, 20, 30):
            checkpointer.save(step, toy.state_at(step, OPTIMIZER), {"position": step})
    return directory


@pytest.fixture
def copy(saved, tmp_path):
    target = tmp_path / "checkpoints"
    shutil.copytree(saved, target)
    return target


def test_what_is_restored_is_what_was_saved(saved):
    with Checkpointer(saved) as checkpointer:
        assert checkpointer.steps() == [10, 20, 30]
        assert checkpointer.latest_step() == 30
        newest = checkpointer.restore(toy.make_state(OPTIMIZER))
        assert (newest.step, newest.data) == (30, {"position": 30})
        toy.assert_same_bits(newest.state, toy.state_at(30, OPTIMIZER))
        older = checkpointer.restore(toy.make_state(OPTIMIZER), 10)
        assert older.step == 10
        toy.assert_same_bits(older.state, toy.state_at(10, OPTIMIZER))


def test_every_dtype_and_kind_of_tree_survives(tmp_path):
    pair = namedtuple("pair", "left right")
    tree = {
        "half": jnp.arange(3, dtype=jnp.bfloat16), "int": jnp.int32(7), "flags": jnp.array([True, False]),
        "tuple": (jnp.ones(2), [jnp.zeros((1, 3))]), "pair": pair(jnp.ones(1), None), "empty": {},
        "special": jnp.array([np.nan, np.inf, -0.0]),
    }
    with Checkpointer(tmp_path / "c") as checkpointer:
        checkpointer.save(1, tree)
        restored = checkpointer.restore(jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree))
    toy.assert_same_bits(restored.state, tree)
    assert restored.data is None


def test_the_state_may_be_overwritten_as_soon_as_save_returns(tmp_path):
    tree = {str(i): jnp.full((500, 100), float(i)) for i in range(20)}
    bump = jax.jit(lambda t: jax.tree.map(lambda x: x + 100, t), donate_argnums=0)
    with Checkpointer(tmp_path / "c") as checkpointer:
        for step in range(3):
            began = time.monotonic()
            checkpointer.save(step, tree)
            assert time.monotonic() - began < 1.0
            for _ in range(3):
                tree = bump(tree)
            restored = checkpointer.restore(tree, step).state
            for i in range(20):
                assert np.all(np.asarray(restored[str(i)]) == i + 300 * step)


@pytest.mark.parametrize("fsdp_before, fsdp_after", [(4, 2), (1, 4)])
def test_a_checkpoint_moves_to_another_mesh(tmp_path, fsdp_before, fsdp_after):
    state = shard_state(toy.state_at(3, OPTIMIZER), make_mesh(fsdp=fsdp_before), min_size=0)
    template = shard_state(toy.state_at(0, OPTIMIZER), make_mesh(fsdp=fsdp_after), min_size=0)
    with Checkpointer(tmp_path / "c") as checkpointer:
        checkpointer.save(3, state)
        restored = checkpointer.restore(template).state
    toy.assert_same_bits(restored, state)
    for leaf, target in zip(jax.tree.leaves(restored), jax.tree.leaves(template), strict=True):
        assert leaf.sharding == target.sharding


def test_a_step_is_saved_once(tmp_path):
    with Checkpointer(tmp_path / "c") as checkpointer:
        assert checkpointer.save(1, {"w": jnp.ones(1)})
        assert not checkpointer.save(1, {"w": jnp.ones(1)})
    with Checkpointer(tmp_path / "c") as checkpointer, pytest.raises(ValueError, match="exists already.*drop_after"):
        checkpointer.save(1, {"w": jnp.ones(1)})


def test_a_run_can_go_back(copy):
    with Checkpointer(copy) as checkpointer:
        checkpointer.restore(toy.make_state(OPTIMIZER), 10)
        checkpointer.drop_after(10)
        assert checkpointer.steps() == [10]
        checkpointer.save(20, toy.state_at(21, OPTIMIZER))
        checkpointer.wait()
        assert int(checkpointer.restore(toy.make_state(OPTIMIZER)).state.step) == 21


def test_what_a_crash_left_behind_is_neither_read_nor_kept(copy):
    (copy / "30").rename(copy / "30.orbax-checkpoint-tmp")
    (copy / "20").rename(copy / ".deleting-20")
    with Checkpointer(copy) as checkpointer:
        assert checkpointer.steps() == [10]
        assert sorted(path.name for path in copy.iterdir()) == ["10"]


def test_a_missing_checkpoint_is_an_error_that_says_which_there_are(saved, tmp_path):
    with Checkpointer(tmp_path / "none") as checkpointer:
        assert checkpointer.latest_step() is None
        with pytest.raises(FileNotFoundError, match="no checkpoint in .*none: it has none"):
            checkpointer.restore({"w": jnp.ones(1)})
    with Checkpointer(saved) as checkpointer, pytest.raises(FileNotFoundError, match=r"of step 7 .*10, 20, 30"):
        checkpointer.restore(toy.make_state(OPTIMIZER), 7)


def damaged(copy, message, step=None):
    with Checkpointer(copy) as checkpointer, pytest.raises(DamagedCheckpointError, match=message):
        checkpointer.restore(toy.make_state(OPTIMIZER), step)


def largest_file(directory):
    files = [path for path in directory.rglob("*") if path.is_file() and path.name != "jaxgen.json"]
    return max(files, key=lambda path: path.stat().st_size)


def test_a_truncated_file_is_damage_and_the_message_says_how_to_go_on(copy):
    file = largest_file(copy / "30")
    file.write_bytes(file.read_bytes()[:-7])
    damaged(copy, "30 is damaged: .* bytes instead of .*Delete that directory and the same .* continues from step 20")


def test_one_flipped_bit_is_damage(copy):
    file = largest_file(copy / "30")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    damaged(copy, "have changed")
    with Checkpointer(copy) as checkpointer:
        toy.assert_same_bits(checkpointer.restore(toy.make_state(OPTIMIZER), 20).state, toy.state_at(20, OPTIMIZER))


def test_a_missing_file_and_a_broken_manifest_are_damage(copy):
    largest_file(copy / "30").unlink()
    damaged(copy, "is missing")
    (copy / "10" / "jaxgen.json").write_text('{"format": "jaxg')
    damaged(copy, "jaxgen.json cannot be read.*starts again at step 0", 10)


def change(copy, step, edit):
    """Writes the manifest of a step again after `edit`, which also sees what is in it."""
    file = copy / str(step) / "jaxgen.json"
    manifest = json.loads(file.read_text())
    edit(manifest)
    file.write_text(json.dumps(manifest))


def test_a_changed_manifest_is_damage(copy):
    """Where the data goes on, the step, what is compared: nothing of it is taken on trust."""
    original = (copy / "30" / "jaxgen.json").read_text()
    for edit in (
        lambda manifest: manifest["data"].update(position=90),
        lambda manifest: manifest.update(step=31),
        lambda manifest: manifest.update(dta=manifest.pop("data")),
        lambda manifest: manifest["files"].clear(),
        lambda manifest: manifest["arrays"].popitem(),
        lambda manifest: manifest.pop("checksum"),
    ):
        (copy / "30" / "jaxgen.json").write_text(original)
        change(copy, 30, edit)
        damaged(copy, r"30 is damaged: jaxgen\.json has changed: .*continues from step 20")
    (copy / "30" / "jaxgen.json").write_text("")
    damaged(copy, r"30 is damaged: jaxgen\.json cannot be read .*is no JSON")


def test_a_checkpoint_under_another_step_s_name_is_damage(copy):
    (copy / "30").rename(copy / "40")
    damaged(copy, r"40 is damaged: it is the checkpoint of step 30 by its jaxgen\.json\. .*continues from step 20")
    shutil.copy(copy / "10" / "jaxgen.json", copy / "20" / "jaxgen.json")
    damaged(copy, "20 is damaged: it is the checkpoint of step 10", 20)


def test_files_of_another_checkpoint_of_the_same_run_are_damage(copy):
    for file in [path for path in (copy / "10").iterdir() if path.name != "jaxgen.json"]:
        other = copy / "20" / file.name
        shutil.rmtree(other) if other.is_dir() else other.unlink()
        file.rename(other)
    damaged(copy, "20 is damaged: ", 20)


def test_names_that_only_look_like_steps_are_left_alone(copy):
    for name in ("²", "٣", "010", "-5", "20a"):
        (copy / name).mkdir()
    with Checkpointer(copy) as checkpointer:
        assert checkpointer.steps() == [10, 20, 30]


def test_a_foreign_directory_is_an_error_that_says_so(copy):
    (copy / "40").mkdir()
    (copy / "40" / "weights.npz").write_bytes(b"x")
    with Checkpointer(copy) as checkpointer, pytest.raises(ValueError, match="40 has no jaxgen.json.*move it away"):
        checkpointer.latest_step()
    (copy / "40" / "jaxgen.json").write_text('{"format": "another"}')
    with Checkpointer(copy) as checkpointer, pytest.raises(ValueError, match="another program or version wrote it"):
        checkpointer.restore(toy.make_state(OPTIMIZER))
    with pytest.raises(ValueError, match="is a file: give another directory"):
        Checkpointer(copy / "10" / "jaxgen.json")


def test_arrays_of_another_shape_dtype_or_name_are_named(saved):
    state = toy.make_state(OPTIMIZER)
    params = {**state.params, "encoder": {"kernel": jnp.zeros((toy.WIDTH, 5))}}
    extra = {**state.params, "more": jnp.zeros(2)}
    half = {**state.params, "encoder": {"kernel": state.params["encoder"]["kernel"].astype(jnp.bfloat16)}}
    with Checkpointer(saved) as checkpointer:
        for new, message in [
            (params, r"at params/encoder/kernel it has float32\[12, 8\], but float32\[12, 5\] is wanted"),
            (extra, r"at params/more it has nothing, but float32\[2\] is wanted"),
            (half, r"at params/encoder/kernel it has float32\[12, 8\], but bfloat16\[12, 8\] is wanted"),
        ]:
            with pytest.raises(ValueError, match=message):
                checkpointer.restore(state._replace(params=new))
        with pytest.raises(ValueError, match=r"at ema_params/decoder/bias it has float32\[12\], but nothing is wanted"):
            checkpointer.restore(state._replace(ema_params=None))


def test_bad_arguments_are_named(tmp_path):
    for keep in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match=f"keep must be an integer of at least 1, got {keep}"):
            Checkpointer(tmp_path, keep=keep)
    with Checkpointer(tmp_path / "c") as checkpointer, pytest.raises(TypeError, match="must be plain JSON"):
        checkpointer.save(1, {"w": jnp.ones(1)}, {"position": object()})


def test_numpy_s_whole_numbers_are_whole_numbers(tmp_path):
    with Checkpointer(tmp_path / "c", keep=np.int64(2)) as checkpointer:
        checkpointer.save(np.int32(3), {"w": jnp.ones(1)}, {"seed": np.int64(7), "at": [np.uint8(1)]})
        restored = checkpointer.restore({"w": jnp.ones(1)}, np.int64(3))
        with pytest.raises(ValueError, match="step must be an integer of at least 0, got 2.5"):
            checkpointer.save(2.5, {"w": jnp.ones(1)})
    assert (restored.step, restored.data) == (3, {"seed": 7, "at": [1]})


def test_a_checkpoint_from_before_a_part_that_holds_no_arrays_is_read(tmp_path):
    class Before(NamedTuple):
        step: jax.Array
        params: dict

    class Since(NamedTuple):
        step: jax.Array
        params: dict
        adversary: dict | None = None

    params = {"w": jnp.arange(3.0)}
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, Before(jnp.int32(1), params))
    restored = read(tmp_path, Since(jnp.int32(0), {"w": jnp.zeros(3)}))
    assert restored.state.adversary is None and restored.state.step == 1
    np.testing.assert_array_equal(restored.state.params["w"], params["w"])
    with pytest.raises(ValueError, match="adversary"):
        read(tmp_path, Since(jnp.int32(0), {"w": jnp.zeros(3)}, {"w": jnp.zeros(3)}))
