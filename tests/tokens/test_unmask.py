"""Every unmasker in every mode, and what defines each: joint distributions, counts of masks, known tokens, ids."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from jaxgen import tokens as tk
from tests.tokens.joint import JOINT, MASK_ID, ancestral_shares, exact_logits, watched
from tests.tokens.waves import EVERY, IDS, KEY, TIMES, waves

SHIFT = np.float32([1, -1, 0.5, 2])
COND = {"shift": SHIFT, "waves": np.ones(4, np.float32), "seen": np.ones(4, np.float32),
        "more": np.zeros((4, 6, 4), np.float32)}
UNKNOWN = {"known": np.full((4, 6), 2, np.int32), "keep": np.zeros((4, 6), bool)}
FREE = {"temperature": 1.0, "top_k": 4, "top_p": 1.0}


def logits_of(tokens, t, cond):
    """Waves as high as `cond` says, of what the network sees or, with "seen" 0, of no tokens and time; and "more".

    The mask has a logit too, far above the others.
    """
    seen = cond["seen"]
    clean = cond["waves"][:, None, None] * waves(seen[:, None] * tokens, seen * t, cond["shift"]) + cond["more"]
    return jnp.pad(clean, ((0, 0), (0, 0), (0, 1)), constant_values=50)


def decode(name, logits_fn, cond, ids, setting, times, options):
    """Six tokens for each id [B, 6]."""
    return tk.sample_tokens(KEY, logits_fn, tk.UNMASKERS[name](setting), times, (len(ids), 6), mask_id=4, cond=cond,
                            sample_ids=ids, **options)


@cache
def program(name):
    """Four sequences in three steps: `(cond, setting, times, **options) -> (tokens, masks seen by each call)`.

    Everything is traced, so that most tests share the program; and the list of its traces.
    """
    traces, counts = [], []

    @jax.jit
    def compiled(cond, setting, times, options):
        traces.append(name)
        return decode(name, watched(counts, 4, logits_of), cond, IDS, setting, times, options)

    def run(cond=COND, setting=0.5, times=TIMES, **options):
        counts.clear()
        tokens = jax.device_get(compiled(cond, setting, np.float32(times), UNKNOWN | FREE | options))
        jax.effects_barrier()
        return tokens, np.array(counts)

    return run, traces


def shares(tokens):
    return np.histogram2d(*np.asarray(tokens).T, bins=[np.arange(4)] * 2)[0] / len(tokens)


@EVERY
def test_a_network_in_bfloat16_that_is_sure_of_the_mask_gives_other_tokens_in_a_single_step(name):
    sure = lambda tokens, t, cond: jnp.zeros((*tokens.shape, 4), jnp.bfloat16).at[..., MASK_ID].set(50)  # noqa: E731
    tokens = jax.jit(lambda key: tk.sample_tokens(
        key, sure, tk.UNMASKERS[name](), tk.mask_times(1), (50, 4), mask_id=MASK_ID, top_k=2))(KEY)
    assert tokens.dtype == jnp.int32 and np.min(tokens) >= 0 and np.max(tokens) < MASK_ID


@EVERY
def test_the_mask_is_never_drawn_in_several_steps_of_float32_however_sure_the_network_is_of_it(name):
    for setting, times in ((0.0, TIMES), (1.0, TIMES), (0.5, [1.0, 0.5, 0.1, 0.0])):
        tokens, counts = program(name)[0](setting=setting, times=times, temperature=3.0)
        assert len(counts) == 3 and tokens.min() >= 0 and tokens.max() < 4


@EVERY
def test_tokens_are_int32_in_float64_mode(name):
    with jax.enable_x64(True):
        wide = jax.eval_shape(
            lambda cond, ids: decode(name, logits_of, cond, ids, 0.5, np.linspace(1, 0, 4), {}),
            jax.tree.map(np.float64, COND), np.int64(IDS))
    assert wide.dtype == jnp.int32


@EVERY
def test_other_settings_temperatures_filters_and_times_do_not_compile_again(name):
    run, traces = program(name)
    run()
    before = len(traces)
    results = [run(setting=setting, temperature=temperature, top_k=top_k, top_p=top_p)[0]
               for setting, temperature, top_k, top_p in (
                   (0.0, 1.0, 4, 1.0), (0.9, 5.0, 3, 0.95), (0.2, 1.0, 1, 1.0), (0.8, 2.0, 4, 0.0))]
    run(times=[1, 0.9, 0.1, 0], setting=0.0)
    assert len(traces) == before and (results[0] != results[1]).any()


@EVERY
@pytest.mark.parametrize("only", [{"top_k": 1}, {"top_p": 0.0}])
def test_filters_that_leave_one_token_give_the_most_likely_one(name, only):
    blind = COND | {"seen": np.zeros(4, np.float32)}
    tokens, _ = program(name)[0](blind, temperature=9.0, **only)
    zeros = np.zeros(4, np.float32)
    np.testing.assert_array_equal(tokens, np.argmax(waves(np.zeros((4, 6)), zeros, SHIFT), axis=-1))


@EVERY
def test_devices_that_differ_in_settings_and_known_tokens_draw_what_one_does_in_a_larger_batch(name):
    mesh, data, same = Mesh(jax.devices()[:2], "data"), PartitionSpec("data"), PartitionSpec()
    known = {"known": UNKNOWN["known"], "keep": np.arange(24).reshape(4, 6) % 5 == 0}

    def part(cond, ids, known, temperature, free):
        return decode(name, logits_of, cond, ids, 0.5, TIMES, known | free | {"temperature": temperature[0]})

    temperature = np.float32([0.5, 3.0])
    sharded = np.asarray(jax.jit(jax.shard_map(
        part, mesh=mesh, in_specs=(data, data, data, data, same), out_specs=data, check_vma=True,
    ))(COND, IDS, known, temperature, FREE))
    for i, one in enumerate(temperature):
        whole, _ = program(name)[0](temperature=float(one), **known)
        np.testing.assert_array_equal(sharded[2 * i:2 * i + 2], whole[2 * i:2 * i + 2])
    assert (sharded[known["keep"]] == 2).all()


@EVERY
def test_known_tokens_come_back_and_the_rest_is_drawn_given_them(name):
    n = 6000
    tokens = jax.jit(lambda known, keep: tk.sample_tokens(
        KEY, exact_logits, tk.UNMASKERS[name](0.7), tk.mask_times(8), (n, 2), mask_id=MASK_ID, known=known,
        keep=keep))(np.full((n, 2), 2), np.array([[True, False]]))
    tokens = np.asarray(tokens)
    np.testing.assert_array_equal(tokens[:, 0], 2)
    np.testing.assert_allclose(shares(tokens)[2], JOINT[2] / JOINT[2].sum(), atol=0.03)


@EVERY
def test_sequences_that_are_known_as_a_whole_come_back(name):
    known = np.arange(24, dtype=np.int32).reshape(4, 6) % 4
    tokens, _ = program(name)[0](known=known, keep=np.ones((4, 6), bool))
    np.testing.assert_array_equal(tokens, known)


@EVERY
def test_every_step_calls_the_network_once_and_none_shows_what_times_above_zero_leave(name):
    tokens, counts = program(name)[0](times=[1.0, 0.9, 0.8, 0.6])
    assert len(counts) == 3 and counts[0].tolist() == [6] * 4
    assert 0 < (tokens == 4).sum() < 24


def test_ancestral_samples_have_the_joint_distribution_with_and_without_remasking():
    n, run = 10_000, jax.jit(lambda remask: tk.sample_tokens(
        KEY, exact_logits, tk.ancestral(remask), tk.mask_times(8), (10_000, 2), mask_id=MASK_ID))
    for remask in (0.0, 0.5, 1.0):
        # Tokens that are shown in the same step know nothing of each other: eight steps come near, many come there.
        expected = ancestral_shares(remask, 8)
        error = 4.5 * np.sqrt(expected * (1 - expected) / n)
        np.testing.assert_array_less(np.abs(shares(run(remask)) - expected), error, err_msg=f"{remask=}")
        np.testing.assert_allclose(ancestral_shares(remask, 128), JOINT, atol=0.015)


@pytest.mark.parametrize("schedule", [tk.polynomial_masking(2.0), tk.cosine_masking()], ids=["polynomial", "cosine"])
def test_the_ancestral_share_of_masks_is_that_of_the_forward_process(schedule):
    counts, times = [], np.float32([1, 0.8, 0.6, 0.4, 0.2, 0])
    run = jax.jit(lambda remask: tk.sample_tokens(
        KEY, watched(counts, 4, waves), tk.ancestral(remask, schedule), times, (3000, 6), mask_id=4))
    expected = 1 - np.asarray(schedule.alpha(times[:-1]))
    for remask in (0.0, 1.0):
        counts.clear()
        run(remask)
        jax.effects_barrier()
        np.testing.assert_allclose([np.mean(c) / 6 for c in counts], expected, atol=4 * 0.5 / (3000 * 6) ** 0.5,
                                   err_msg=f"{remask=}")


def test_the_chance_that_ancestral_remasks_a_token_and_shows_a_mask_at_a_step_is_the_closed_form():
    """alpha(t) = 1 - t: r = remask min(1, s / (1 - t)), and a mask stays with probability (s - r (1 - t)) / t."""
    n = 40_000
    masked, known = (np.arange(4 * n).reshape(4, n) % 3 == i for i in (0, 1))
    proposal = lambda decoding, t, keys: (jnp.full((4, n), 2), None)  # noqa: E731

    @jax.jit
    def after(remask, t, s):
        start = tk.Decoding(jnp.ones((4, n), jnp.int32), masked, ~known)
        return tk.ancestral(remask).step(proposal, start, t, s, jax.random.split(KEY, 4))

    for remask, t, s in ((1.0, 0.7, 0.2), (0.7, 0.5, 0.3), (0.2, 0.9, 0.8), (0.0, 0.4, 0.2)):
        tokens, hidden, _ = jax.device_get(after(remask, t, s))
        r = remask * min(1, s / (1 - t))
        stays = (s - r * (1 - t)) / t
        assert not hidden[known].any()
        for chance, of in ((r, hidden[~known & ~masked]), (stays, hidden[masked])):
            assert of.mean() == pytest.approx(chance, abs=4.5 * np.sqrt(chance * (1 - chance) / of.size)), (remask, t)
        np.testing.assert_array_equal(tokens, np.where(masked & ~hidden, 2, 1))


def test_confidence_shows_everything_one_by_one():
    tokens = np.asarray(jax.jit(lambda key: tk.sample_tokens(
        key, exact_logits, tk.confidence(), tk.mask_times(2), (10_000, 2), mask_id=MASK_ID))(KEY))
    # Which position comes first depends on confidence, its token is drawn from the marginal.
    assert tokens.max() < MASK_ID
    np.testing.assert_allclose(shares(tokens), JOINT, atol=0.12)


def test_confidence_leaves_the_schedules_share_of_unknown_tokens_and_shows_one_at_least():
    counts, keep = [], np.arange(6)[None] < np.arange(4)[:, None]
    jax.jit(lambda keep: tk.sample_tokens(KEY, watched(counts, 4, waves), tk.confidence(0.5), tk.mask_times(8), (4, 6),
                                          mask_id=4, known=np.zeros((4, 6), int), keep=keep))(keep)
    jax.effects_barrier()
    left = np.array([6, 5, 4, 3])
    assert len(counts) == 8
    for i, seen in enumerate(counts):
        np.testing.assert_array_equal(seen, left)
        left = np.minimum(np.floor((1 - (i + 1) / 8) * np.array([6, 5, 4, 3]) + 1e-4), np.maximum(left - 1, 0))


@pytest.mark.parametrize("name", ["confidence", "maskgit"])
def test_the_most_confident_tokens_are_shown_first_without_noise(name):
    sure = np.float32([0.5, 3.0, 1.0, 5.0, 2.0, 4.0])  # of token 0, against three others of 0
    more = np.zeros((4, 6, 4), np.float32)
    more[..., 0] = sure
    tokens, _ = program(name)[0](COND | {"waves": np.zeros(4, np.float32), "more": more}, setting=0.0,
                                 times=[1.0, 0.9, 0.7, 0.5], top_k=1)
    left = 3 if name == "confidence" else 4  # floor(6 / 2), floor(6 cos(pi / 4))
    np.testing.assert_array_equal(tokens == 4, np.broadcast_to(np.argsort(np.argsort(sure)) < left, (4, 6)))


def test_a_user_s_own_unmasker_decodes_from_left_to_right():
    def step(propose, decoding, t, s, keys):
        drawn, log_p = propose(decoding, t, keys)
        assert log_p.shape == (4, 6, 4)
        shown = decoding.masked & (jnp.arange(6) < decoding.memory)
        return tk.Decoding(jnp.where(shown, drawn, decoding.tokens), decoding.masked & ~shown, decoding.memory + 1)

    own = tk.Unmasker(lambda tokens, masked: tk.Decoding(tokens, masked, 1), step)
    tokens = jax.jit(lambda: tk.sample_tokens(KEY, waves, own, tk.mask_times(6)[:4], (4, 6), mask_id=4))()
    np.testing.assert_array_equal(np.asarray(tokens) == 4, np.broadcast_to(np.arange(6) >= 3, (4, 6)))


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
