"""Types that every part shares."""

from typing import Any, NamedTuple

PyTree = Any
AxisName = str | tuple[str, ...] | None


class Variables(NamedTuple):
    """What a model or a quantizer holds.

    Attributes:
        params: what the gradient trains.
        state: what training changes without a gradient (EMA sums, usage); `{}` if there is none.
    """

    params: Any
    state: Any
