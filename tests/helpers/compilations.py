"""How often XLA compiles."""

import jax

EVENT = "/jax/core/compile/backend_compile_duration"


def count(call):
    """Programs that `call` compiles."""
    times, counting = [], True
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: times.append(seconds) if counting and event == EVENT else None
    )
    try:
        jax.block_until_ready(call())
    finally:
        counting = False
    return len(times)
