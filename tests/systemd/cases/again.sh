#!/bin/bash
# After the machine was booted again. Of a box, /run, /tmp and /dev/shm are new then, and it has another boot id, which
# is what a machine does to a broker; its kernel, however, went on, so this is as near as it gets.
# shellcheck disable=SC2086,SC2154 # words of common.sh, without spaces

record=/var/lib/last-words

test_the_client_was_stopped_first() {
	equal "how it ended" "$(cat $record/stopped)" success
}

test_it_starts_with_nothing() {
	[ "$(cat /proc/sys/kernel/random/boot_id)" != "$(cat /var/lib/boot-before)" ] || fail "it was not booted again"
	equal "directory" "$(stat -c '%U:%G %a' /run/shmbroker)" "shmbroker:shmbroker 755"
	systemctl stop camera.service
	systemctl start shmbrokerd.socket
	ctl ping
	equal "regions" "$(ctl ls -q)" ""
	equal "objects" "$(find $shm -name 'shmb.*')" ""
}

# A runtime directory that is not on a tmpfs comes back. What it tells is of another boot: nobody of then lives, though
# the same numbers of processes do, and nothing of the memory is there, though objects of its name may be. The unit gets
# a /proc of its own, with the kernel's boot id, so it is a broker without it that is tried.
test_what_another_boot_wrote_down_is_not_believed() {
	systemctl stop shmbrokerd.socket $unit
	rm -rf /run/shmbroker
	cp -a /var/lib/run-before /run/shmbroker
	cp -a /var/lib/shm-before/. $shm
	[ "$(find $shm -name 'shmb.*' | wc -l)" -gt 0 ] || fail "nothing to find"
	systemd-run --quiet --unit bare --uid shmbroker -p Type=notify "$prefix/sbin/shmbrokerd" --system
	equal "regions" "$(ctl ls -q)" ""
	equal "away" "$(figure away)" 0
	equal "objects" "$(find $shm -name 'shmb.*')" ""
	systemctl stop bare.service
	rm -rf /var/lib/run-before /var/lib/shm-before /var/lib/boot-before $record
	rm /etc/systemd/system/camera.service /etc/systemd/system/box.target.wants/camera.service
}
