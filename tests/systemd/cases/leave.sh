#!/bin/bash
# Uninstalling, as doc/operations.md says it: nothing of it is left.
# shellcheck disable=SC2086,SC2154 # words of common.sh, without spaces

test_uninstall() {
	systemctl start shmbrokerd.socket
	ctl create last 4K
	systemctl disable --now shmbrokerd.socket $unit
	shmbrokerd --system --purge
	(cd /share/install && find . ! -type d -print0) | (cd / && xargs -0 rm)
	rm -r "$prefix"/include/shmbroker "$prefix"/lib*/cmake/shmbroker "$prefix"/share/doc/shmbroker
	rm -rf /etc/shmbroker.conf /etc/systemd/system/$unit.d /run/shmbroker
	systemctl daemon-reload
	ldconfig
	# systemd-sysusers makes users and removes none.
	userdel shmbroker
}

test_no_trace() {
	equal "unit" "$(prop $unit LoadState)" not-found
	equal "socket" "$(prop shmbrokerd.socket LoadState)" not-found
	equal "enabled" "$(find /etc/systemd -name '*shmbroker*')" ""
	equal "memory" "$(find $shm -name 'shmb.*')" ""
	equal "runtime directory" "$(find /run -maxdepth 1 -name '*shmb*')" ""
	equal "files" "$(find /etc /usr /var -xdev -name '*shmbroker*' -o -name '*shmbctl*')" ""
	! getent passwd shmbroker || fail "its user is still there"
	! getent group shmbroker || fail "its group is still there"
	! pidof shmbrokerd || fail "it is still running"
}
