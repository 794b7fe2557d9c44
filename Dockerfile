# The image's default command is the main job: judge the bundled worker and print where the report is.
# On a host with an NVIDIA device pass `--gpus all`; without one the CPU worker is judged, and the verdict says so.
ARG BASE=docker.io/library/python:3.12-slim-bookworm
FROM ${BASE}

RUN command -v pip3 >/dev/null || (apt-get update && apt-get install -y --no-install-recommends python3 python3-pip python3-venv ca-certificates && rm -rf /var/lib/apt/lists/*)
RUN python3 -m venv /opt/m0
ENV PATH=/opt/m0/bin:$PATH PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /opt/m0-conformance
COPY requirements ./requirements
RUN pip install --no-cache-dir --require-hashes -r requirements/runtime.txt
# Only an image for NVIDIA hosts needs CuPy: `--build-arg CUDA=1`.
ARG CUDA=0
RUN if [ "$CUDA" = 1 ]; then pip install --no-cache-dir -r requirements/cuda.in; fi
COPY pyproject.toml README.md ./
COPY worker ./worker
COPY conformance ./conformance
COPY parity ./parity
COPY models ./models
RUN pip install --no-cache-dir --no-deps . && useradd --create-home judge && mkdir /reports && chown judge /reports

USER judge
WORKDIR /home/judge
VOLUME /reports
ENTRYPOINT ["m0-conformance"]
CMD ["run", "--report-dir", "/reports"]
