'''The suite proves itself: a launcher and proxy that starts any M0 worker behind it and lies about one thing.

A defect stands in its area's `defects.py`, an oddity in `oddities_of_*.py`; both are found by themselves. Most are one
function (see `lie.py` for the hooks there are):

    @on_event(
        "M0-W-1312/token-index",                                     # exactly these clauses must turn red
        collateral=("M0-W-1312/token-fields",),                      # these may, with them
        source="UTF-8 buffering that counts swallowed tokens",       # where such a thing was seen
    )
    def index_gap(event: Event) -> list[Event]:                      # its name is "index-gap"
        """i skips a number after the third token."""                # what a worker with this defect does
        ...

What needs state or two hooks is a subclass of `Defect`; what only sets attributes of a class of lies is data in
`defects.toml`.

Hooks see arguments, log lines, exit codes and signals (`launching.py`), requests and answers (`lies.py`), single
events, the stream's bytes and its timing (`defect.py`); what no hook touches goes through byte for byte. By hand:

    python -m m0_conformance run --worker-command
        'python -m m0_conformance.saboteur --defect index-gap --worker "python -m m0_worker --device cpu"'

`m0-conformance selftest --only index-gap` runs the checks of its clauses and the sentinels; `nox -s selftest` runs all
of them and fails unless every defect turned red exactly what it says, no oddity did, and every clause owns a defect or
a reason in its `no_defect`. A worker that died, a check that was blocked, a run without a report and a defect that
raised are never a catch. `m0-conformance spec publish` puts a clean matrix into the suite's
reports, for as long as nothing changes that decides a verdict.
'''
