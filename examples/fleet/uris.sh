#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# One campaign of tain stress over several libvirt URIs: a shard each, side by side, and their results in one.
#
# usage: uris.sh SEED DIR URI... [-- OPTIONS OF TAIN STRESS]
#
#   uris.sh 7 results qemu:///system qemu+ssh://root@node2/system -- --time 10m
#
# Engine qemu works on the memory of QEMU's process, so tain runs where that is: for qemu+ssh://HOST/PATH on HOST,
# by the same ssh, with qemu:///PATH. DIR gets shard-I.json, shard-I.log and merged.json. Exit status: tain merge's.
# SIGINT and SIGTERM end the shards; what they found until then is merged, too.
set -um # -m: each shard in a process group of its own, which a signal reaches once

usage() {
	sed -n '5p' "$0" | sed 's/^# //' >&2
	exit 2
}

[ $# -ge 3 ] || usage
seed=$1 dir=$2
shift 2
uris=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
	uris+=("$1")
	shift
done
[ $# = 0 ] || shift
[ ${#uris[@]} -gt 0 ] || usage
mkdir -p "$dir" && rm -f "$dir"/shard-*.json "$dir"/shard-*.log || exit 2

# run I URI OPTIONS...: the shard's result goes to a file here, whatever host it ran on.
run() {
	local index=$1 uri=$2 name=$2 host port=() status
	shift 2
	trap : TERM # and then what tain has written
	local words=(tain stress --engine qemu --seed "$seed" --shard "$index/${#uris[@]}" "$@" --json -)
	case $uri in
	qemu+ssh://*/*)
		uri=${uri#qemu+ssh://}
		host=${uri%%/*}
		if [[ $host == *:* ]]; then
			port=(-p "${host##*:}")
			host=${host%:*}
		fi
		# ssh hands its words to a shell, so they are quoted for one.
		# shellcheck disable=SC2029
		ssh "${port[@]}" "$host" "$(printf '%q ' "${words[@]}" --connect "qemu:///${uri#*/}")"
		;;
	*)
		"${words[@]}" --connect "$uri"
		;;
	esac >"$dir/shard-$index.part" 2>"$dir/shard-$index.log" </dev/null
	status=$?
	if [ -s "$dir/shard-$index.part" ]; then
		mv "$dir/shard-$index.part" "$dir/shard-$index.json"
	else
		rm -f "$dir/shard-$index.part"
		echo "uris.sh: $name: no result (status $status): $(tail -n 1 "$dir/shard-$index.log")" >&2
	fi
}

groups=()
trap 'kill -TERM "${groups[@]/#/-}" 2>/dev/null' INT TERM
for i in "${!uris[@]}"; do
	run $((i + 1)) "${uris[i]}" "$@" &
	groups+=($!)
done
until wait; do :; done # a signal ends it early
results=("$dir"/shard-*.json)
[ -e "${results[0]}" ] || exit 1
exec tain merge --complete --json "$dir/merged.json" "${results[@]}"
