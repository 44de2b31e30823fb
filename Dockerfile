# One image for `reprise server` and `reprise worker`; docker-compose.yml says which one a container is.

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv /opt/reprise

# Dependencies first, exactly as locked: a change of the code does not install them again.
COPY requirements/runtime.txt requirements/build.txt requirements/
RUN /opt/reprise/bin/pip install --require-hashes -r requirements/runtime.txt \
    && python -m pip install --require-hashes -r requirements/build.txt

COPY pyproject.toml README.md LICENSE ./
COPY server/ server/
COPY workers/ workers/
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/reprise/bin/pip install --no-deps --no-index /wheels/*.whl

FROM python:3.13-slim
COPY --from=build /opt/reprise /opt/reprise
ENV PATH=/opt/reprise/bin:$PATH PYTHONUNBUFFERED=1
# A number, so that an orchestrator can see that it is not root. It owns nothing and writes nothing.
USER 10001:10001
WORKDIR /
EXPOSE 8000
# Exec form: signals reach Python, which drains. Run it under an init (`docker run --init`, `init: true`).
CMD ["reprise", "server"]
