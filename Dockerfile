# syntax=docker/dockerfile:1
# nvreg with PyTorch, on the CPU or (DEVICE=cuda) on GPUs of NVIDIA, from the wheel that make dist builds.
#
#   make dist image DEVICE=cpu
#   docker run --rm --user "$(id -u)" -v "$PWD:/data" nvreg:cpu sweep --config my.yaml
#   docker run --rm --user "$(id -u)" -v "$PWD:/data" --gpus all nvreg:cuda sweep --config my.yaml
ARG DEVICE=cpu

FROM python:3.13-slim AS cpu
ENV TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu

# PyTorch brings CUDA with it; of the host it needs the driver alone.
FROM nvidia/cuda:13.0.1-base-ubuntu24.04 AS cuda
ENV TORCH_INDEX_URL=https://pypi.org/simple
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

FROM ${DEVICE}
ENV HOME=/tmp PATH=/opt/nvreg/bin:$PATH PYTHONUNBUFFERED=1
COPY constraints.txt dist/*.whl /tmp/nvreg/
RUN python3 -m venv /opt/nvreg \
    && pip install --no-cache-dir --index-url "$TORCH_INDEX_URL" "$(grep '^torch==' /tmp/nvreg/constraints.txt)" \
    && pip install --no-cache-dir -c /tmp/nvreg/constraints.txt "$(ls /tmp/nvreg/*.whl)[finetune,lm-eval,quantise,ray]" \
    && rm -r /tmp/nvreg
USER 1000
WORKDIR /data
ENTRYPOINT ["nvreg"]
CMD ["--help"]
