#!/bin/bash
# Services of several users go on while their broker dies, is stopped, hangs, is replaced. worker.c has what they do.
# shellcheck disable=SC2086,SC2154 # words of common.sh, without spaces

everybody="ann bob cyd root"

test_workers_begin() {
	printf '[broker]\nallow-shm = work/,shm/\n' >/etc/shmbroker.conf
	override Service WatchdogSec=3s
	systemctl restart $unit
	worker_start ann ann memfd
	worker_start bob bob memfd
	worker_start cyd cyd shm
	worker_start root root default
	workers_are_well $everybody
	[ "$(prop $unit NFileDescriptorStore)" -gt 0 ] || fail "nothing is in the store"
}

# ends_by SIGNAL: and another one is back.
ends_by() {
	local pid
	pid=$(main_pid)
	kill -$1 $pid
	back $pid
}

# dies_by SIGNAL: unnoticed by anybody.
dies_by() {
	ends_by $1
	workers_are_well $everybody
}

test_killed() {
	local restarts
	restarts=$(prop $unit NRestarts)
	dies_by KILL
	equal "starts again" "$(prop $unit NRestarts)" $((restarts + 1))
	[ "$(figure recoveries)" -gt 0 ] || fail "the broker says that it recovered nothing"
}

test_crashed() {
	dies_by SEGV
}

test_ended_by_hand() {
	dies_by TERM
}

# Ten times a second, as fast as it comes back: neither the service nor its socket gives up.
test_killed_again_and_again() {
	for _ in {1..20}; do ends_by KILL; done
	workers_are_well $everybody
	equal "socket" "$(prop shmbrokerd.socket ActiveState)" active
}

# A loop that hangs answers no watchdog. A stopped process is what hangs most thoroughly.
test_hung() {
	local now
	now=$(date '+%F %T')
	dies_by STOP
	journal_has "$now" "Watchdog timeout" || fail "it was not the watchdog"
}

test_stopped_for_a_moment_is_not_hung() {
	local pid
	pid=$(main_pid)
	kill -STOP $pid
	kill -CONT $pid
	workers_are_well $everybody
	equal "process" "$(prop $unit MainPID)" $pid
}

test_restarted() {
	local pid
	for _ in 1 2 3; do
		pid=$(main_pid)
		systemctl restart $unit
		[ "$(prop $unit MainPID)" != $pid ] || fail "it was not restarted"
		workers_are_well $everybody
	done
}

# A process of the broker's that closes a stranger's descriptor can wait in the kernel, where no signal reaches it. It has
# nothing that the next broker would need. This one stands for it: systemd(1) cannot tell why it stays.
test_what_hangs_apart_holds_up_no_other() {
	local group pid hung began
	group=/sys/fs/cgroup$(prop $unit ControlGroup)
	pid=$(main_pid)
	setsid bash -c 'trap "" TERM; while :; do sleep 1; done' &
	hung=$!
	echo $hung >"$group/cgroup.procs"
	began=$SECONDS
	dies_by KILL
	((SECONDS - began < 4)) || fail "it took $((SECONDS - began)) s"
	kill -0 $hung || fail "it is gone"
	systemctl restart $unit
	workers_are_well $everybody
	kill -KILL $hung
}

# What a package does: a new file in the old one's place, then a restart.
test_upgraded() {
	local program=$prefix/sbin/shmbrokerd
	cp $program $program.new
	mv $program.new $program
	[[ $(readlink "/proc/$(prop $unit MainPID)/exe") == *deleted* ]] || fail "the old program is still there"
	systemctl daemon-reload
	systemctl restart $unit
	equal "program" "$(readlink "/proc/$(prop $unit MainPID)/exe")" $program
	workers_are_well $everybody
}

# systemd is upgraded, too: the store passes from one to the next.
test_the_manager_executes_itself_anew() {
	systemctl daemon-reexec
	until_true systemctl is-active $unit
	dies_by KILL
}

test_reloaded_meanwhile() {
	systemctl reload $unit
	workers_are_well $everybody
}

# A client that ends while there is no broker is missed by the next one: what it held is free, and marked.
test_a_client_dies_while_the_broker_is_away() {
	local pid
	worker_start eve ann memfd system work/eve
	pid=$(main_pid)
	kill -STOP $pid
	systemctl kill -s KILL worker-eve
	kill -KILL $pid
	back $pid
	workers_are_well $everybody
	# Its region and semaphore were there for as long as somebody was attached.
	until_true nothing_is_called work/own/eve
	until_true nothing_is_called work/sem/eve
	ctl rm work/eve
	rm $workers/eve.in $workers/eve.out
}

# Names are of regions, locks and semaphores alike: who can make it has found nothing.
nothing_is_called() {
	ctl create -x "$1" 4K && ctl rm "$1"
}

# Nothing that was counted under a lock is missing, nothing was counted twice; nobody was told of an error.
test_nothing_was_lost_or_doubled() {
	local name said sum=0
	for name in $everybody; do
		# With nobody in between from here on.
		said=$(worker_quit $name) || fail "worker $name: $said"
		sum=$((sum + ${said#* }))
	done
	[ $sum -gt 0 ] || fail "nobody counted"
	equal "counted" "$(ctl read -n 8 work/count | od -An -tu8 | tr -d ' ')" $sum
	ctl rm work/count
	echo "$sum under the lock"
}

# The store holds what there is, no more: the broker and the manager agree, and both forget what is removed.
test_the_store_is_emptied() {
	until_true figure_is stored_fds 0
	until_true store_is 0
	ctl create -b memfd store/a 64K
	equal "broker" "$(figure stored_fds)" 2
	until_true store_is 2
	systemctl reload $unit
	until_true status_says "2 of 24576 descriptors stored"
	ctl rm store/a
	until_true store_is 0
	equal "objects" "$(find $shm -name 'shmb.*')" ""
}

figure_is() {
	[ "$(figure "$1")" = "$2" ]
}

store_is() {
	[ "$(prop $unit NFileDescriptorStore)" = "$1" ]
}

# The bound of the store is the broker's own: one more is refused, nothing is dropped in silence.
test_the_store_is_full() {
	local i
	override Service FileDescriptorStoreMax=8 Environment=FDSTORE=8
	printf '[limits]\nstored-fds-per-user = 8\n' >/etc/shmbroker.conf
	systemctl restart $unit
	for i in 1 2 3 4; do ctl create -b memfd full/$i 4K; done
	! ctl create -b memfd full/5 4K || fail "it took more than the store has room for"
	until_true store_is 8
	for i in 1 2 3 4; do echo $i | ctl write full/$i; done
	ends_by KILL
	for i in 1 2 3 4; do equal "contents" "$(ctl read -n 1 full/$i)" $i; done
	ctl rm full/1 full/2 full/3 full/4
	override Service WatchdogSec=3s
	printf '[broker]\nallow-shm = work/,shm/\n' >/etc/shmbroker.conf
	systemctl restart $unit
}

# With the same unit, but without its store: what memfd regions lose by that.
test_without_a_store() {
	local end
	override Service WatchdogSec=3s UnsetEnvironment=FDSTORE
	systemctl restart $unit
	equal "store" "$(figure stored_fds_max)" 0
	ctl create -b shm shm/kept 4K
	echo kept | ctl write shm/kept
	for end in restart watchdog; do
		ctl create -b memfd lost 4K
		case $end in
		restart) systemctl restart $unit ;;
		watchdog) ends_by STOP ;;
		esac
		equal "contents" "$(ctl read -n 4 shm/kept)" kept
		! ctl stat lost || fail "a memfd region is there without its memory, after $end"
	done
	ctl rm shm/kept
	override Service WatchdogSec=3s
	systemctl restart $unit
}

# An upgrade that is taken back: the older program finds what the newer one wrote, and leaves it, the store included,
# to it. The newer one is the same, and the manifest made to look as if it were of a later version.
test_a_newer_manifest_is_left_alone() {
	local pid since manifest=/run/shmbroker/manifest
	ctl create -b memfd newer/a 4K
	echo kept | ctl write newer/a
	pid=$(main_pid)
	since=$(date '+%F %T')
	kill -STOP $pid
	printf '\377' | dd of=$manifest bs=1 seek=8 conv=notrunc status=none
	kill -KILL $pid
	until_true journal_has "$since" "nothing was touched"
	[ "$(prop $unit NFileDescriptorStore)" -ge 2 ] || fail "the store was touched"
	printf '\1' | dd of=$manifest bs=1 seek=8 conv=notrunc status=none
	systemctl restart $unit
	equal "contents" "$(ctl read -n 4 newer/a)" kept
	ctl rm newer/a
}

# systemd drops the store of a unit that is stopped: memfd regions end, shm ones and sessions do not. Who has a lost
# region mapped keeps the mapping.
test_stopped_then_started() {
	worker_start ann ann memfd
	worker_start cyd cyd shm
	ctl create -b shm shm/kept 4K
	echo kept | ctl write shm/kept
	ctl create -b memfd lost 4K
	systemctl stop shmbrokerd.socket $unit
	equal "store" "$(prop $unit NFileDescriptorStore)" 0
	[ "$(find $shm -name 'shmb.*' | wc -l)" -gt 0 ] || fail "the memory is gone"
	systemctl start shmbrokerd.socket
	ctl ping
	equal "contents" "$(ctl read -n 4 shm/kept)" kept
	! ctl stat lost || fail "a memfd region is there without its memory"
	said=$(worker_check cyd)
	[[ $said == "contents=ok region=ok lock=ok "* ]] || fail "worker with shm: $said"
	said=$(worker_check ann)
	[[ $said == "contents=ok region=not-found lock=not-found "* ]] || fail "worker with memfd: $said"
	systemctl stop worker-ann worker-cyd
	rm $workers/*
	ctl rm shm/kept
	ctl rm work/count || true
}

# The end of everything: who still has something mapped keeps it, the broker begins with nothing.
test_purged() {
	local said
	worker_start cyd cyd shm
	ctl create -b shm shm/purged 4K
	! shmbrokerd --system --purge || fail "it purged what a live broker has"
	shmbrokerd --system --purge || equal "exit code" $? 4
	systemctl stop shmbrokerd.socket $unit
	shmbrokerd --system --purge
	equal "objects" "$(find $shm -name 'shmb.*')" ""
	equal "files" "$(ls -A /run/shmbroker)" ""
	systemctl start shmbrokerd.socket
	ctl ping
	! ctl stat shm/purged || fail "a purged region is there"
	said=$(worker_check cyd)
	[[ $said == "contents=ok region=disconnected "* ]] || fail "worker: $said"
	systemctl stop worker-cyd
	rm $workers/*
}
