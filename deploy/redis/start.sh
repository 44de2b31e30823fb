#!/bin/sh
# Starts Redis or Sentinel in a container from a configuration file on its own volume.
#
#   start.sh redis LINE...       each LINE is one of the first configuration, as is
#   start.sh sentinel LINE...
#
# The file is written at the first start only. From then on it belongs to the process: a failover writes into it who is
# master and who follows whom, and a container that forgot that would come back as a second master with old data.
set -eu
program=$1
shift
file=/data/$program.conf
if [ ! -s "$file" ]; then
    printf '%s\n' "$@" >"$file.new"
    mv "$file.new" "$file"
fi
if [ "$program" = sentinel ]; then
    exec redis-server "$file" --sentinel
fi
exec redis-server "$file"
