#!/bin/sh
# Writes docker/.env with fresh keys, once: sh docker/new-env.sh
set -eu
cd "$(dirname "$0")"
if [ -e .env ]; then
    echo "docker/.env is there already: its keys open what is stored, so they stay." >&2
    exit 1
fi
umask 077
fresh() { head -c "$1" /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }
cat >.env <<KEYS
SECRET_KEY=$(fresh 32)
SERVICE_KEY=$(fresh 32)
CODEC_KEYS=first:$(head -c 32 /dev/urandom | base64 | tr -d '\n')
POSTGRES_PASSWORD=$(fresh 16)
STORAGE_PASSWORD=$(fresh 16)
GRAFANA_PASSWORD=$(fresh 16)
KEYS
echo "docker/.env is written: keep it, and keep it secret."
