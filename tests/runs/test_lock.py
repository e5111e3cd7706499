"""One process trains in a run's directory; a second one is refused by name, a crash frees it, readers are let in."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jaxgen.runs import Holder, LockedRunError, holder, lock, lock_run, open_run

TRAINER = """
import sys, time
from jaxgen.runs import lock_run
with lock_run(sys.argv[1]):
    print("locked", flush=True)
    time.sleep(100)
"""


@pytest.fixture
def other_process(tmp_path):
    """A process that holds the lock of tmp_path."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", TRAINER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_with_host_and_process_and_a_killed_one_frees_the_directory(
    tmp_path, other_process, monkeypatch
):
    monkeypatch.setattr(lock, "PATIENCE", 0.0)
    assert holder(tmp_path) == Holder(socket.gethostname(), other_process.pid)
    match = f"is being trained by process {other_process.pid} on {socket.gethostname()}: wait until"
    with pytest.raises(LockedRunError, match=match) as caught, lock_run(tmp_path):
        pass
    assert caught.value.holder.process == other_process.pid
    other_process.send_signal(signal.SIGKILL)
    other_process.wait()
    assert holder(tmp_path) is None
    with lock_run(tmp_path):
        assert holder(tmp_path) == Holder(socket.gethostname(), os.getpid())


def test_the_lock_ends_with_the_block_and_with_an_error_in_it(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyError), lock_run(tmp_path / "new"):
            assert holder(tmp_path / "new").process == os.getpid()
            raise KeyError
        assert holder(tmp_path / "new") is None


def test_a_second_start_in_the_same_process_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "PATIENCE", 0.0)
    with lock_run(tmp_path), pytest.raises(LockedRunError), lock_run(tmp_path):
        pass


def test_a_locked_directory_is_still_new_to_the_run_that_starts_in_it(tmp_path):
    with lock_run(tmp_path / "new"):
        assert not open_run(tmp_path / "new", {"a": 1}).started_before
        assert open_run(tmp_path / "new", {"a": 1}).started_before


def test_a_reader_s_look_does_not_refuse_a_start(tmp_path):
    """`holder` takes the lock for a moment; a start waits for so long."""
    with lock_run(tmp_path):
        pass
    with (tmp_path / ".lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        timer = threading.Timer(0.2, lambda: fcntl.flock(file, fcntl.LOCK_UN))
        timer.start()
        with lock_run(tmp_path):
            pass
        timer.join()


def test_only_the_first_of_several_processes_takes_the_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(lock.multihost_utils, "broadcast_one_to_all", lambda value: lock.FREE)
    with lock_run(tmp_path):
        monkeypatch.setattr(lock.jax, "process_index", lambda: 1)
        with lock_run(tmp_path):
            assert holder(tmp_path).process == os.getpid()


def test_the_other_processes_of_a_run_are_refused_with_the_first(tmp_path, monkeypatch):
    with lock_run(tmp_path):
        monkeypatch.setattr(lock.jax, "process_index", lambda: 1)
        monkeypatch.setattr(lock.multihost_utils, "broadcast_one_to_all", lambda value: lock.TAKEN)
        with pytest.raises(LockedRunError, match=f"process {os.getpid()} "), lock_run(tmp_path):
            pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_said_and_used(tmp_path, monkeypatch, capsys, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with lock_run(tmp_path):
        assert holder(tmp_path) is None
    assert "has no locks: start no second training in this directory" in capsys.readouterr().out


def test_another_error_of_the_lock_is_raised(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.EIO, "no luck")

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with pytest.raises(OSError, match="no luck"), lock_run(tmp_path):
        pass


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": 1}'])
def test_a_holder_that_wrote_nothing_readable_is_unknown(tmp_path, content):
    with lock_run(tmp_path):
        (tmp_path / ".lock").write_text(content)
        assert holder(tmp_path) == Holder("?", "?")
