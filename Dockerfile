# One image for both services: `python -m agent_service` (the default) or `python -m gateway`.

FROM python:3.11-slim AS build
RUN pip install --no-cache-dir --root-user-action=ignore uv==0.13.9
WORKDIR /src
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY protos protos
COPY agent_service agent_service
COPY gateway gateway
COPY sparkctl sparkctl
RUN uv build --quiet --wheel --build-constraints requirements.lock --out-dir /dist
RUN uv venv --quiet /opt/spark
# The lock file says which versions, with their hashes; the wheel says which of them are needed.
RUN uv pip install --quiet --no-cache --python /opt/spark --constraints requirements.lock \
    "$(echo /dist/*.whl)[agent,gateway,cli]"

FROM python:3.11-slim
RUN useradd --system --uid 10001 --create-home spark
COPY --from=build /opt/spark /opt/spark
ENV PATH=/opt/spark/bin:$PATH PYTHONUNBUFFERED=1
USER spark
WORKDIR /home/spark
EXPOSE 50050 50051
CMD ["python", "-m", "agent_service"]
# Of the default command: who runs the gateway says `python -m gateway health` instead.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-m", "agent_service", "health"]
