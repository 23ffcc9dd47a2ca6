FROM python:3.13-slim AS build
WORKDIR /source
RUN python -m venv /opt/identity
COPY pyproject.toml README.md LICENSE ./
COPY identity_cli identity_cli
COPY migrations migrations
RUN /opt/identity/bin/pip install --no-cache-dir '.[http]'

FROM python:3.13-slim
RUN useradd --system --create-home --uid 10001 identity
COPY --from=build /opt/identity /opt/identity
COPY docker/entrypoint.sh /usr/local/bin/entrypoint.sh
ENV PATH=/opt/identity/bin:$PATH PYTHONUNBUFFERED=1
USER identity
WORKDIR /home/identity
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD \
    ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ.get(\"PORT\") or 8000}/health/ready', timeout=4)"]
ENTRYPOINT ["entrypoint.sh"]
