"""What the training loop asks of batches, checkpoints and a logger."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


class Batches(Protocol):
    """Batches on the device, from an iterator that can say where it stands."""

    def __next__(self) -> Mapping[str, Any]: ...

    def get_state(self) -> Any:
        """Plain JSON from which `set_state` goes on with the batch after the last one that `next` gave."""

    def set_state(self, state: Any) -> None: ...


class Checkpoints(Protocol):
    """What `fit` and `resume` need of checkpoints; `jaxgen.runs.Checkpointer` is one."""

    directory: Path

    def latest_step(self) -> int | None: ...

    def save(self, step: int, state: Any, data: Any = None) -> bool: ...

    def restore(self, template: Any, step: int | None = None) -> Any: ...

    def drop_after(self, step: int) -> None: ...

    def wait(self) -> None: ...


class ScalarLogger(Protocol):
    """What `fit` needs of a logger; `jaxgen.show.Logger` is one."""

    def scalars(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def flush(self) -> None: ...
