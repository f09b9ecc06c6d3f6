#!/bin/bash
# A broker that somebody started by hand: no manager, no store.
# shellcheck disable=SC2086,SC2154 # words of common.sh, without spaces

hand=/run/hand

# by_hand keep|remove: starts one, and waits until it answers. Its pid is in $hand/pid.
by_hand() {
	mkdir -p $hand
	setsid shmbrokerd --private --socket=$hand/broker.sock --on-stop="$1" >>$hand/log 2>&1 &
	echo $! >$hand/pid
	until_true with_hand ping
}

with_hand() {
	timeout $bound shmbctl -a $hand/broker.sock "$@"
}

ended() {
	[ ! -d "/proc/$(cat $hand/pid)" ]
}

test_without_a_store_memfd_ends_with_the_broker() {
	by_hand keep
	with_hand create -b shm kept 4K
	echo kept | with_hand write kept
	with_hand create -b memfd lost 4K
	kill -KILL "$(cat $hand/pid)"
	until_true ended
	by_hand keep
	equal "contents" "$(with_hand read -n 4 kept)" kept
	! with_hand stat lost || fail "a memfd region is there without its memory"
}

test_stopped_then_started_by_hand() {
	with_hand create -b memfd lost 4K
	kill -TERM "$(cat $hand/pid)"
	until_true ended
	by_hand keep
	equal "contents" "$(with_hand read -n 4 kept)" kept
	! with_hand stat lost || fail "a memfd region is there without its memory"
}

test_stopped_for_good_by_hand() {
	kill -TERM "$(cat $hand/pid)"
	until_true ended
	by_hand remove
	equal "contents" "$(with_hand read -n 4 kept)" kept
	with_hand create -b memfd lost 4K
	kill -TERM "$(cat $hand/pid)"
	until_true ended
	equal "objects" "$(find $shm -name 'shmb.*' -user root)" ""
	equal "files" "$(ls $hand)" "$(printf 'log\npid')"
	by_hand keep
	equal "regions" "$(with_hand ls -q)" ""
	with_hand create -b shm kept 4K
}

test_purged_by_hand() {
	kill -KILL "$(cat $hand/pid)"
	until_true ended
	shmbrokerd --private --socket=$hand/broker.sock --purge
	equal "objects" "$(find $shm -name 'shmb.*' -user root)" ""
	by_hand keep
	equal "regions" "$(with_hand ls -q)" ""
	kill -TERM "$(cat $hand/pid)"
	until_true ended
	shmbrokerd --private --socket=$hand/broker.sock --purge
	rm -rf $hand
}
