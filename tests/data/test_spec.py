"""What an example is: every kind through memory, batches, devices and JSON, and what is refused."""

import json

import jax
import numpy as np
import pytest

from jaxgen.data import (
    Caption,
    Class,
    Dataset,
    Image,
    Sound,
    Spec,
    Text,
    Video,
    batches,
    evaluation_batches,
    spec_from_json,
    to_device,
    to_pmap,
)

COUNT = 16


def draw(kind):
    rng = np.random.default_rng(3)
    if isinstance(kind, Caption):
        return np.array([f"text {i}" for i in range(COUNT)])
    if isinstance(kind, Sound) and kind.format == "float32":
        return rng.uniform(-1, 1, (COUNT, *kind.shape)).astype(np.float32)
    low, high = {"uint8": (0, 256), "int16": (-2**15, 2**15), "int32": (0, 3)}[str(kind.dtype)]
    return rng.integers(low, high, (COUNT, *kind.shape)).astype(kind.dtype)


KINDS = {
    "image": Image((4, 6, 3)), "video": Video((3, 4, 6, 1)), "sound": Sound((5, 2), 8000),
    "sound_float": Sound((5, 1), 8000, "float32"), "text": Text(7), "label": Class(3, ("a", "b", "c")),
    "caption": Caption(),
}


@pytest.fixture(params=KINDS)
def case(request):
    """(name, kind, dataset): an entry of the kind next to an image that is another entry."""
    kind = KINDS[request.param]
    entries = {"entry": kind} if kind.is_example else {"x": Image((2, 2, 1)), "entry": kind}
    return kind, Dataset.from_spec(entries, {name: draw(each) for name, each in entries.items()})


def as_taken(kind, values):
    if values.dtype == np.uint8:
        return values.astype(np.float64) / 127.5 - 1
    return values / 32768 if values.dtype == np.int16 else values


def test_batches_hold_each_kind_as_the_set_does(case):
    kind, dataset = case
    batch = next(batches(dataset, batch_size=8))
    assert set(batch) == {*dataset.spec, "id"} and batch["entry"].shape == (8, *kind.shape)
    np.testing.assert_array_equal(batch["entry"], draw(kind)[batch["id"]])


def test_evaluation_batches_hold_each_kind_in_order(case):
    kind, dataset = case
    parts = list(evaluation_batches(dataset, 6))
    entries = np.concatenate([part["entry"][part["mask"]] for part in parts])
    np.testing.assert_array_equal(entries, draw(kind))


@pytest.mark.parametrize("place", [to_device, to_pmap])
def test_devices_get_each_kind_as_models_take_it(case, place):
    kind, dataset = case
    batch = next(place(evaluation_batches(dataset, 16)))
    assert ("entry" in batch) == kind.on_device
    if kind.on_device:
        array = batch["entry"]
        assert isinstance(array, jax.Array) and array.dtype == (np.int32 if kind.dtype == np.int32 else np.float32)
        values = np.asarray(array).reshape(COUNT, *kind.shape)
        np.testing.assert_allclose(values, as_taken(kind, draw(kind)), atol=1e-6)
        assert kind.model_range[0] <= values.min() and values.max() <= kind.model_range[1]


def test_json_gives_the_same_spec_back(case):
    spec = case[1].spec
    again = spec_from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec and list(again) == list(spec)


@pytest.mark.parametrize("name", KINDS)
def test_an_array_of_another_shape_is_refused_by_its_name(name):
    kind = KINDS[name]
    if isinstance(kind, Caption):
        with pytest.raises(ValueError, match=r"entry\[1\] must be a string, got 2"):
            kind.check("entry", ["a", 2])
    else:
        with pytest.raises(ValueError, match="entry must be"):
            kind.check("entry", draw(kind)[..., None])


@pytest.mark.parametrize(("kind", "array", "message"), [
    (Class(2), [0, 1, 2], r"x\[2\] is 2, but x must be whole numbers from 0 to 1"),
    (Text(2), [[0, 256], [0, 257]], r"x\[1, 1\] is 257"),
    (Sound((2, 1), 8), np.zeros((1, 2, 1)), r"x must be int16 \[N, 2, 1\].*got float64"),
    (Sound((1, 1), 8, "float32"), np.full((1, 1, 1), np.nan, np.float32), r"x\[0, 0, 0\] is nan"),
])
def test_a_value_outside_the_kind_is_named(kind, array, message):
    with pytest.raises(ValueError, match=message):
        kind.check("x", array)


def test_arrays_must_be_those_of_the_spec_and_of_one_length():
    spec, images = {"image": Image((2, 2, 1)), "label": Class(3)}, np.zeros((4, 2, 2, 1), np.uint8)
    with pytest.raises(ValueError, match="'label' is missing"):
        Dataset.from_spec(spec, {"image": images})
    with pytest.raises(ValueError, match="'more' is not in the spec"):
        Dataset.from_spec(spec, {"image": images, "label": np.zeros(4, int), "more": images})
    with pytest.raises(ValueError, match="label: expected 4 entries"):
        Dataset.from_spec(spec, {"image": images, "label": np.zeros(3, int)})


def test_a_spec_without_an_example_is_refused():
    with pytest.raises(ValueError, match="needs an Image, Video, Sound or Text"):
        Spec({"label": Class(2)})


def test_json_of_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="unknown kind of a spec 'imag'.*Did you mean 'image'"):
        spec_from_json([{"name": "x", "kind": "imag", "shape": [1, 1, 1]}])


def test_map_gains_the_entries_that_the_function_adds():
    images = np.zeros((4, 2, 2, 1), np.uint8)
    dataset = Dataset.from_arrays(images, np.arange(4))
    mapped = dataset.map(lambda batch: {**batch, "text": np.zeros((len(batch["id"]), 5), np.int32)})
    assert dict(mapped.spec) == {**dataset.spec, "text": Text(5)} and mapped.example == "image"


@pytest.mark.parametrize("crop", [0, 1])
def test_flip_and_crop_change_all_frames_of_a_video_as_they_change_an_image(crop):
    frames = draw(KINDS["video"])
    video = Dataset.from_spec({"clip": KINDS["video"]}, {"clip": frames})
    changed = next(batches(video, batch_size=8, flip=True, crop=crop))["clip"]
    for i in range(frames.shape[1]):
        image = next(batches(Dataset.from_arrays(frames[:, i]), batch_size=8, flip=True, crop=crop))["image"]
        np.testing.assert_array_equal(changed[:, i], image)


def test_flip_of_what_is_no_image_is_refused():
    text = Dataset.from_spec({"text": Text(7)}, {"text": draw(Text(7))})
    with pytest.raises(ValueError, match="flip and crop change images and videos, but 'text' is a Text"):
        batches(text, batch_size=2, flip=True)
