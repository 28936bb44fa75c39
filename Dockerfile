# Two images from one build:
#   docker build --target orchestrator -t tidegate .
#   docker build --target agent -t tidegate-agent .

# Python 3.11.14 or later: the archive code of earlier ones has known holes, and the agent warns about them.
FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /source
# Everything is fetched once and checked against the hashes of the lock; after that nothing is fetched any more.
COPY requirements.lock ./
RUN pip download --require-hashes --only-binary=:all: --dest /wheels --requirement requirements.lock
ENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels
COPY . .
RUN pip wheel --no-deps --wheel-dir /wheels .
RUN python -m venv /opt/orchestrator && /opt/orchestrator/bin/pip install "tidegate[orchestrator]" \
 && python -m venv /opt/agent && /opt/agent/bin/pip install tidegate

FROM python:3.11-slim AS runtime
# The user id of the mosquitto image: the broker's secrets are readable by one user only, and both must read them.
RUN groupadd --gid 1883 tidegate && useradd --uid 1883 --gid 1883 --no-create-home --shell /usr/sbin/nologin tidegate
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

FROM runtime AS orchestrator
COPY --from=build /opt/orchestrator /opt/orchestrator
ENV PATH=/opt/orchestrator/bin:$PATH
# Volumes take over the owner of the folder they are first mounted on.
RUN install -d -m 0700 -o tidegate -g tidegate /var/lib/tidegate /client /fleet /state /signing /broker /orchestrator \
    /operator $(seq -f /agents/edge-%02g 20)
USER tidegate
# Its loop turns and its journal can be written. /readyz would also ask for the broker, which no restart here brings back.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9464/healthz', timeout=2)"]
ENTRYPOINT ["tidegate"]

FROM runtime AS agent
COPY --from=build /opt/agent /opt/agent
ENV PATH=/opt/agent/bin:$PATH
RUN install -d -m 0700 -o tidegate -g tidegate /etc/tidegate /var/lib/tidegate-agent
USER tidegate
# Its health is what it says on the bus; Docker only needs to start it again when it ends.
ENTRYPOINT ["tidegate-agent"]
