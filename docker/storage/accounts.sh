#!/bin/sh
# Creates the bucket and the accounts of the gateways and the files worker; can be repeated. Run by MinIO's client.
set -eu
mc alias set storage http://storage:9000 root "$STORAGE_ROOT_PASSWORD"
mc mb --ignore-existing storage/adx
for name in gateway files; do
    case $name in
    gateway) password=$GATEWAY_STORAGE_PASSWORD ;;
    files) password=$FILES_STORAGE_PASSWORD ;;
    esac
    mc admin policy create storage "adx-$name" "/storage/$name.json"
    mc admin user add storage "adx-$name" "$password"
    # This fails if the policy is attached already.
    mc admin policy attach storage "adx-$name" --user "adx-$name" || mc admin user info storage "adx-$name" | grep -q "adx-$name"
done
