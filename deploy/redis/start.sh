#!/bin/sh
# Starts Redis or Sentinel in a container from a configuration file on its own volume.
#
#   start.sh redis LINE...       each LINE is one of the first configuration, as is; REPLICA_OF names the first master
#   start.sh sentinel LINE...
#
# To the others it is what the container is called (`hostname:`). The file is written at the first start only. From then on
# it belongs to the process: a failover writes into it who is master and who follows whom, and a container that forgot that
# would come back as a second master with old data.
#
# Started as root it gives /data to the user `redis` and goes on as that user, as the image's own entrypoint does for a
# plain `redis-server`: a volume filled by root stays usable.
set -eu
if [ "$(id -u)" = 0 ]; then
    find /data ! -user redis -exec chown redis:redis {} +
    exec setpriv --reuid=redis --regid=redis --clear-groups -- "$0" "$@"
fi
program=$1
shift
file=/data/$program.conf
if [ ! -w /data ] || { [ -e "$file" ] && [ ! -w "$file" ]; }; then
    echo "start.sh: user $(id -u) cannot write $file. Start the container as root, which gives /data to redis first." >&2
    exit 1
fi
if [ ! -s "$file" ]; then
    case $program in
        redis) set -- "$@" "replica-announce-ip $(hostname)" ${REPLICA_OF:+"replicaof $REPLICA_OF 6379"} ;;
        sentinel) set -- "$@" "sentinel announce-ip $(hostname)" ;;
    esac
    printf '%s\n' "$@" >"$file.new"
    mv "$file.new" "$file"
fi
if [ "$program" = sentinel ]; then
    exec redis-server "$file" --sentinel
fi
exec redis-server "$file"
