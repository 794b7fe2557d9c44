#!/bin/sh
# `worker …` is the worker, everything else the suite. Exec, so that signals reach the program itself.
if [ "${1:-}" = worker ]; then
    shift
    # From outside a container its loopback cannot be reached. A --host that is given wins: it comes later.
    exec m0-worker --host 0.0.0.0 "$@"
fi
exec m0-conformance "$@"
