"""The interest model: a fine-tuned text encoder and a causal decoder. Arrays in, arrays out.

A registered version ships this package under another name, so modules import one another relatively.

config.py          how a model is built and fitted; its device; the package's error
item_arrays.py     items as arrays and tensors: text, attribute values, numbers, id
moment_arrays.py   histories and impressions as arrays, cut into segments, padded into batches
store.py           rows on disk by content hash
pretrained.py      pre-trained encoders: their files, pooling, prompt and length
layers.py          an encoder's layers, found by structure
packing.py         texts end to end, without padding
adapters.py        LoRA and AdaLoRA
encoder.py         item text → vectors; the cache of what tuning does not change
reader.py          an item's embedding, token and bias
taste.py           similar items of the history as evidence
network.py         the moment decoder and its loss
version.py         saving and loading a model
checkpoint.py      the state of an unfinished fit
schedule.py        impressions and learning rates of each step
held_out.py        held-out impressions: early stopping, calibration
fit_setup.py       what a fit does before its first step
fit.py             the training loop
saved_fit.py       a fit between folders
workers.py         several processes that fit one model
scoring.py         batch scores and the live state
live_scorer.py     item vectors and user states of a live process
explanation.py     contributions of past moments to a score
serving.py         a version as a generic MLflow model
benchmark.py       speed and accuracy on this machine
"""

import os

# By default torch's OpenMP threads spin at every barrier: beside other work a step then takes ten times as long, and
# on a quiet machine nothing is gained. Torch reads this when it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Makes matrix products on CUDA deterministic. CUDA reads it when it starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
