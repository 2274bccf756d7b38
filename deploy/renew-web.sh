#!/bin/sh
# Replaces every web container by a new one (of the image that is there now), one after the other, without refusing a
# request: a new one answers before an old one is told to stop, and one that is stopping answers what it has begun to.
# Run it in the project's folder.
set -eu

for old in $(docker compose ps --quiet web); do
  number=$(docker compose ps --quiet web | wc -l)
  # --wait: until it is healthy.
  docker compose up --detach --no-deps --no-recreate --wait --scale web=$((number + 1)) web
  docker stop "$old" >/dev/null   # as long as stop_grace_period says
  docker rm "$old" >/dev/null
  echo "replaced $old"
done
