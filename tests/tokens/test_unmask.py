"""Every unmasker in every mode, and what defines each: joint distributions, counts of masks, known tokens, ids."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from jaxgen import tokens as tk
from jaxgen.diffusion import cfg
from tests.tokens.joint import JOINT, MASK_ID, exact_logits

KEY = jax.random.key(17)
COND, IDS = jnp.array([1.0, -1.0, 0.5, 2.0]), jnp.array([7, 3, 0, 9])
EVERY = pytest.mark.parametrize("name", tk.UNMASKERS)
SETTING = {"ancestral": "remask", "confidence": "choice_temperature", "maskgit": "choice_temperature"}


def waves(tokens, t, cond):
    """Logits of six tokens of four values, 4 the mask, which depend on all of their arguments."""
    shift = t if cond is None else t + cond
    return jnp.sin(jnp.arange(6.0)[:, None] * 1.7 + tokens[..., None] + jnp.arange(4.0) * shift[:, None, None]) * 3


def decode(name, cond=COND, ids=IDS, setting=0.5, logits_fn=waves, times=None, **options):
    """Six tokens for each id [B, 6]."""
    return tk.sample_tokens(KEY, logits_fn, tk.UNMASKERS[name](setting), tk.mask_times(3) if times is None else times,
                            (len(ids), 6), mask_id=4, cond=cond, sample_ids=ids, **options)


def shares(tokens):
    return np.histogram2d(*np.asarray(tokens).T, bins=[np.arange(4)] * 2)[0] / len(tokens)


def watched(counts, mask_id, logits_fn):
    """The network, and how many masks it sees at each call, in the list `counts`."""

    def function(tokens, t, cond):
        jax.debug.callback(lambda x: counts.append((np.asarray(x) == mask_id).sum(1)), tokens, ordered=True)
        return logits_fn(tokens, t, cond)

    return function


@EVERY
def test_a_network_in_bfloat16_and_the_mode_of_float64_give_int32_tokens(name):
    narrow = lambda *inputs: waves(*inputs).astype(jnp.bfloat16)  # noqa: E731
    tokens = jax.jit(lambda: decode(name, logits_fn=narrow, times=np.array([1, 0])))()
    assert tokens.dtype == jnp.int32 and tokens.min() >= 0 and tokens.max() < 4
    with jax.enable_x64(True):
        wide = jax.eval_shape(lambda cond, ids: decode(name, cond, ids, times=np.linspace(1, 0, 4)),
                              np.asarray(COND, np.float64), np.asarray(IDS, np.int64))
    assert wide.dtype == jnp.int32


@EVERY
def test_other_settings_temperatures_filters_and_times_do_not_compile_again(name):
    traces = []

    @jax.jit
    def run(times, setting, temperature, top_k, top_p):
        traces.append(0)
        return decode(name, setting=setting, times=times, temperature=temperature, top_k=top_k, top_p=top_p)

    results = [run(tk.mask_times(3), *numbers) for numbers in (
        (0.0, 1.0, 4, 1.0), (0.9, 5.0, 3, 0.95), (0.2, 1.0, 1, 1.0), (0.8, 2.0, 4, 0.0))]
    run(jnp.array([1.0, 0.9, 0.1, 0.0]), 0.0, 1.0, 4, 1.0)
    assert len(traces) == 1 and (results[0] != results[1]).any()


@EVERY
@pytest.mark.parametrize("only", [{"top_k": 1}, {"top_p": 0.0}])
def test_filters_that_leave_one_token_give_the_most_likely_one(name, only):
    tokens = jax.jit(lambda: decode(name, logits_fn=lambda tokens, t, cond: waves(jnp.zeros((4, 6)), 0 * t, cond),
                                    temperature=9.0, **only))()
    np.testing.assert_array_equal(tokens, jnp.argmax(waves(jnp.zeros((4, 6)), jnp.zeros(4), COND), axis=-1))


@EVERY
def test_devices_that_differ_in_settings_and_known_tokens_draw_what_one_does(name):
    mesh, data = Mesh(jax.devices()[:2], "data"), PartitionSpec("data")
    known, keep = jnp.full((4, 6), 2), jnp.arange(24).reshape(4, 6) % 5 == 0

    def part(cond, ids, known, keep, temperature):
        return decode(name, cond, ids, known=known, keep=keep, temperature=temperature[0])

    temperature = jnp.array([0.5, 3.0])
    sharded = jax.jit(jax.shard_map(part, mesh=mesh, in_specs=data, out_specs=data, check_vma=True))(
        COND, IDS, known, keep, temperature)
    for i in (0, 1):
        half = slice(2 * i, 2 * i + 2)
        whole = jax.jit(part)(COND[half], IDS[half], known[half], keep[half], temperature[i:])
        np.testing.assert_array_equal(sharded[half], whole)
    assert (np.asarray(sharded)[np.asarray(keep)] == 2).all()


@EVERY
def test_a_sequence_is_the_same_in_every_batch(name):
    run = jax.jit(lambda ids: tk.sample_tokens(
        KEY, exact_logits, tk.UNMASKERS[name](), tk.mask_times(5), (len(ids), 2), mask_id=MASK_ID, sample_ids=ids))
    np.testing.assert_array_equal(run(jnp.array([3, 6])), run(jnp.arange(8))[jnp.array([3, 6])])


@EVERY
def test_a_logit_for_the_mask_token_is_never_drawn(name):
    sure = lambda tokens, t, cond: jnp.zeros((*tokens.shape, 4)).at[..., MASK_ID].set(50.0)  # noqa: E731
    tokens = jax.jit(lambda key: tk.sample_tokens(
        key, sure, tk.UNMASKERS[name](), tk.mask_times(3), (50, 4), mask_id=MASK_ID, top_k=2))(KEY)
    assert int(tokens.max()) < MASK_ID


@EVERY
def test_known_tokens_come_back_and_the_rest_is_drawn_given_them(name):
    n = 6000
    known, keep = jnp.full((n, 2), 2), jnp.tile(jnp.array([[True, False]]), (n, 1))
    tokens = jax.jit(lambda known, keep: tk.sample_tokens(
        KEY, exact_logits, tk.UNMASKERS[name](0.7), tk.mask_times(8), (n, 2), mask_id=MASK_ID, known=known,
        keep=keep))(known, keep)
    np.testing.assert_array_equal(tokens[:, 0], 2)
    np.testing.assert_allclose(shares(tokens)[2], JOINT[2] / JOINT[2].sum(), atol=0.03)


@EVERY
def test_sequences_that_are_known_as_a_whole_come_back(name):
    known = jnp.arange(24).reshape(4, 6) % 4
    np.testing.assert_array_equal(jax.jit(lambda: decode(name, known=known, keep=jnp.ones((1, 6), bool)))(), known)


@EVERY
def test_every_step_calls_the_network_once_and_none_shows_what_times_above_zero_leave(name):
    counts = []
    run = jax.jit(lambda times: decode(name, logits_fn=watched(counts, 4, waves), times=times))
    tokens = run(jnp.array([1.0, 0.8, 0.6]))
    jax.effects_barrier()
    assert len(counts) == 2 and counts[0].tolist() == [6] * 4
    assert 0 < (tokens == 4).sum() < 24


def test_ancestral_samples_have_the_joint_distribution_with_and_without_remasking():
    run = jax.jit(lambda remask: tk.sample_tokens(
        KEY, exact_logits, tk.ancestral(remask), tk.mask_times(64), (10_000, 2), mask_id=MASK_ID))
    for remask in (0.0, 0.5, 1.0):
        tokens = run(remask)
        assert int(tokens.max()) < MASK_ID
        np.testing.assert_allclose(shares(tokens), JOINT, atol=0.02)


@pytest.mark.parametrize("schedule", [tk.polynomial_masking(2.0), tk.cosine_masking()], ids=["polynomial", "cosine"])
@pytest.mark.parametrize("remask", [0.0, 1.0])
def test_the_ancestral_share_of_masks_is_that_of_the_forward_process(schedule, remask):
    counts, times = [], tk.mask_times(5)
    jax.jit(lambda remask: tk.sample_tokens(
        KEY, watched(counts, 4, waves), tk.ancestral(remask, schedule), times, (3000, 6), mask_id=4))(remask)
    jax.effects_barrier()
    expected = 1 - np.asarray(schedule.alpha(times[:-1]))
    np.testing.assert_allclose([np.mean(c) / 6 for c in counts], expected, atol=4 * 0.5 / (3000 * 6) ** 0.5)


def test_confidence_shows_everything_one_by_one():
    sample = jax.jit(lambda times, count: tk.sample_tokens(
        KEY, exact_logits, tk.confidence(), times, (count, 2), mask_id=MASK_ID), static_argnums=1)
    tokens = sample(tk.mask_times(2), 10_000)
    # Which position comes first depends on confidence, its token is drawn from the marginal.
    assert int(tokens.max()) < MASK_ID
    np.testing.assert_allclose(shares(tokens), JOINT, atol=0.12)
    assert int(sample(tk.mask_times(1), 4).max()) < MASK_ID


def test_confidence_leaves_the_schedules_share_of_unknown_tokens_and_shows_one_at_least():
    counts, keep = [], jnp.arange(6)[None] < jnp.arange(4)[:, None]
    jax.jit(lambda: decode("confidence", logits_fn=watched(counts, 4, waves), times=tk.mask_times(8),
                           known=jnp.zeros((4, 6), int), keep=keep))()
    jax.effects_barrier()
    left = np.array([6, 5, 4, 3])
    for i, seen in enumerate(counts):
        np.testing.assert_array_equal(seen, left)
        left = np.minimum(np.floor((1 - (i + 1) / 8) * np.array([6, 5, 4, 3]) + 1e-4), np.maximum(left - 1, 0))


@pytest.mark.parametrize("name", ["confidence", "maskgit"])
def test_the_most_confident_tokens_are_shown_first_without_noise(name):
    sure = np.array([0.5, 3.0, 1.0, 5.0, 2.0, 4.0])  # of token 0, against three others of 0
    logits = lambda tokens, t, cond: jnp.zeros((*tokens.shape, 4)).at[..., 0].set(sure)  # noqa: E731
    tokens = jax.jit(lambda times: decode(name, setting=0.0, logits_fn=logits, times=times, top_k=1))(
        jnp.array([1.0, 0.5]))
    left = 3 if name == "confidence" else 4  # floor(6 / 2), floor(6 cos(pi / 4))
    np.testing.assert_array_equal(tokens == 4, np.broadcast_to(np.argsort(np.argsort(sure)) < left, (4, 6)))


def test_maskgits_cosine_schedule_has_its_pinned_counts():
    counts, keep = [], jnp.stack([jnp.zeros(256, bool), jnp.arange(256) >= 10])
    flat = lambda tokens, t, cond: jnp.zeros((*tokens.shape, 4))  # noqa: E731
    jax.jit(lambda: tk.sample_tokens(KEY, watched(counts, 4, flat), tk.maskgit(), tk.mask_times(12), (2, 256),
                                     mask_id=4, known=jnp.zeros((2, 256), int), keep=keep))()
    jax.effects_barrier()
    seen = np.array(counts)
    assert seen[:, 0].tolist() == [256, 253, 247, 236, 221, 203, 181, 155, 128, 97, 66, 33]
    assert seen[:, 1].tolist() == [10] + [9] * 11
    with pytest.raises(ValueError, match="Did you mean 'cosine'"):
        tk.maskgit(schedule="cosin")


@pytest.mark.parametrize("guided", [False, True])
def test_maskgit_leaves_as_many_masks_as_scheduled_gives_the_network_their_share_and_keeps_known_tokens(guided):
    counts, times = [], []

    def logits_fn(tokens, t, cond):
        one = slice(None, None, 2 if guided else None)
        jax.debug.callback(lambda x, t: (counts.append((np.asarray(x) == 5).sum(1)), times.append(np.asarray(t))),
                           tokens[one], t[one])
        wide = jnp.broadcast_to(jnp.arange(16)[:, None] % 5 == jnp.arange(5), (*tokens.shape, 5))
        return 6.0 * wide * (1.0 if cond is None else cond[:, None, None])

    known, keep = jnp.full((3, 16), 4), jnp.zeros((3, 16), bool).at[0, ::3].set(True)
    function, cond = (cfg(2.0, 0.0)(logits_fn), jnp.ones(3)) if guided else (logits_fn, None)
    tokens = jax.jit(lambda key: tk.sample_tokens(
        key, function, tk.maskgit(), tk.mask_times(6), (3, 16), mask_id=5, known=known, keep=keep, cond=cond))(KEY)
    jax.effects_barrier()
    unknown = np.array([10, 16, 16])
    wanted = np.floor(16 * np.cos(np.pi / 2 * np.arange(1, 6) / 6))
    np.testing.assert_array_equal(counts, [unknown, *np.maximum(1, np.minimum(unknown - 1, wanted[:, None]))])
    np.testing.assert_allclose(times, np.array(counts) / 16, rtol=1e-6)
    assert (tokens[0, ::3] == 4).all() and (tokens < 5).all()
    agree = np.mean((np.asarray(tokens) == np.arange(16) % 5)[~np.asarray(keep)])
    assert agree > 0.9  # the network is sure


def test_a_user_s_own_unmasker_decodes_from_left_to_right():
    def step(propose, decoding, t, s, keys):
        drawn, log_p = propose(decoding, t, keys)
        assert log_p.shape == (4, 6, 4)
        shown = decoding.masked & (jnp.arange(6) < decoding.memory)
        return tk.Decoding(jnp.where(shown, drawn, decoding.tokens), decoding.masked & ~shown, decoding.memory + 1)

    own = tk.Unmasker(lambda tokens, masked: tk.Decoding(tokens, masked, 1), step)
    tokens = jax.jit(lambda: tk.sample_tokens(KEY, waves, own, tk.mask_times(6)[:4], (4, 6), mask_id=4))()
    np.testing.assert_array_equal(tokens == 4, np.broadcast_to(np.arange(6) >= 3, (4, 6)))


def run(unmasker=None, times=None, shape=(2, 6), key=KEY, logits_fn=waves, **options):
    return tk.sample_tokens(key, logits_fn, unmasker or tk.ancestral(), tk.mask_times(3) if times is None else times,
                            shape, mask_id=4, **options)


KNOWN = np.zeros((2, 6), np.int32)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: run(key=0), "key must be one key"),
    (lambda: run("maskgit"), r"unmasker must be an Unmasker, got 'maskgit': make one, such as jaxgen.tokens"),
    (lambda: run(tk.maskgit), r"call it first, maskgit\(\)"),
    (lambda: run(3), "make one, such as"),
    (lambda: run(shape=(2, 6, 2)), r"shape must be \(B, N\), got \(2, 6, 2\)"),
    (lambda: run(times=np.array([0.0, 1.0])), "times must decrease strictly"),
    (lambda: run(times=np.array([1.0, np.nan, 0.0])), "times must decrease strictly"),
    (lambda: run(times=np.array([1.0])), r"times must be a vector \[n \+ 1\] from 1 to 0, got shape \(1,\)"),
    (lambda: run(logits_fn=lambda tokens, t, cond: tokens), "what logits_fn returns must hold floating-point"),
    (lambda: run(logits_fn=lambda tokens, t, cond: jnp.zeros((2, 3))), r"logits \[B, N, K\] of"),
    (lambda: run(temperature=0), "temperature must be positive, got 0; for the most likely token use top_k=1"),
    (lambda: run(temperature=np.inf), "temperature must be finite"),
    (lambda: run(top_k=0), "top_k must be at least 1, got 0"),
    (lambda: run(top_p=95), r"top_p must be a fraction in \[0, 1\], got 95"),
    (lambda: run(known=KNOWN), "known and keep belong together"),
    (lambda: run(keep=KNOWN == 0), "known and keep belong together"),
    (lambda: run(known=KNOWN, keep=np.ones((2, 7), bool)), r"keep of shape \(2, 7\) does not fit `known`"),
    (lambda: run(known=KNOWN, keep=KNOWN), "keep must be boolean"),
    (lambda: run(known=KNOWN[:1], keep=KNOWN == 0), r"known must have the shape \(2, 6\) of the result, got \(1, 6\)"),
    (lambda: run(known=KNOWN + 0.5, keep=KNOWN == 0), "known must be whole numbers"),
    (lambda: run(known=KNOWN + 4, keep=KNOWN == 0), "known holds the mask token 4 where keep is True"),
    (lambda: run(sample_ids=np.arange(3)), "each of the 2 samples"),
    (lambda: tk.ancestral(1.5), r"remask must be a fraction in \[0, 1\], got 1.5"),
    (lambda: tk.ancestral(schedule="cosine"), r"schedule must be a MaskSchedule, got 'cosine': make one, such as"),
    (lambda: tk.confidence(np.inf), "choice_temperature must be finite"),
    (lambda: tk.confidence(schedule="cosine"), "schedule must be a MaskSchedule"),
    (lambda: tk.maskgit(-1), "choice_temperature must not be below 0, got -1"),
    (lambda: tk.maskgit(schedule=tk.cosine_masking()), "unknown schedule MaskSchedule"),
    (lambda: tk.mask_times(2.5), "n must be an integer"),
    (lambda: tk.mask_times(0), "n must be an integer of at least 1"),
])
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
