"""Serves a model by llama.cpp's own HTTP server until a signal ends it: serve.py MODEL PORT"""

import signal
import sys

import xllamacpp

# Requests that are answered at once; further ones wait in the server's queue.
SLOTS = 4
CONTEXT_PER_SLOT = 2048
# The model is so small that threads of one answer would only wait for each other.
THREADS = 1

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_parallel = SLOTS
params.n_ctx = SLOTS * CONTEXT_PER_SLOT
params.cpuparams.n_threads = THREADS
params.cpuparams_batch.n_threads = THREADS
params.hostnames = ["127.0.0.1"]
params.port = int(sys.argv[2])
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
signal.sigwait({signal.SIGINT, signal.SIGTERM})
