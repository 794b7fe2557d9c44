#!/bin/sh
# All GPU evidence on one machine. Needs Python with the project's wheels and CuPy, CUDA, nothing else; the T2 rung also
# xllamacpp. Parts: tests sanitizer leak t2 t4 bench conformance. Each writes its own files and can run by itself.
#   OUT=folder [LLAMA_BENCH=path] [LLAMA_SERVER=path] [MODELS=folder] sh ci/gpu_evidence.sh [PART ...]
# The exit code is the number of parts that failed.
set -u
OUT=${OUT:-reports/gpu}
mkdir -p "$OUT"
export PYTHONPATH="$PWD:$PWD/worker:$PWD/conformance:$PWD/parity:$PWD/models${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
unset PYTHONDONTWRITEBYTECODE
failed=0

# part NAME COMMAND...: run it if it was asked for, keep what it says, its exit code and its seconds.
part() {
    name=$1
    shift
    case " $parts " in *" $name "*) ;; *) return ;; esac
    begun=$(date +%s)
    "$@" >"$OUT/$name.txt" 2>&1
    code=$?
    echo "$name: exit $code, $(($(date +%s) - begun)) s" | tee -a "$OUT/$name.txt"
    [ "$code" = 0 ] || failed=$((failed + 1))
}

sanitizer() {
    for tool in memcheck racecheck; do
        compute-sanitizer --tool "$tool" --error-exitcode 9 python3 ci/gpu_small.py || return
    done
}

parts=${*:-tests sanitizer leak t2 t4 bench conformance}
{
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
    python3 --version
    python3 -c 'import cupy, numpy; print("cupy", cupy.__version__, "numpy", numpy.__version__, "runtime", cupy.cuda.runtime.runtimeGetVersion())'
    echo "commit ${COMMIT:-$(git rev-parse HEAD 2>/dev/null)}"
} >"$OUT/machine.txt" 2>&1
part tests python3 -m pytest -q -o addopts= -p no:cacheprovider -p no:benchmark ${PYTEST:-} tests/cuda
part sanitizer sanitizer
part leak python3 ci/gpu_small.py --jobs 1000
part t2 python3 -m m0_parity ladder --only T2 --report-dir "$OUT/t2"
part t4 python3 -m m0_parity ladder --only T4 --report-dir "$OUT/t4"
part bench python3 -m bench.gpu ${MODELS:+--models "$MODELS"} --output "$OUT"
part conformance python3 -m m0_conformance run --profile m0 --report-dir "$OUT/conformance"
exit "$failed"
