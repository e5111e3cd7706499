"""Two processes on this machine train as one does, and what is wrong between them is said."""

import json
import socket

import jax
import numpy as np
import optax
import pytest

from experiments.common import processes
from jaxgen import data
from jaxgen.show import read_records
from tests.experiments import pair
from tests.helpers import toy


def records(workdir):
    return [{k: v for k, v in r.items() if k not in ("time", "examples_per_second")}
            for r in read_records(workdir / "metrics.jsonl")]


def losses(workdir):
    return [r["loss"] for r in records(workdir) if "loss" in r]


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    """The losses of six steps of one process."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    pair.train_toy(workdir, 6)
    return losses(workdir)


@pytest.fixture(scope="module")
def told(scripts, tmp_path_factory):
    """The runs' directory, and both processes' answers."""
    directory, port = tmp_path_factory.mktemp("pair"), pair.free_port()
    pair.train_toy(directory / "one", 2)
    ended = pair.run(pair.lessons, lambda index: (directory, index, port), directory / "output", scripts.environment)
    assert [status for status, *_ in ended] == [0, 0], ended
    answers = [json.loads((directory / f"{index}.json").read_text()) for index in (0, 1)]
    return directory, answers, ended


@pytest.mark.parametrize("name", ["jit", "pmap", "one"])
def test_two_processes_train_and_resume_with_the_losses_of_one(told, one_process, name):
    directory, answers, _ = told
    assert [a.get(name) for a in answers] == [None, None]
    np.testing.assert_allclose(losses(directory / name)[:4], one_process[:4], rtol=1e-5)
    assert sorted(path.name for path in (directory / name / "checkpoints").iterdir()) == ["2", "4"]
    assert (directory / name / "images" / "kernel-00000004.png").is_file()


@pytest.mark.parametrize("name", ["jit", "pmap"])
def test_one_process_resumes_what_two_saved(told, one_process, name):
    directory, _, _ = told
    pair.train_toy(directory / name, 6)
    np.testing.assert_allclose(losses(directory / name), one_process, rtol=1e-5)


def test_a_loss_that_is_not_finite_names_the_ids_of_the_whole_batch_in_both_processes(told):
    _, answers, _ = told
    for answer in answers:
        assert answer["poison"].startswith("NonFiniteError: loss is nan at step")
        ids = json.loads(answer["poison"].partition("ids are ")[2].partition(";")[0])
        assert len(ids) == 8 and 5 in ids


def test_a_signal_to_one_process_saves_and_ends_both_after_the_same_step(told):
    directory, answers, _ = told
    assert [a["signal"] for a in answers] == [[3, "SIGTERM"], [3, "SIGTERM"]]
    assert (directory / "signal" / "checkpoints" / "3").is_dir()


def test_only_the_first_process_prints_and_logs(told):
    directory, _, ended = told
    (_, out, err), (_, other_out, other_err) = ended
    assert "2 cpu devices of 2 processes; 2 steps" in out and "step 2/2" in err
    assert "toy" not in other_out and "step" not in other_err
    assert [r["step"] for r in records(directory / "jit") if "loss" in r][:4] == [1, 2, 3, 4]


def test_parameters_shared_between_processes_train_resume_and_are_gathered_whole(told):
    step, state, batches = jax.jit(toy.make_step()), toy.make_state(optax.adam(1e-2)), toy.Batches()
    for _ in range(4):
        state, _ = step(state, next(batches))
    for answer in told[1]:
        toy.assert_close([np.asarray(leaf) for leaf in answer["fsdp"]], jax.tree.leaves(state.params))


@pytest.mark.parametrize(("name", "message"), [
    ("seeds jit", "the 2 processes hold different values of params/"),
    ("seeds pmap", "the 2 processes hold different values of params/"),
    ("configurations", "started with different configurations"),
    ("shared", "is not the same for all processes, which find the steps [4, None]: use a directory on a file system"),
])
def test_processes_that_differ_are_an_error_in_both(told, name, message):
    for answer in told[1]:
        assert message in answer[name]


def test_a_position_saved_by_two_processes_is_that_of_one():
    dataset = data.Dataset.from_arrays(np.zeros((20, 2, 2, 1), np.uint8))
    alone, *two = (data.batches(dataset, batch_size=4, seed=3, process_index=index, process_count=count)
                   for index, count in ((0, 1), (0, 2), (1, 2)))
    for _ in range(7):
        both = np.concatenate([next(part)["id"] for part in two])
        np.testing.assert_array_equal(next(alone)["id"], both)
    assert two[0].get_state() == two[1].get_state() == alone.get_state()
    again = data.batches(dataset, batch_size=4, seed=3)
    again.set_state(two[1].get_state())
    np.testing.assert_array_equal(next(again)["id"], next(alone)["id"])


@pytest.mark.parametrize(("options", "message"), [
    ({"process_index": 2, "process_count": 2}, "process_index=2 must be below config.parallel.process_count=2"),
    ({"process_index": -1}, "config.parallel.process_index must be an integer of at least 0, got -1"),
    ({"process_count": 0}, "config.parallel.process_count must be an integer of at least 1, got 0"),
    ({"process_count": 3}, "config.data.batch_size=8 does not divide over config.parallel.process_count=3"),
    ({"coordinator": "10.0.0.1"}, "config.parallel.coordinator='10.0.0.1' must be HOST:PORT"),
    ({"coordinator": "10.0.0.1:99999"}, "must be HOST:PORT"),
])
def test_wrong_options_of_processes_are_named_before_anything_starts(options, message):
    config = pair.configure(2)
    config.parallel.update(options)
    with pytest.raises(ValueError, match=message):
        processes.start_processes(config)


def test_a_port_in_use_and_a_coordinator_that_does_not_answer_are_named(monkeypatch):
    config = pair.configure(2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        config.parallel.update({"coordinator": address, "process_count": 2, "process_index": 0})
        with pytest.raises(ValueError, match=f"process 0 cannot listen at config.parallel.coordinator={address}"):
            processes.start_processes(config)
    monkeypatch.setattr(processes, "WAIT", 0.1)
    config.parallel.process_index = 1
    with pytest.raises(ValueError, match=f"nobody answers at config.parallel.coordinator={address}"):
        processes.start_processes(config)


def test_a_machine_that_is_no_cluster_is_told_the_options(scripts, tmp_path):
    message = scripts.run("train_vqvae", f"--workdir={tmp_path / 'run'}", "--config=vqvae_mnist:smoke",
                          "--config.parallel.multihost=True", fails=True)
    for name in ("coordinator", "process_count", "process_index"):
        assert f"config.parallel.{name}" in message


def start_two(scripts, directory, name, *arguments, own=((), ())):
    """[(exit status, stdout, stderr)] of a script started twice, as a user does on a machine that is no cluster."""
    address = f"127.0.0.1:{pair.free_port()}"
    environment = {**scripts.environment, "JAX_COORDINATOR_BIND_ADDRESS": address}
    options = [f"--config.parallel.coordinator={address}", "--config.parallel.process_count=2"]
    return pair.run(
        pair.script,
        lambda index: (name, [*arguments, *options, f"--config.parallel.process_index={index}", *own[index]]),
        directory, environment)


@pytest.fixture(scope="module")
def codes(scripts, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("first") / "codes"
    scripts.run("train_vqvae", f"--workdir={workdir}", "--config=vqvae_mnist:smoke")
    return workdir


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("name", "config", "options"), [
    ("vqvae", "vqvae_mnist", []),
    ("vqvae", "vqvae_mnist", ["--config.parallel.mode=pmap"]),
    ("vqvae", "vqvae_mnist", ["--config.parallel.fsdp=2"]),
    ("vqgan", "vqgan_mnist", ["--config.perceptual.name=none", "--config.adversarial.start=1"]),
    ("diffusion", "diffusion_mnist", []),
    ("latent_diffusion", "latent_diffusion_mnist", ["--config.autoencoder={codes}"]),
    ("latent_diffusion", "latent_diffusion_mnist", ["--config.autoencoder={codes}", "--config.parallel.mode=pmap"]),
    ("token_prior", "token_prior_mnist", ["--config.tokenizer={codes}"]),
    ("token_prior", "token_prior_autoregressive_mnist", ["--config.tokenizer={codes}"]),
    ("classifier", "classifier_mnist", []),
])
def test_scripts_started_twice_train_and_resume_as_one_process(scripts, codes, tmp_path, name, config, options):
    arguments = [f"--config={config}:smoke", "--config.optimizer.schedule=constant",
                 "--config.evaluate_every=100", *(option.format(codes=codes) for option in options)]
    alone = [option for option in arguments if "parallel" not in option]
    scripts.run(f"train_{name}", f"--workdir={tmp_path / 'alone'}", *alone)
    for num_steps in (2, 4):
        ended = start_two(scripts, tmp_path / "output", f"train_{name}", f"--workdir={tmp_path / 'two'}", *arguments,
                          f"--config.num_steps={num_steps}")
        assert [status for status, *_ in ended] == [0, 0], ended
    assert "resuming at step 2 of 4" in ended[0][1] and "Traceback" not in ended[0][2] + ended[1][2]
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "alone"), rtol=2e-4)
    out = scripts.run(f"train_{name}", f"--workdir={tmp_path / 'two'}", *alone, "--config.num_steps=6")
    assert "resuming at step 4 of 6" in out


@pytest.mark.slow
def test_scripts_started_with_different_options_end_with_one_message(scripts, tmp_path):
    ended = start_two(scripts, tmp_path / "output", "train_vqvae", f"--workdir={tmp_path / 'two'}",
                      "--config=vqvae_mnist:smoke", own=((), ("--config.seed=1",)))
    for status, _, err in ended:
        assert status == 1 and "different configurations" in err and "Traceback" not in err
    assert not (tmp_path / "two").exists()
