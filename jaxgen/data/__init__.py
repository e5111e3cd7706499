"""Data: TFDS is the source, Grain the loader, NumPy the hand-over. TFDS and Grain are imported when first used.

train = load("mnist_5k", "train")
for batch in to_device(batches(train, batch_size=128)):
    ...  # {"image": [B, H, W, C] float32 in [-1, 1], "label": [B] int32, "id": [B] int32}
"""

from jaxgen.data.augment import crop, flip
from jaxgen.data.dataset import Dataset
from jaxgen.data.device import DeviceBatches, to_device, to_float, to_pmap, to_uint8
from jaxgen.data.evaluation import evaluation_batches
from jaxgen.data.folder import read_folder
from jaxgen.data.kinds import Caption, Class, Image, Kind, Sound, Text, Video
from jaxgen.data.load import centred_by_mass, load
from jaxgen.data.pipeline import Batches, batches
from jaxgen.data.spec import Spec, spec_from_json

__all__ = [
    "Batches", "Caption", "Class", "Dataset", "DeviceBatches", "Image", "Kind", "Sound", "Spec", "Text", "Video",
    "batches", "centred_by_mass", "crop", "evaluation_batches", "flip", "load", "read_folder", "spec_from_json",
    "to_device", "to_float", "to_pmap", "to_uint8",
]
