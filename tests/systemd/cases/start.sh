#!/bin/bash
# Installing, and what a service manager expects of a service.
# shellcheck disable=SC2086,SC2154 # words of common.sh, without spaces

test_install() {
	cp -a /share/install/. /
	ldconfig
	systemctl daemon-reload
	systemd-sysusers
	systemd-tmpfiles --create shmbroker.conf
	useradd --create-home ann
	useradd --create-home bob
	useradd --create-home cyd
	equal "runtime directory" "$(stat -c '%U:%G %a' /run/shmbroker)" "shmbroker:shmbroker 755"
	[ "$(getent passwd shmbroker | cut -d: -f7)" = /usr/sbin/nologin ] || fail "somebody could log in as shmbroker"
	systemctl enable --now shmbrokerd.socket
	equal "socket" "$(stat -c '%F %a' /run/shmbroker/broker.sock)" "socket 666"
}

test_the_first_connection_starts_it() {
	equal "before" "$(prop $unit ActiveState)" inactive
	as ann shmbctl -a system ping
	systemctl start $unit
	equal "after" "$(prop $unit ActiveState)" active
	equal "user" "$(stat -c %U "/proc/$(prop $unit MainPID)")" shmbroker
	equal "starts again" "$(prop $unit NRestarts)" 0
}

test_many_users_start_it_once() {
	local pids=() pid user
	systemctl stop $unit
	for user in ann bob cyd ann bob cyd; do
		as $user shmbctl -a system ping -c 3 &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do wait "$pid"; done
	systemctl start $unit
	equal "sockets" "$(prop shmbrokerd.socket ActiveState)" active
	equal "starts again" "$(prop $unit NRestarts)" 0
}

# The manager has figures to show, and they are those of the broker.
test_status_has_live_figures() {
	ctl create -b memfd status/a 3M
	systemctl reload $unit
	until_true status_says "1 regions (3 MiB)"
	status_says "0 sessions away"
	status_says "2 of 24576 descriptors stored"
	ctl rm status/a
	systemctl reload $unit
	until_true status_says "0 regions (0 MiB)"
}

status_says() {
	prop $unit StatusText | grep -qF "$1"
}

test_reload_puts_a_change_in_force() {
	local pid now
	pid=$(main_pid)
	now=$(date '+%F %T')
	printf '[limits]\nregions-per-user = 1\n' >/etc/shmbroker.conf
	systemctl reload $unit
	until_true journal_has "$now" "configuration reloaded"
	ctl create reload/a 4K
	! ctl create reload/b 4K || fail "a limit was not in force"
	equal "process" "$(prop $unit MainPID)" "$pid"
	equal "state" "$(prop $unit ActiveState)" active
}

test_reload_with_a_mistake_changes_nothing() {
	local now
	now=$(date '+%F %T')
	echo 'regions-per-user = many' >>/etc/shmbroker.conf
	systemctl reload $unit
	until_true journal_has "$now" "configuration not reloaded"
	! ctl create reload/b 4K || fail "the old limit is no longer in force"
	ctl rm reload/a
	equal "state" "$(prop $unit ActiveState)" active
}

# Trying again would not mend it: the unit fails, once, and says with which exit code.
test_a_mistake_in_the_configuration_is_not_tried_again() {
	! systemctl restart $unit || fail "it started with a mistake in its configuration"
	equal "exit code" "$(prop $unit ExecMainStatus)" 3
	equal "starts again" "$(prop $unit NRestarts)" 0
	rm /etc/shmbroker.conf
	systemctl reset-failed $unit
	systemctl start shmbrokerd.socket $unit
	ctl ping
}

# With a client in the queue the socket starts it again at once, but not for ever.
test_a_mistake_with_clients_that_wait() {
	local dropin=/etc/systemd/system/shmbrokerd.socket.d
	mkdir $dropin
	printf '[Socket]\nTriggerLimitIntervalSec=60s\nTriggerLimitBurst=10\n' >$dropin/test.conf
	systemctl daemon-reload
	systemctl stop $unit
	systemctl restart shmbrokerd.socket
	echo mistake >/etc/shmbroker.conf
	! as ann shmbctl -a system ping || fail "it started with a mistake in its configuration"
	until_true socket_is failed
	equal "result" "$(prop shmbrokerd.socket Result)" trigger-limit-hit
	rm -r $dropin /etc/shmbroker.conf
	systemctl daemon-reload
	systemctl reset-failed
	systemctl start shmbrokerd.socket
	as ann shmbctl -a system ping
}

socket_is() {
	[ "$(prop shmbrokerd.socket ActiveState)" = "$1" ]
}

test_the_watchdog_is_answered() {
	local last
	override Service WatchdogSec=3s
	systemctl restart $unit
	for _ in 1 2 3 4; do
		last=$(prop $unit WatchdogTimestampMonotonic)
		until_true watchdog_later_than "$last"
	done
	equal "starts again" "$(prop $unit NRestarts)" 0
	equal "bound" "$(prop $unit WatchdogUSec)" 3s
}

watchdog_later_than() {
	[ "$(prop $unit WatchdogTimestampMonotonic)" -gt "$1" ]
}
