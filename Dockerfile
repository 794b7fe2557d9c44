# The suite and the worker in one image. Without a command it does the main job: judge the bundled worker.
#
#   docker build -t m0 .                        the CPU worker
#   docker build -t m0 --build-arg CUDA=1 .     for hosts with an NVIDIA driver; run it with `--gpus all`
#   docker build -t m0 --build-arg CPU=1 .      the CPU worker with numba, for models that people use
#   docker run --rm -v "$PWD/reports:/reports" m0
#   docker run --rm -p 8080:8080 -v "$PWD:/models:ro" m0 worker --worker-id ID --model /models/a.gguf --gpu-device 0 --port 8080
#
# A host with a package index or certificates of its own lends them to the build; nothing of them stays in the image:
#   --secret id=pip,src=pip.conf --secret id=ca,src=ca-certificates.crt
ARG BASE=docker.io/library/python:3.12-slim-bookworm

FROM ${BASE} AS base
RUN command -v python3 >/dev/null \
    || (apt-get update && apt-get install -y --no-install-recommends python3 && rm -rf /var/lib/apt/lists/*)
RUN useradd --create-home --uid 1000 judge && install -d -m 1777 /reports

FROM base AS build
RUN python3 -c "import ensurepip, pip" 2>/dev/null \
    || (apt-get update && apt-get install -y --no-install-recommends python3-pip python3-venv)
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements ./requirements
# Libraries first: a change of the sources builds on the same layer.
ARG CUDA=0
ARG CPU=0
RUN --mount=type=secret,id=pip,target=/etc/pip.conf,required=false \
    --mount=type=secret,id=ca,target=/run/secrets/ca.crt,required=false \
    if [ -f /run/secrets/ca.crt ]; then export PIP_CERT=/run/secrets/ca.crt; fi \
    && python3 -m venv --without-pip /opt/m0 \
    && python3 -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes -r requirements/build.txt \
    && /opt/build/bin/pip --python /opt/m0/bin/python install --require-hashes -r requirements/runtime.txt \
    && if [ "$CUDA" = 1 ]; then \
        /opt/build/bin/pip --python /opt/m0/bin/python install --require-hashes -r requirements/cuda.txt; fi \
    && if [ "$CPU" = 1 ]; then \
        /opt/build/bin/pip --python /opt/m0/bin/python install --require-hashes -r requirements/cpu.txt; fi \
    # NVRTC's wheel holds a second build of the library that nothing here loads.
    && find /opt/m0 -name "libnvrtc*.alt.so*" -delete
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY worker ./worker
COPY conformance ./conformance
COPY parity ./parity
COPY models ./models
RUN /opt/build/bin/python -m hatchling build -t wheel -d /src/dist \
    && /opt/build/bin/pip --python /opt/m0/bin/python install --no-deps /src/dist/*.whl
# The kernels of the suite's own models, compiled for SM, so that judging starts at once; other models' at their first start.
ARG SM=90
RUN if [ "$CUDA" = 1 ]; then \
        for name in $(/opt/m0/bin/m0-models list | awk '$1 == "probe" { print $2 }'); do \
            /opt/m0/bin/m0-models write "$name" "/src/$name.gguf" || exit 1; done \
        && XDG_CACHE_HOME=/opt/m0/share /opt/m0/bin/m0-worker --prepare --sm "$SM" /src/*.gguf; fi
COPY --chmod=755 ci/container /opt/m0/container

FROM base
COPY --from=build /opt/m0 /opt/m0
# The root file system may be read-only: what is written goes to /reports and /tmp.
ENV PATH=/opt/m0/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER judge
WORKDIR /home/judge
VOLUME /reports
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-P", "/opt/m0/container/healthy.py"]
ENTRYPOINT ["/opt/m0/container/entrypoint.sh"]
CMD ["run", "--report-dir", "/reports"]
