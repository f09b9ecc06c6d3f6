#!/bin/bash
# A service that uses the broker says Wants= and After=: then it is stopped first, and not restarted with the broker.
# shellcheck disable=SC2086,SC2154 # words of common.sh, without spaces

record=/var/lib/last-words

test_a_service_that_uses_the_broker() {
	mkdir -p $record
	# As doc/operations.md says it.
	cat >/etc/systemd/system/camera.service <<-END
		[Unit]
		Wants=shmbrokerd.socket
		After=shmbrokerd.socket shmbrokerd.service
		[Service]
		User=ann
		ExecStart=$prefix/bin/shmbctl -a system create --hold camera/frame 64K
		ExecStop=$prefix/bin/shmbctl -a system stat camera/frame
		ExecStopPost=+/bin/sh -c 'echo \$SERVICE_RESULT >>$record/stopped'
		[Install]
		WantedBy=box.target
	END
	systemctl daemon-reload
	systemctl enable --now camera.service
	until_true ctl stat camera/frame
}

test_a_restart_of_the_broker_is_not_one_of_its_clients() {
	local pid
	pid=$(prop camera.service MainPID)
	systemctl restart $unit
	ctl stat camera/frame
	equal "process" "$(prop camera.service MainPID)" $pid
}

# Stopped in one transaction, as at shutdown, in the order that the manager finds: the broker is still there for the
# client's last request. (`systemctl stop A B` is two.)
test_the_client_stops_first() {
	local since other
	printf '[Unit]\nDescription=All of it\n' >/etc/systemd/system/all.target
	for other in $unit shmbrokerd.socket camera.service; do
		mkdir -p /etc/systemd/system/$other.d
		printf '[Unit]\nPartOf=all.target\n' >/etc/systemd/system/$other.d/all.conf
	done
	systemctl daemon-reload
	systemctl start all.target
	since=$(date '+%F %T')
	systemctl stop all.target
	until_true test -s $record/stopped
	equal "how it ended" "$(cat $record/stopped)" success
	equal "broker" "$(prop $unit ActiveState)" inactive
	journalctl --no-pager -o cat --since "$since" | awk '
		/^Stopped camera.service/ { client = NR }
		/^Stopping shmbrokerd.service/ { broker = NR }
		END { exit !(client && broker && client < broker) }' || fail "the broker was stopped before its client"
	rm -r $record/stopped /etc/systemd/system/all.target /etc/systemd/system/{$unit,shmbrokerd.socket,camera.service}.d
	systemctl daemon-reload
	systemctl start camera.service
	until_true ctl stat camera/frame
}

# For what the next part looks for: regions of every kind, and what the broker has written down of them.
test_before_the_machine_goes_down() {
	systemctl enable shmbrokerd.socket
	printf '[broker]\nallow-shm = shm/\n' >/etc/shmbroker.conf
	systemctl restart $unit
	ctl create -b shm shm/before 4K
	ctl create -b memfd before 4K
	ctl ping
	cp -a /run/shmbroker /var/lib/run-before
	rm /var/lib/run-before/broker.sock
	cp -a $shm /var/lib/shm-before
	cat /proc/sys/kernel/random/boot_id >/var/lib/boot-before
}
