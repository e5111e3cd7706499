"""Conditions as values: what is asked for, what stands for none, what a batch and a set of data give them."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models import Classes, Text, Unconditional, describe_conditions
from jaxgen.models.conditions import CONDITIONS, build_conditions
from jaxgen.nn import TextEncoder, encode_text

FOLDERS = tuple(sorted(map(str, range(12))))  # as text: 0, 1, 10, 11, 2, ...
TEXT = {"name": "text", "length": 6, "features": 8, "depth": 1, "heads": 2}
DESCRIPTIONS = {"none": {"name": "none"}, "classes": {"name": "classes", "count": 3}, "text": TEXT}
every_condition = pytest.mark.parametrize("name", CONDITIONS)


def chosen(names, *classes, count=None):
    return Classes(count or len(names)).parse(len(classes), classes=classes, names=names)["classes"].tolist()


def test_a_name_that_exists_wins_over_a_number():
    assert [FOLDERS[i] for i in chosen(FOLDERS, "2", "10", "11", "3")] == ["2", "10", "11", "3"]
    assert chosen(("2019", "2020"), "2020", "2019") == [1, 0]
    assert chosen(("1", "0"), "0", "1") == [1, 0]


def test_a_number_counts_where_no_class_is_called_so():
    assert chosen(("cat", "dog", "7"), "dog", "0", "7", "2") == [1, 0, 2, 2]
    assert chosen(None, "2", 1, count=3) == [2, 1]
    assert chosen(FOLDERS, 2, np.int64(2)) == [2, 2]  # from a program, where a number is a number


@pytest.mark.parametrize(("names", "asked", "message"), [
    (("2019", "2020"), "2021", "unknown class '2021'.*'2019', '2020'"), (("cat", "dog"), "do", "Did you mean 'dog'"),
    (("cat", "dog"), "-1", "unknown class '-1'"), (("cat", "dog"), 0.5, "unknown class 0.5"),
    (None, "dog", "'dog' is not a whole number"), (None, "1.5", "'1.5' is not a whole number"),
    (None, "9", r"classes must lie within 0 \.\. 1, .*got 9")])
def test_other_classes_are_refused_with_the_names(names, asked, message):
    with pytest.raises(ValueError, match=message):
        chosen(names, asked, count=2)


def test_classes_are_taken_in_turn_and_are_all_by_default():
    assert Classes(3).parse(5)["classes"].tolist() == [0, 1, 2, 0, 1]
    assert Classes(3).parse(2)["classes"].tolist() == [0, 1]
    assert Classes(3).parse(3, classes=[2, 3])["classes"].tolist() == [2, 3, 2]  # 3 is none
    with pytest.raises(ValueError, match="classes is empty: give some of 0 to 2"):
        Classes(3).parse(2, classes=[])


def test_prompts_are_taken_in_turn_and_are_the_empty_caption_by_default():
    text = build_conditions(TEXT)
    cond = text.parse(3, prompts=["cat", "a b"])
    np.testing.assert_array_equal(cond["text"], encode_text(["cat", "a b", "cat"], 6))
    np.testing.assert_array_equal(text.parse(2)["text"], text.null(2)["text"])


@pytest.mark.parametrize(("name", "asked", "message"), [
    ("classes", {"prompts": ["a"]}, "conditioned on classes, so it cannot be asked for text: use --classes"),
    ("text", {"classes": [1]}, "conditioned on text, so it cannot be asked for classes: use --prompt"),
    ("none", {"classes": [1]}, "conditioned on nothing, so it cannot be asked for classes: leave it out"),
    ("none", {"prompts": ["a"]}, "conditioned on nothing, so it cannot be asked for text: leave it out"),
    ("text", {"prompts": ["seven b"]}, "prompt 'seven b' has 7 bytes, and this model reads 6: shorten it"),
    ("text", {"prompts": ["ééé€"]}, "has 9 bytes"),
    ("text", {"prompts": []}, "prompts is empty"),
])
def test_what_a_condition_cannot_be_asked_for_is_named(name, asked, message):
    with pytest.raises(ValueError, match=message):
        build_conditions(DESCRIPTIONS[name]).parse(2, **asked)


@every_condition
def test_parse_null_and_a_batch_have_the_entries_that_are_said_in_one_shape(name):
    condition = build_conditions(DESCRIPTIONS[name])
    batch = {"label": np.array([2, 0]), "text": encode_text(["cat", ""], 6), "image": np.zeros((2, 4))}
    conds = [condition.parse(2), condition.null(2), condition.of_batch(batch)]
    assert all(cond.keys() == condition.entries.keys() for cond in conds)
    for entry, source in condition.entries.items():
        assert len({(np.shape(cond[entry]), np.asarray(cond[entry]).dtype.kind) for cond in conds}) == 1
        np.testing.assert_array_equal(conds[2][entry], batch[source])


@every_condition
def test_a_condition_of_the_same_description_is_equal_and_keys_a_table(name):
    first, second = build_conditions(DESCRIPTIONS[name]), build_conditions(DESCRIPTIONS[name])
    assert first == second and {first: 1}[second] == 1 and isinstance(first, CONDITIONS[name])
    assert first != build_conditions({"name": "classes", "count": 4})


@every_condition
def test_encode_refuses_what_the_model_does_not_take(name):
    condition = build_conditions(DESCRIPTIONS[name])
    takes = {"none": "no condition", "classes": "'classes'", "text": "'text'"}[name]
    with pytest.raises(ValueError, match=f"cond has 'sound', but this model takes {takes}"):
        condition.encode({}, {"sound": jnp.zeros(2)})
    assert condition.encode({}, None) == {} == condition.encode({}, {})


def test_a_class_out_of_range_is_refused_where_it_is_known_and_none_is_in_range():
    for wrong in (-1, 4):
        with pytest.raises(ValueError, match=rf"classes must lie within 0 \.\. 2, or be 3 for none, got {wrong}"):
            Classes(3).encode({}, {"classes": np.array([0, wrong])})
    cond = {"classes": jnp.array([0, 3])}
    assert Classes(3).encode({}, cond) == cond
    assert jax.eval_shape(lambda c: Classes(3).encode({}, {"classes": c}), jnp.array([9]))["classes"].shape == (1,)


def test_text_is_encoded_once_and_cond_is_left_as_it_is():
    text = build_conditions(TEXT)
    params = jax.jit(text.init)(jax.random.key(0))
    cond = text.parse(2, prompts=["cat", ""])
    encoded = jax.jit(text.encode)(params, cond)
    features, mask = jax.jit(text.encoder.apply)({"params": params["text"]}, cond["text"])
    assert cond.keys() == {"text"} and encoded.keys() == {"context", "context_mask"}
    np.testing.assert_array_equal(encoded["context"], features)
    np.testing.assert_array_equal(encoded["context_mask"], mask)
    assert text.encode({}, encoded).keys() == encoded.keys()  # nothing is left to encode, and no parameters are needed


@pytest.mark.parametrize("name", ["none", "classes"])
def test_only_text_has_parameters_of_its_own(name):
    assert build_conditions(DESCRIPTIONS[name]).init(jax.random.key(0)) == {}


def test_the_encoder_of_text_computes_in_the_dtype_of_the_model_unless_it_has_its_own():
    assert build_conditions(TEXT, "bfloat16").encoder.dtype == jnp.bfloat16
    assert build_conditions({**TEXT, "dtype": "float32"}, "bfloat16").encoder.dtype == jnp.float32
    assert build_conditions(TEXT) == Text(TextEncoder(features=8, depth=1, heads=2), 6)


def test_no_description_is_no_condition():
    assert build_conditions(None) == Unconditional() == build_conditions({"name": "none"})


@every_condition
def test_a_set_adds_to_a_description_what_it_knows(name):
    described = describe_conditions({"name": name}, SimpleNamespace(num_classes=5, name="set"))
    assert described == ({"name": "classes", "count": 5} if name == "classes" else {"name": name})


def test_a_set_without_what_a_condition_needs_is_named():
    none = SimpleNamespace(num_classes=0, name="plain")
    with pytest.raises(ValueError, match="'classes' need labels, and plain has none: use 'none'"):
        describe_conditions({"name": "classes"}, none)
    with pytest.raises(ValueError, match="unknown conditions 'clases'.*Did you mean 'classes'"):
        describe_conditions({"name": "clases"}, none)
    for wrong in ("classes", None, {"count": 3}):
        with pytest.raises(ValueError, match="conditions must be a description"):
            describe_conditions(wrong, none)


class Set:
    """What a condition asks of a set of data: some examples, and a set whose batches pass through a function."""

    name = "captioned"

    def __init__(self, batch, functions=()):
        self.batch, self.functions = batch, functions

    def take(self, ids):
        result = {name: values[ids] for name, values in self.batch.items()}
        for function in self.functions:
            result = function(result)
        return result

    def map(self, function):
        return Set(self.batch, (*self.functions, function))


def test_text_is_prepared_of_captions_which_end_where_the_length_ends():
    captions = Set({"caption": np.array(["cat", "a long caption"], object)})
    batch = build_conditions(TEXT).prepare(captions).take(np.arange(2))
    np.testing.assert_array_equal(batch["text"], encode_text(["cat", "a long"], 6))
    assert list(batch["caption"]) == ["cat", "a long caption"]
    with pytest.raises(ValueError, match="a model of text needs captions, and captioned has none"):
        build_conditions(TEXT).prepare(Set({"image": np.zeros((2, 3))}))


@pytest.mark.parametrize("name", ["none", "classes"])
def test_other_conditions_take_a_set_as_it_is(name):
    one = Set({})
    assert build_conditions(DESCRIPTIONS[name]).prepare(one) is one
