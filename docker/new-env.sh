#!/bin/sh
# Generates docker/.env with new secret keys, unless it exists: sh docker/new-env.sh
set -eu
cd "$(dirname "$0")"
if [ -e .env ]; then
    echo "docker/.env exists and is kept: its keys decrypt the stored data." >&2
    exit 1
fi
umask 077
random_hex() { head -c "$1" /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }
cat >.env <<KEYS
CODEC_KEYS=first:$(head -c 32 /dev/urandom | base64 | tr -d '\n')
$(for name in SECRET AUTH USERS TENANTS FILES OPERATIONS; do echo "${name}_KEY=$(random_hex 32)"; done)
POSTGRES_PASSWORD=$(random_hex 16)
$(for name in MIGRATE AUTH USERS TENANTS FILES OPERATIONS TEMPORAL; do echo "${name}_DB_PASSWORD=$(random_hex 16)"; done)
$(for name in GATEWAY AUTH TENANTS OPERATIONS; do echo "${name}_REDIS_PASSWORD=$(random_hex 16)"; done)
$(for name in STORAGE_ROOT GATEWAY_STORAGE FILES_STORAGE; do echo "${name}_PASSWORD=$(random_hex 16)"; done)
GRAFANA_PASSWORD=$(random_hex 16)
KEYS
echo "docker/.env is written: keep it, and keep it secret."
