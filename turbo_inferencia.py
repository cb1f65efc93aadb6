# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Turbo-Inferencia
#
# **How much faster can a language model run on this machine, and what does it cost in quality?**
#
# This notebook runs the automatic benchmark, shows its results in a coloured table and interactive figures, explains
# the KV cache with measured curves, and draws its conclusions from the rows: no number in a sentence below is typed.
#
# Change one line to measure the mission's matrix instead of the small one.

# %%
import os
from pathlib import Path

from cluster.run import open_pool, run_sweep
from farm.expand import expand
from farm.plan import make_plan
from farm.present.notebook import Study
from farm.present.plan_view import print_plan
from farm.present.progress import TerminalProgress
from farm.store import RunFolder
from farm.sweep import load_sweep
from jobs.devices import device_memory_bytes, resolve_device

SWEEP = os.environ.get("NOTEBOOK_SWEEP", "jobs/sweeps/notebook.yaml")  # the mission's: "jobs/sweeps/mission.yaml"
RUN = os.environ.get("NOTEBOOK_RUN", "runs/notebook")  # measured points lie here: running again goes on
POOL = os.environ.get("NOTEBOOK_POOL", "ray")  # "inline" measures in this very process, under a debugger if you like
LANGUAGE = "en"  # of figures and sentences: en or es

# %% [markdown]
# ## 1. The plan
#
# A sweep is a matrix: model × precision × KV cache on/off × context × batch × engine. It becomes **load groups**: each
# runs in a fresh process on a device of its own, loads one model once, and measures its cells. A cell is discarded
# warm-ups of the exact shape, then timed runs with the prompt's forward (*prefill*) apart from the later tokens
# (*decode*).

# %%
sweep = load_sweep(Path(SWEEP))
device = resolve_device(sweep.device)
plan = make_plan(expand(sweep, device), [], device_memory_bytes=device_memory_bytes(device))
print_plan(sweep.name, plan, device, device_memory_bytes(device))

# %% [markdown]
# ## 2. The benchmark
#
# Every finished point is a file of its own, so a restart of this cell measures only what is missing. A failure is a row
# with its reason, and the sweep goes on.

# %%
folder = RunFolder(RUN)
with TerminalProgress() as progress, open_pool(POOL, sweep.device) as pool:
    summary = run_sweep(sweep, folder, pool, observer=progress)
progress.summary(summary, RUN)

# %% [markdown]
# ## 3. Results of this machine
#
# Green is the best of a column, red the worst; quality has traffic lights (green up to 1 % of perplexity, yellow up to
# 5 %, red above). A hollow marker is a row that does not trust itself: see its verdict.

# %%
here = Study.of(folder, LANGUAGE)
here.show("summary_table")

# %%
here.show("tokens_s_vs_length")

# %% [markdown]
# ## 4. The run to study
#
# The repository publishes a run of the mission's matrix on a data-centre GPU as raw records. It is studied below, with
# the very code that studied this machine's run; write `studied = here` to study your own.

# %%
PUBLISHED = Path("benchmarks/records.tar.gz")
studied = Study.of(RunFolder(PUBLISHED), LANGUAGE) if PUBLISHED.is_file() else here
studied.describe()

# %%
studied.show("summary_table")

# %% [markdown]
# ## 5. The KV cache, explained with its curves
#
# A decoder reads the whole sequence to make one token. Attention needs the *keys* and *values* of every earlier token,
# and those do not change: once computed, they can be kept. **With the cache** a step is one forward over one token, and
# its time hardly depends on the length. **Without it** a step repeats the forward over all tokens so far: the work of a
# step grows with the length, and that of a whole answer with its square.
#
# On a fast GPU the difference is hidden at short lengths: launching the kernels takes longer than computing a few
# hundred tokens. Where the two curves part is where arithmetic overtakes the launches.

# %%
studied.show("latency_vs_context")

# %%
studied.show("kv_cache_gain")

# %% [markdown]
# What it costs is memory: keys and values of every layer for every token. Stacked here beside the weights.

# %%
studied.show("memory_footprint")

# %% [markdown]
# ## 6. Prompt and answer are two different machines
#
# The prompt is one forward over many tokens and bound by arithmetic; each later token reads all weights once and is
# bound by memory traffic, or by the host that launches its kernels. So they are timed apart, on a logarithmic scale.

# %%
studied.show("prefill_vs_decode")

# %%
studied.show("tokens_s_vs_length")

# %%
studied.show("engines")

# %%
studied.show("roofline")

# %% [markdown]
# ## 7. What fewer bits cost in quality
#
# Perplexity is the exponential of the mean surprise a token: lower is better, and only figures of one protocol on one
# text compare. The line is the mission's: at most 5 % worse. Random weights have no perplexity and are not drawn.

# %%
studied.show("ppl_degradation")

# %%
studied.show("pareto")

# %% [markdown]
# ## 8. Expected, and measured

# %%
studied.expected()

# %% [markdown]
# ## 9. Conclusions, from the rows

# %%
studied.conclusions()

# %%
studied.caveats()
