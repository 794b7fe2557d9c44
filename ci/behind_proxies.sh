#!/bin/sh
# The bundled worker by its URL: without a proxy, behind nginx and behind HAProxy, each with its package's default settings.
#
#   apt-get install nginx-light haproxy     once, as root
#   sh ci/behind_proxies.sh [FOLDER]        reports and proxies' files below FOLDER (default: reports/proxies)
#
# Fails when a clause is broken behind a proxy, or undecided there and decided without; and when a program is missing.
set -eu
OUT=${1:-reports/proxies}
PYTHON=${PYTHON:-python3}
for program in nginx haproxy; do
    command -v "$program" >/dev/null || { echo "$program is missing: apt-get install nginx-light haproxy" >&2; exit 2; }
done
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)
set -- $("$PYTHON" -c 'import socket; s=[socket.create_server(("127.0.0.1", 0)) for _ in range(3)]; print(*[x.getsockname()[1] for x in s])')
WORKER=$1 NGINX=$2 HAPROXY=$3

m0-models write script "$OUT/script.gguf" >/dev/null
m0-worker --worker-id 7f2c1b1e-5d0a-4c55-9a53-0d6f1f1c2a90 --model "$OUT/script.gguf" --gpu-device 0 --port "$WORKER" \
    --device cpu >"$OUT/worker.log" 2>&1 &
PIDS=$!
trap 'kill $PIDS 2>/dev/null || true; wait' EXIT

# The packages' own files with nothing but the two addresses; a site of nginx is a server and a location with proxy_pass.
sed -e "s|include /etc/nginx/sites-enabled/\*;|server { listen 127.0.0.1:$NGINX; location / { proxy_pass http://127.0.0.1:$WORKER; } }|" \
    -e "s|^pid .*|pid $OUT/nginx.pid;|" -e "s|/var/log/nginx|$OUT|" /etc/nginx/nginx.conf >"$OUT/nginx.conf"
nginx -c "$OUT/nginx.conf" -g 'daemon off;' >"$OUT/nginx.log" 2>&1 &
PIDS="$PIDS $!"
{
    sed -n '/^defaults/,$p' /etc/haproxy/haproxy.cfg
    printf '\nfrontend front\n    bind 127.0.0.1:%s\n    default_backend worker\nbackend worker\n    server one 127.0.0.1:%s\n' \
        "$HAPROXY" "$WORKER"
} >"$OUT/haproxy.cfg"
haproxy -db -f "$OUT/haproxy.cfg" >"$OUT/haproxy.log" 2>&1 &
PIDS="$PIDS $!"

for port in "$WORKER" "$NGINX" "$HAPROXY"; do
    for _ in $(seq 100); do curl -fs "http://127.0.0.1:$port/health" >/dev/null && break; sleep 0.1; done
done
for name in "plain $WORKER" "nginx $NGINX" "haproxy $HAPROXY"; do
    set -- $name
    m0-conformance run --worker-url "http://127.0.0.1:$2" ${ONLY:-} --report-dir "$OUT/$1" >"$OUT/$1.txt" 2>&1 || true
    grep -m1 '^[A-Z_]* in m0-wire' "$OUT/$1.txt" || true
done
"$PYTHON" - "$OUT" <<'PYTHON'
import json
import sys
from pathlib import Path

OPEN = {"NOT_TESTED", "BLOCKED", "INCONCLUSIVE", "ERROR"}


def statuses(name: str) -> dict[str, str]:
    report = json.loads((Path(sys.argv[1]) / name / "report.json").read_text())
    clauses = [clause for requirement in report["requirements"] for clause in requirement["clauses"]]
    return {c["id"]: c["status"] for c in clauses if c["disposition"] == "active" and c["profile"] == "m0-wire"}


plain = statuses("plain")
bad = False
for name in ("nginx", "haproxy"):
    seen = statuses(name)
    broken = sorted(clause for clause, status in seen.items() if status in {"FAIL", "WARN"} and plain[clause] != status)
    lost = sorted(clause for clause, status in seen.items() if status in OPEN and plain[clause] not in OPEN)
    bad = bad or bool(broken or lost)
    print(f"{name}: {len(broken)} broken {broken}, {len(lost)} undecided that are decided without it {lost}")
print(f"{sum(status not in OPEN for status in plain.values())} of {len(plain)} clauses decided without a proxy")
sys.exit(bad)
PYTHON
