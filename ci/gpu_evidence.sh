#!/bin/sh
# All GPU evidence on one machine: kernel and engine tests, compute-sanitizer, the three shapes beside llama.cpp,
# a leak check, and the suite in profile m0. Needs Python with the project's wheels and CuPy, CUDA, nothing else.
#   OUT=folder [LLAMA_BENCH=path] [MODELS=folder] [SKIP="tests sanitizer bench leak conformance"] sh ci/gpu_evidence.sh
set -u
OUT=${OUT:-reports/gpu}
mkdir -p "$OUT"
wanted() { case " ${SKIP:-} " in *" $1 "*) return 1 ;; esac; }

{
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
    python3 --version
    python3 -c 'import cupy, numpy; print("cupy", cupy.__version__, "numpy", numpy.__version__, "runtime", cupy.cuda.runtime.runtimeGetVersion())'
    git rev-parse HEAD 2>/dev/null || echo "commit: ${COMMIT:-unknown}"
} >"$OUT/machine.txt" 2>&1

wanted tests && python3 -m pytest -q -o addopts= -p no:cacheprovider -p no:benchmark ${PYTEST:-} tests/cuda >"$OUT/tests.txt" 2>&1
wanted bench && python3 -m bench.gpu ${LLAMA_BENCH:+--llama-bench "$LLAMA_BENCH"} ${MODELS:+--models "$MODELS"} --json "$OUT/bench.json" >"$OUT/bench.md" 2>"$OUT/bench.err"
wanted sanitizer && for tool in memcheck racecheck; do
    compute-sanitizer --tool "$tool" --error-exitcode 9 python3 ci/gpu_small.py >"$OUT/$tool.txt" 2>&1
    echo "exit $?" >>"$OUT/$tool.txt"
done
wanted leak && python3 ci/gpu_small.py --jobs 1000 >"$OUT/leak.txt" 2>&1
wanted conformance && python3 -m conformance run --profile m0 >"$OUT/conformance.txt" 2>&1
tail -n 3 "$OUT"/*.txt
