# One image for every command: `docker run IMAGE serve`, `migrate`, `publish`, ... It carries the shipped models.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY migrations migrations
COPY service service
RUN python -m venv /opt/hoverboard \
    && /opt/hoverboard/bin/pip install --no-cache-dir --constraint constraints.txt '.[cpu]'

FROM python:3.11-slim-bookworm
RUN groupadd --gid 10001 hoverboard \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/hoverboard --shell /usr/sbin/nologin hoverboard \
    && install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/hoverboard
COPY --from=build /opt/hoverboard /opt/hoverboard
COPY --chown=10001:10001 models /srv/models
ENV PATH=/opt/hoverboard/bin:$PATH \
    HOVERBOARD_HOST=0.0.0.0 \
    HOVERBOARD_PORT=8080 \
    HOVERBOARD_ADMIN_PORT=8081 \
    HOVERBOARD_MODELS=/srv/models \
    HOVERBOARD_DATA_DIR=/var/lib/hoverboard
WORKDIR /var/lib/hoverboard
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
# On the admin listener, whose connections nobody else can use up. Past any proxy: Docker hands those of its own
# configuration to every container.
HEALTHCHECK --interval=5s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:' + os.environ['HOVERBOARD_ADMIN_PORT'] + '/readyz', timeout=3)"]
ENTRYPOINT ["hoverboard"]
CMD ["serve"]
