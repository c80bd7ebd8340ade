# rs-studio in a container, for a machine with an NVIDIA card and its container toolkit:
#
#   make image
#   docker run --rm -it --gpus all --shm-size 8g --user "$(id -u):$(id -g)" -v "$PWD/myworkspace:/workspace" rs-studio
#
# A command after the image's name is the studio's own, workspace first: `… rs-studio /workspace runs --json`.
# This file was written where no container engine runs: it has been read with care and not yet built.
FROM python:3.12-slim

# libexpat1: the slim image lacks it, and rasterio, which torchgeo needs, links to it.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libexpat1 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/rs-studio
COPY . .
RUN pip install --no-cache-dir .

# Downloads and caches stay in the workspace's volume, so they outlive the container. True colour, as most terminals
# have it and a container cannot ask; the ssh client's own TERM comes through `docker run -e TERM`.
ENV HOME=/workspace/.home \
    HF_HOME=/workspace/.cache/huggingface \
    TORCH_HOME=/workspace/.cache/torch \
    XDG_CACHE_HOME=/workspace/.cache \
    LANG=C.UTF-8 \
    COLORTERM=truecolor

WORKDIR /
VOLUME /workspace
ENTRYPOINT ["rs-studio"]
CMD ["/workspace"]
