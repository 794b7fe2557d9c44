#!/bin/sh
# The image on a machine with an NVIDIA driver and no container engine: its root file system, entered by chroot, with the
# driver's own files as `--gpus all` would bring them and nothing of the machine's CUDA.
#
#   sh ci/gpu_container.sh pack IMAGE FOLDER      here, as root, with buildah: FOLDER/part.00, part.01 … of 56 MB at most
#   sh ci/gpu_container.sh run FOLDER             there: unpack the parts, time first starts, do the main job
#   OUT=folder [PROFILE=m0]                       where results go, and what is judged
set -eu
PROFILE=${PROFILE:-m0}
OUT=${OUT:-reports/gpu-container}
ROOT=${ROOT:-/tmp/m0-root}

pack() {
    container=$(buildah --storage-driver vfs from "$1")
    folder=$(buildah --storage-driver vfs mount "$container")
    mkdir -p "$2"
    # What no program reads is left out; the image has it.
    tar -C "$folder" --exclude=./usr/share/doc --exclude=./usr/share/man --exclude=./usr/share/locale --exclude=./var/cache \
        --exclude=./var/lib/apt --exclude=./usr/share/i18n --exclude=./usr/lib/x86_64-linux-gnu/perl-base --exclude=./proc --exclude=./sys --exclude=./dev --numeric-owner -c . \
        | xz -T2 -4 | split -b 56000000 -d - "$2/part."
    buildah --storage-driver vfs rm "$container" >/dev/null
    ls -l "$2"
}

unpack() {
    mkdir -p "$ROOT"
    cat "$1"/part.* | python3 -c 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.stdin.buffer), sys.stdout.buffer)' \
        | tar -C "$ROOT" --numeric-owner -x
    mkdir -p "$ROOT/proc" "$ROOT/dev" "$ROOT/sys" "$ROOT/tmp" "$ROOT/reports"
    chmod 1777 "$ROOT/tmp" "$ROOT/reports"
    mount -t proc proc "$ROOT/proc"
    mount --rbind /dev "$ROOT/dev" || cp -a /dev/null /dev/zero /dev/urandom /dev/random /dev/nvidia* "$ROOT/dev/"
}

# The user's libraries of the driver, by the names that the driver's own installer gives them.
driver() {
    for name in libcuda libnvidia-ml libnvidia-ptxjitcompiler libnvidia-nvvm libnvidia-gpucomp; do
        for folder in $(ldconfig -p | sed -n "s|.*=> \(/.*\)/$name\.so.*|\1|p" | sort -u) /usr/local/nvidia/lib64 /usr/local/nvidia/lib; do
            cp -a "$folder/$name".so* "$ROOT/usr/lib/x86_64-linux-gnu/" 2>/dev/null || true
        done
    done
    cp "$(command -v nvidia-smi || echo /usr/local/nvidia/bin/nvidia-smi)" "$ROOT/usr/bin/" || true
    chroot "$ROOT" /sbin/ldconfig
}

inside() {
    chroot --userspec=1000:1000 "$ROOT" /usr/bin/env -i HOME=/home/judge PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
        XDG_CACHE_HOME=/tmp/cache PATH=/opt/m0/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

# Seconds from the start of a worker's process to its line `ready`, and the kernels it had to compile.
first_start() {
    inside rm -rf /tmp/cache
    inside python -P - "$1" <<'PY'
import json, signal, subprocess, sys, time
model = sys.argv[1]
words = ["--worker-id", "7f2c1b1e-5d0a-4c55-9a53-0d6f1f1c2a90", "--model", model, "--gpu-device", "0", "--port", "18099"]
begun = time.monotonic()
worker = subprocess.Popen(["m0-worker", *words], stdout=subprocess.PIPE, text=True)
for line in worker.stdout:
    if json.loads(line).get("event") in ("ready", "error"):
        print(f"{model}: {json.loads(line)['event']} after {time.monotonic() - begun:.2f} s")
        break
worker.send_signal(signal.SIGTERM)
worker.stdout.read()
print(f"exit code {worker.wait(30)}")
PY
    echo "kernels compiled: $(inside sh -c 'ls /tmp/cache/m0-worker/kernels 2>/dev/null | wc -l')"
}

run() {
    mkdir -p "$OUT"
    unpack "$1"
    driver
    {
        inside nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || true
        echo "image: $(inside python --version), CUDA libraries: $(inside sh -c 'find / -xdev \( -name "libcudart*" -o -name "libnvrtc*" -o -name nvcc \) 2>/dev/null' | tr '\n' ' ')"
        inside python -P -c 'import cupy; from cupy_backends.cuda.libs import nvrtc; print("cupy", cupy.__version__, "runtime", cupy.cuda.runtime.runtimeGetVersion(), "NVRTC", nvrtc.getVersion())'
    } >"$OUT/machine.txt" 2>&1 || true
    inside m0-models write script /tmp/script.gguf
    inside m0-models write qwen2-q4_k_m /tmp/other.gguf
    {
        for _ in 1 2 3; do first_start /tmp/script.gguf; done
        echo "a model whose kernels are not in the image:"
        first_start /tmp/other.gguf
        echo "the first again, without the image's kernels:"
        mv "$ROOT/opt/m0/share/m0-worker/kernels" "$ROOT/opt/m0/share/m0-worker/away"
        first_start /tmp/script.gguf
        mv "$ROOT/opt/m0/share/m0-worker/away" "$ROOT/opt/m0/share/m0-worker/kernels"
    } >"$OUT/first_start.txt" 2>&1 || true
    inside rm -rf /tmp/cache
    code=0
    inside /opt/m0/container/entrypoint.sh run --profile "$PROFILE" --report-dir /reports >"$OUT/conformance.txt" 2>&1 || code=$?
    echo "exit code $code; kernels compiled in the job: $(inside sh -c 'ls /tmp/cache/m0-worker/kernels 2>/dev/null | wc -l')" | tee -a "$OUT/conformance.txt"
    cp "$ROOT/reports/report.json" "$ROOT/reports/summary.md" "$OUT/" || true
    cat "$OUT/machine.txt" "$OUT/first_start.txt"
    tail -n 12 "$OUT/conformance.txt"
    return "$code"
}

"$@"
