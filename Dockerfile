# Two images: the server's, for web, worker, beat and migrate, of which docker-compose.yml says which command each runs;
# and the front's, which is Caddy with its configuration.

FROM python:3.13-slim AS packages
WORKDIR /build
COPY pyproject.toml requirements.lock ./
# What the server needs, without the embedded and dev extras, at the versions that are tested.
RUN python -m venv /opt/venv \
    && python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
        > runtime.txt \
    && /opt/venv/bin/pip install --no-cache-dir --requirement runtime.txt --constraint requirements.lock

FROM caddy:2 AS front
# A fixed number, so that files mounted for it can be given to it; the folder exists so that a new volume is its own.
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/caddy
COPY deploy/Caddyfile /etc/caddy/Caddyfile
ENV XDG_DATA_HOME=/var/lib/caddy \
    XDG_CONFIG_HOME=/tmp
USER 10001:10001
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]

FROM python:3.13-slim AS server
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LINMATRIX_DATA_DIR=/data
# A fixed number, as above; /data exists so that a new volume there is its own.
RUN useradd --system --uid 10001 --home-dir /app --shell /usr/sbin/nologin linmatrix \
    && install --directory --owner=linmatrix --group=linmatrix --mode=0700 /data
WORKDIR /app
COPY --from=packages /opt/venv /opt/venv
COPY manage.py ./
COPY linmatrix linmatrix
COPY keys keys
COPY rooms rooms
COPY federation federation
# The settings make a secret key on the way: it goes with the folder, and each deployment makes its own.
RUN LINMATRIX_DATA_DIR=/tmp/collect python manage.py collectstatic --noinput \
    && mv /tmp/collect/static static \
    && rm -rf /tmp/collect
USER linmatrix
EXPOSE 8448
