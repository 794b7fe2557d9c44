"""A second M0 worker: llama.cpp under aiohttp, on a CPU.

It shares no line with the bundled worker, so that what both do is what the spec says and not what one engine does.
Small enough to be read through: docs/implementing.md walks along its files.
"""
