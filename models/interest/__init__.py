"""The interest model: a fine-tuned text encoder read by a causal decoder. Arrays in, arrays out.

A registered version ships this package under another name, so modules import one another relatively.

config.py      how a model is built and fitted; the room's one error
device.py      where it computes
items.py       items as arrays and as tensors: text, attribute values, numbers, id
moments.py     histories and impressions as arrays, cut into segments and padded into batches
store.py       rows on disk by content hash
pretrained.py  where a pre-trained encoder comes from
packing.py     texts end to end, without padding
adapters.py    LoRA and AdaLoRA
text.py        item text → vectors; the frozen-prefix cache
reader.py      what the decoder reads of an item
network.py     the moment decoder and its loss
taste.py       what was done with like items, as evidence
version.py     saving and loading a model
checkpoint.py  where a fit stands, so that it can go on
schedule.py    which impressions in which step, at which rates
holdout.py     impressions watched while fitting: when to stop, calibration
training.py    the fine-tuning loop
scoring.py     batch scores and the live state
live.py        items encoded once, and the states of users with recent requests
explanation.py what each past moment brings to a score
serving.py     a version as a generic MLflow model
arrays.py      what a fit reads, as a folder of .npy files
benchmark.py   how fast and how right it is on this machine
"""

import os

# Torch's OpenMP threads spin at every barrier by default: on a machine with other work a step then takes ten
# times as long, on a quiet one nothing is gained. Must be set before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Without it matrix products on CUDA are not repeatable; also read once, when CUDA starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
