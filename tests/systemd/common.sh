#!/bin/bash
# What the cases have in common. Read by inside; every wait has a bound, and nothing sleeps to let something happen.
# shellcheck disable=SC2034,SC2016 # used by the cases; $1 of an inner shell

prefix=$(cat /share/prefix)
unit=shmbrokerd.service
shm=/dev/shm
workers=/run/workers
bound=40 # seconds for anything: generous, because the machine around the box may be busy

fail() {
	echo "$*"
	return 1
}

equal() {
	[ "$2" = "$3" ] || fail "$1: $2, not $3"
}

# until_true COMMAND...: for what tells nobody when it comes.
until_true() {
	local end=$((SECONDS + bound))
	until "$@" >/dev/null 2>&1; do
		((SECONDS < end)) || fail "not within $bound s: $*"
		sleep 0.03
	done
}

# as USER COMMAND...
as() {
	local user=$1
	shift
	timeout $bound setpriv --reuid "$user" --regid "$user" --init-groups env USER="$user" \
		XDG_RUNTIME_DIR="/run/user/$(id -u "$user")" "$@"
}

prop() {
	systemctl show -P "$2" "$1"
}

# Never 0: a signal to that is one to ourselves.
main_pid() {
	local pid
	pid=$(prop $unit MainPID)
	[ "$pid" -gt 0 ] || fail "no broker is running" >&2
	echo "$pid"
}

ctl() {
	timeout $bound shmbctl --address system --timeout $bound "$@"
}

figure() {
	ctl stats | awk -v name="$1" '$1 == name { print $2 }'
}

journal_has() {
	journalctl --no-pager -o cat -u "$unit" --since "$1" | grep -q -- "$2"
}

# back PID: the broker that was PID is gone, another one answers, and the manager says that it is up. Nothing to poll:
# a connection waits in the socket, a start for the start that is going on.
back() {
	ctl ping
	systemctl start "$unit"
	[ "$(prop "$unit" MainPID)" != "$1" ] || fail "it is still process $1"
	equal "state" "$(prop "$unit" ActiveState)" active
}

# override SECTION LINE...: a drop-in, as `systemctl edit` makes it; in force after a restart.
override() {
	local section=$1
	shift
	mkdir -p "/etc/systemd/system/$unit.d"
	printf '%s\n' "[$section]" "$@" >"/etc/systemd/system/$unit.d/test.conf"
	systemctl daemon-reload
}

# ---- Workers: see worker.c ----

# worker_start NAME USER BACKING [ADDRESS [COUNT]]
worker_start() {
	mkdir -p $workers
	mkfifo "$workers/$1.in" "$workers/$1.out"
	chown "$2" "$workers/$1.in" "$workers/$1.out"
	systemd-run --quiet --collect --unit "worker-$1" --uid "$2" /share/tests/shmb_worker "${4:-system}" "$1" "$3" \
		"${5:-work/count}" $workers
	equal "worker $1" "$(worker_line "$1")" ready
}

worker_line() {
	timeout $bound head -n 1 "$workers/$1.out"
}

# The answer to a check; or nothing, if it is no longer there.
worker_check() {
	timeout $bound sh -c 'echo check >"$1"' - "$workers/$1.in"
	worker_line "$1"
}

# The same for its memory alone, whatever it waits for.
worker_look() {
	systemctl kill --kill-who main -s USR1 "worker-$1"
	worker_line "$1"
}

# It lets go of everything in order. Prints "bye COUNTED".
worker_quit() {
	# What is in a FIFO is gone when the last one closes it.
	exec 3<>"$workers/$1.out"
	timeout $bound sh -c 'echo quit >"$1"' - "$workers/$1.in"
	timeout $bound head -n 1 <&3 | grep '^bye '
	exec 3<&-
	rm "$workers/$1.in" "$workers/$1.out"
}

# All of them have all that they had, and were never told of an error.
workers_are_well() {
	local name said
	for name in "$@"; do
		said=$(worker_check "$name")
		[[ $said == "contents=ok region=ok lock=ok permit=ok rounds=ok counted="* ]] || fail "worker $name: $said"
	done
}
