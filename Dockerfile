# pcan with the CUDA build of torch that requirements/lock.txt pins, for one machine with GPUs:
#
#   docker build --tag pcan .
#   docker run --rm --init --gpus all --shm-size 16g --user "$(id -u):$(id -g)" \
#       --volume "$PWD:/project" pcan sweep launch pcan_ntu60
#
# BASE is any image of CUDA's run time on a Linux with apt and Python 3.11 or 3.12; its CUDA has to
# fit the driver (torch brings its own libraries).
ARG BASE=nvidia/cuda:13.0.2-runtime-ubuntu24.04
FROM ${BASE}
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# git: which code a trial ran. libGL and GLib: OpenCV's wheel. A compiler and Python's headers:
# `job.speed.compile`. Their versions are those of the base's release.
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        g++ git libgl1 libglib2.0-0 python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

# torch is a layer of its own: it is large, and its pin seldom changes.
COPY requirements /opt/source/requirements
WORKDIR /opt/source
RUN python3 -m venv /opt/pcan \
    && /opt/pcan/bin/python -m pip install --no-cache-dir "$(grep '^torch==' requirements/lock.txt)"
COPY . .
RUN PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 \
    sh requirements/install.sh /opt/pcan/bin/python '.[postgres,notify]'

# Any user may run it (`--user`), with a home and a name for what asks for them.
RUN useradd --create-home --no-log-init --uid 10001 pcan \
    && chmod 1777 /home/pcan \
    && mkdir --mode=1777 /project
ENV PATH=/opt/pcan/bin:$PATH HOME=/home/pcan USER=pcan PYTHONUNBUFFERED=1
USER 10001
WORKDIR /project
ENTRYPOINT ["pcan"]
CMD ["--help"]
