#!/bin/bash
# The broker of one user, under the manager of that user, and the end of a login.
# shellcheck disable=SC2086,SC2154 # words of common.sh, without spaces

# What a service of hers, or a shell, has in SHMB_ADDRESS if it is not the default.
socket_of_ann() {
	echo "/run/user/$(id -u ann)/shmbroker/broker.sock"
}

test_a_user_manager_starts() {
	systemctl start dbus.service systemd-logind.service
	loginctl enable-linger ann
	until_true test -S "/run/user/$(id -u ann)/systemd/private"
	until_true as ann systemctl --user is-active default.target
	as ann systemctl --user enable --now shmbrokerd.socket
}

# of_ann COMMAND...: shmbctl with her broker
of_ann() {
	as ann shmbctl --address user --timeout $bound "$@"
}

prop_of_ann() {
	as ann systemctl --user show -P "$1" $unit
}

back_for_ann() {
	of_ann ping
	as ann systemctl --user start $unit
	[ "$(prop_of_ann MainPID)" != "$1" ] || fail "it is still process $1"
	equal "state" "$(prop_of_ann ActiveState)" active
}

test_her_first_connection_starts_it() {
	local process
	equal "before" "$(prop_of_ann ActiveState)" inactive
	of_ann ping
	as ann systemctl --user start $unit
	process=/proc/$(prop_of_ann MainPID)
	equal "user" "$(stat -c %U $process)" ann
	equal "no new privileges" "$(awk '$1 == "NoNewPrivs:" { print $2 }' $process/status)" 1
	equal "system calls" "$(awk '$1 == "Seccomp:" { print $2 }' $process/status)" 2
	# Her uid is what clients see, and hers are what it sees: no namespace of users in between.
	equal "namespace" "$(readlink $process/ns/user)" "$(readlink /proc/1/ns/user)"
}

test_others_are_refused() {
	! as bob shmbctl -a "$(socket_of_ann)" ping || fail "another user got in"
}

test_she_goes_on() {
	local pid signal
	as ann mkdir -p /home/ann/.config/systemd/user/$unit.d
	printf '[Service]\nWatchdogSec=3s\n' | as ann tee /home/ann/.config/systemd/user/$unit.d/test.conf >/dev/null
	as ann systemctl --user daemon-reload
	as ann systemctl --user restart $unit
	worker_start shm ann default "$(socket_of_ann)"
	worker_start memfd ann memfd "$(socket_of_ann)"
	workers_are_well shm memfd
	for signal in KILL TERM STOP; do
		pid=$(prop_of_ann MainPID)
		[ "$pid" -gt 0 ] || fail "no broker is running"
		kill -$signal $pid
		back_for_ann $pid
		workers_are_well shm memfd
	done
	as ann systemctl --user restart $unit
	workers_are_well shm memfd
	as ann systemctl --user reload $unit
	workers_are_well shm memfd
}

test_her_objects_are_hers() {
	find $shm -name 'shmb.*' -user ann | grep -q . || fail "there are none"
	equal "of others" "$(find $shm -name 'shmb.*' ! -user ann)" ""
}

# Stopping is no logout: the next broker goes on.
test_stopped_then_started() {
	of_ann create -b shm after/stop 4K
	of_ann create -b memfd lost 4K
	as ann systemctl --user stop shmbrokerd.socket $unit
	as ann systemctl --user start shmbrokerd.socket
	of_ann stat after/stop
	! of_ann stat lost || fail "a memfd region is there without its memory"
	of_ann rm after/stop
}

# Her last login ends, and with it all that is hers: manager and broker, /run/user/UID, and what she has in /dev/shm.
# Whoever has a region mapped keeps that. First with logind's RemoveIPC=, which would do it alone, then without.
test_logout() {
	of_ann create -b shm after/logout 4K
	loginctl disable-linger ann
	until_true no_manager
	until_true test ! -e "/run/user/$(id -u ann)"
	until_true nothing_of_ann
	equal "worker" "$(worker_look shm)" contents=ok
	systemctl stop worker-shm worker-memfd
	rm $workers/*
}

test_login_again() {
	loginctl enable-linger ann
	until_true as ann systemctl --user is-active shmbrokerd.socket
	of_ann ping
	equal "regions" "$(of_ann ls -q)" ""
}

test_logout_where_logind_removes_nothing() {
	mkdir -p /etc/systemd/logind.conf.d
	printf '[Login]\nRemoveIPC=no\n' >/etc/systemd/logind.conf.d/test.conf
	systemctl restart systemd-logind.service
	of_ann create -b shm after/logout 4K
	: >$shm/of-ann
	chown ann $shm/of-ann
	loginctl disable-linger ann
	until_true no_manager
	equal "what she has" "$(find $shm -user ann)" $shm/of-ann
	rm $shm/of-ann
}

no_manager() {
	[ "$(systemctl is-active "user@$(id -u ann).service")" = inactive ]
}

nothing_of_ann() {
	[ -z "$(find $shm -user ann)" ]
}
