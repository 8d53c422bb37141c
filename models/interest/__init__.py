"""The interest model: a fine-tuned text encoder read by a causal decoder. Arrays in, arrays out.

config.py      how a model is built and fitted; the room's one error
moments.py     histories and impressions as arrays, cut into segments and padded into batches
store.py       rows on disk by content hash
text.py        item text → vectors; the frozen-prefix cache
network.py     the moment decoder and its loss
taste.py       what was done with like-worded items, as evidence
version.py     saving and loading a model
checkpoint.py  where a fit stands, so that it can go on
training.py    the fine-tuning loop
scoring.py     batch scores and the live state
"""

import os

# Torch's OpenMP threads spin at every barrier by default: on a machine with other work a step then takes ten
# times as long, on a quiet one nothing is gained. Must be set before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
