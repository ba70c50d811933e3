# The first stage builds, the second runs: no compiler, build tool or cache reaches the image.
# Both stages share one base, so the virtual environment made in the first works in the second.
FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

# The locks come first: as long as they don't change, neither does this layer.
COPY requirements/build.txt requirements/server.txt requirements/
RUN python -m venv /build/tools \
 && /build/tools/bin/pip install --require-hashes --only-binary :all: --requirement requirements/build.txt \
 && python -m venv /opt/schema-user \
 && /opt/schema-user/bin/pip install --require-hashes --only-binary :all: --requirement requirements/server.txt

COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY src src
RUN /build/tools/bin/pip wheel --no-deps --no-build-isolation --no-index --wheel-dir dist . \
 && /opt/schema-user/bin/pip install --no-deps --no-index dist/*.whl \
 && /opt/schema-user/bin/pip check

FROM python:3.13-slim
RUN groupadd --system --gid 10001 schema-user \
 && useradd --system --uid 10001 --gid schema-user --no-create-home --shell /usr/sbin/nologin schema-user \
 && install --directory --owner schema-user --group schema-user --mode 0700 /var/lib/schema-user
COPY --from=build /opt/schema-user /opt/schema-user
ENV PATH=/opt/schema-user/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SCHEMA_USER_DATA_DIR=/var/lib/schema-user \
    SCHEMA_USER_HOST=0.0.0.0 \
    SCHEMA_USER_PORT=8080
WORKDIR /var/lib/schema-user
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['SCHEMA_USER_PORT'] + '/health/ready', timeout=4)"]
ENTRYPOINT ["schema-user"]
CMD ["serve"]
