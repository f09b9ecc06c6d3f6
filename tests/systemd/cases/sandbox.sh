#!/bin/bash
# What the broker cannot do, whoever takes it over.
# shellcheck disable=SC2086,SC2154 # words of common.sh, without spaces

test_exposure() {
	systemd-analyze security --no-pager --threshold=10 $unit | tail -n 1
}

test_nothing_left_to_gain() {
	local status
	status=/proc/$(prop $unit MainPID)/status
	for line in "NoNewPrivs 1" "Seccomp 2" "CapInh 0000000000000000" "CapPrm 0000000000000000" \
		"CapEff 0000000000000000" "CapBnd 0000000000000000" "CapAmb 0000000000000000"; do
		equal "${line% *}" "$(awk -v key="${line% *}:" '$1 == key { print $2 }' "$status")" "${line#* }"
	done
	equal "users" "$(awk '$1 == "Uid:" { print $2, $3, $4, $5 }' "$status" | tr ' ' '\n' | sort -u)" \
		"$(id -u shmbroker)"
}

# A program in the broker's place, under all the directives of its unit, see probe.c.
test_a_program_in_its_place() {
	local probe=/etc/systemd/system/probe.service
	cp /share/tests/shmb_probe "$prefix/sbin/shmb_probe"
	# Not what makes a service of it.
	sed -e "s|^ExecStart=.*|ExecStart=$prefix/sbin/shmb_probe|" \
		-e 's/^Type=.*/Type=oneshot/' -e '/^Restart/d' -e '/^Requires=/d' -e '/^After=/d' -e '/^WatchdogSec/d' \
		-e '/^\[Install\]/,$d' "$prefix/lib/systemd/system/$unit" >$probe
	systemctl daemon-reload
	systemctl start probe.service || { journalctl --no-pager -o cat -u probe.service; return 1; }
	rm "$prefix/sbin/shmb_probe" $probe
	systemctl daemon-reload
}

test_it_sees_no_network() {
	equal "interfaces" "$(nsenter --target "$(prop $unit MainPID)" --net cat /proc/net/dev | tail -n +3 | cut -d: -f1 |
		xargs)" lo
}

# /dev/shm of the sandbox is that of the host: regions under allow-shm are found by name after a crash.
test_shm_works_inside() {
	printf '[broker]\nallow-shm = work/,shared/\n' >/etc/shmbroker.conf
	systemctl restart $unit
	as ann shmbctl -a system create -b shm shared/a 4K
	echo hello | as ann shmbctl -a system write shared/a
	equal "owner" "$(stat -c %U $shm/shmb.*.d)" shmbroker
	equal "contents" "$(as ann shmbctl -a system read -n 5 shared/a)" hello
	as ann shmbctl -a system rm shared/a
	equal "objects" "$(find $shm -name 'shmb.*')" ""
}

# Everything that a client is judged by goes through the sandbox: its uid, groups and pid.
test_clients_keep_their_identity() {
	as ann shmbctl -a system create -m 0700 ids/ann 4K
	! as bob shmbctl -a system read ids/ann || fail "another user read it"
	equal "owner" "$(ctl --json stat ids/ann | grep -oE '"uid": ?[0-9]+' | grep -oE '[0-9]+')" "$(id -u ann)"
	as ann shmbctl -a system rm ids/ann
}
