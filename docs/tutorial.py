# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A notebook: from a shipped model to a price
#
# Every function of `stas_neuro` takes a path, a name or an object for the same argument. All energies and
# times are estimated from published figures, not measured.

# %%
import altair
import numpy as np

import stas_neuro

altair.renderers.enable("svg")  # still pictures, which need no network

# %% [markdown]
# ## A model, with and without halting
#
# `compile` takes the name of a shipped model, a checkpoint, or a model of another library. With
# `accumulate="off"` the same weights run without halting.

# %%
halting = stas_neuro.compile("fashion-spikformer")
without = stas_neuro.compile("fashion-spikformer", accumulate="off")
halting

# %% [markdown]
# ## A run
#
# The package has 512 test images of Fashion-MNIST. A run counts every event that a price depends on.

# %%
from stas_neuro.assets import IMAGES, asset

images = stas_neuro.load_data(asset(IMAGES))
run = stas_neuro.run(halting, images, limit=8, dtype="float32")
run

# %%
run.accuracy, run.token_ratio

# %% [markdown]
# Where tokens halt: each image above a map of the visits of its tokens.

# %%
run.plot(images=images.select(slice(0, 4)))

# %% [markdown]
# ## A price
#
# Every number has an interval. The last line says on what figures it is based.

# %%
price = stas_neuro.estimate(run, "loihi2")
price

# %%
price.plot(part="layers")

# %% [markdown]
# What if a synaptic operation took 10 pJ? A value that you set is marked as yours.

# %%
changed = stas_neuro.load_profile("loihi2", {"energy.synaptic_operation": "10 pJ"})
stas_neuro.estimate(run, changed).to_frame("events").query("source == 'set by the user'")

# %% [markdown]
# ## What halting saves
#
# A saving depends on what it is compared with. Here this is the run of the same weights without halting.

# %%
baseline = stas_neuro.run(without, images, limit=8, dtype="float32")
saved = stas_neuro.compare(run, {"the same weights without halting": baseline}, ["loihi1", "loihi2"])
saved

# %%
saved.to_frame()[["profile", "energy_saving", "energy_saving_low", "energy_saving_high"]]

# %% [markdown]
# ## Your own images
#
# An array is enough: uint8 in 0..255 or floats in 0..1, of the shape that the model was trained on,
# here (images, 1, 28, 28).

# %%
own = np.zeros((2, 1, 28, 28), np.uint8)
own[0, 0, 6:24, 8:20] = 200  # a dress?
own[1, 0, 16:22, 3:25] = 200  # a shoe?
mine = stas_neuro.run(halting, own, dtype="float32")
[halting.graph.classes[index] for index in mine.predictions]

# %% [markdown]
# A mistake is answered with what was probably meant.

# %%
try:
    stas_neuro.estimate(mine, "loihi-2")
except stas_neuro.errors.StasError as error:
    print(error)
