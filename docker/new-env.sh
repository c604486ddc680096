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
CODEC_KEYS=first:$(head -c 32 /dev/urandom | base64 | tr -d '\n')
$(for name in SECRET AUTH USERS TENANTS FILES OPERATIONS; do echo "${name}_KEY=$(fresh 32)"; done)
POSTGRES_PASSWORD=$(fresh 16)
$(for name in MIGRATE AUTH USERS TENANTS FILES OPERATIONS TEMPORAL; do echo "${name}_DB_PASSWORD=$(fresh 16)"; done)
$(for name in GATEWAY AUTH TENANTS OPERATIONS; do echo "${name}_REDIS_PASSWORD=$(fresh 16)"; done)
$(for name in STORAGE_ROOT GATEWAY_STORAGE FILES_STORAGE; do echo "${name}_PASSWORD=$(fresh 16)"; done)
GRAFANA_PASSWORD=$(fresh 16)
KEYS
echo "docker/.env is written: keep it, and keep it secret."
