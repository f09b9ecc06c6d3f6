# bash completion for shmbctl(1)                                            -*- shell-script -*-

# Names that begin with $cur, from the broker that the line names, as these commands list them: ls, locks, sem. Never waits
# long.
_shmbctl_names() {
	local list name IFS=$'\n' prefix=${cur#\\}
	COMPREPLY=()
	for list in "$@"; do
		for name in $("${COMP_WORDS[0]}" "${address[@]}" --timeout=1 "$list" -q -- "$prefix" 2>/dev/null); do
			[[ $name == "~"* ]] && name=\\$name # or the shell takes ~1000 for a home directory
			[[ $IFS${COMPREPLY[*]}$IFS == *"$IFS$name$IFS"* ]] || COMPREPLY+=("$name")
		done
	done
}

# What _init_completion does, where there is none: puts --option=value together again, which bash takes apart at the =.
_shmbctl_words() {
	local i word glue=""
	words=()
	for ((i = 0; i <= COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		if [[ $word == "=" && ${words[-1]} == --* ]]; then
			words[-1]+="=" glue=1
		elif [[ -n $glue ]]; then
			words[-1]+=$word glue=""
		else
			words+=("$word")
		fi
	done
	cword=$((${#words[@]} - 1)) cur=${words[-1]} prev=${words[cword - 1]}
	if [[ $cur == --*=* ]]; then
		prev=${cur%%=*} cur=${cur#*=}
	fi
}

_shmbctl() {
	local cur prev words cword split
	local commands="create resize rm chmod chown ls stat stats ping features read write cp export import dump flush advise
		publish wait watch run locks lock sem help"
	local semaphores="create wait take post value"
	local globals="--address= --json --timeout= --help --version"
	local command="" options="" operand=0 i
	local -a address=()

	if declare -F _init_completion >/dev/null; then
		_init_completion -s -n : || return
	else
		_shmbctl_words
	fi

	# What stands before the cursor: the broker, the command, and how many operands.
	for ((i = 1; i < cword; i++)); do
		case ${words[i]} in
		--address=*) address=("${words[i]}") ;;
		-a | --address)
			address=("--address=${words[i + 1]}")
			((i++))
			;;
		-t | --timeout) ((i++)) ;;
		-c | --capacity | --count | -m | --mode | -b | --backing | -l | --lifetime | -s | --offset | -n | --length | \
			-e | --types | --seen | -L | --log-level | --broker-option | -w | --wait | -E | --conflict-exit-code | --slots | \
			-i | --initial | -M | --max | -f | --file | --file-mode | -S | --size)
			case $command.${words[i]} in
			ls.-l | rm.-f | lock.-[sn] | "sem create.-c" | "sem wait.-n" | "sem take.-n") ;;
			*) ((i++)) ;;
			esac
			;;
		-o)
			[[ $command == run ]] && ((i++))
			;;
		--)
			if [[ $command == run ]] || ((operand > 0)); then
				case $command in
				run | lock | "sem wait" | "sem take")
					_shmbctl_run $((i + 1))
					return
					;;
				esac
			fi
			;;
		-*) ;;
		*)
			if [[ -z $command ]]; then
				command=${words[i]}
			elif [[ $command == run ]]; then
				_shmbctl_run "$i"
				return
			elif ((operand == 1)) && [[ $command == lock || $command == "sem wait" || $command == "sem take" ]]; then
				_shmbctl_run "$i"
				return
			elif [[ $command == sem && " $semaphores " == *" ${words[i]} "* ]] && ((operand == 0)); then
				command="sem ${words[i]}"
			else
				((operand++))
			fi
			;;
		esac
	done

	case $prev in
	-a | --address)
		COMPREPLY=($(compgen -W "system user" -- "$cur"))
		compopt -o filenames 2>/dev/null
		COMPREPLY+=($(compgen -f -- "$cur"))
		return
		;;
	-b | --backing)
		[[ $command == create ]] && COMPREPLY=($(compgen -W "shm memfd hugetlb" -- "$cur")) && return
		;;
	-f | --file)
		if [[ $command == create ]]; then
			compopt -o filenames 2>/dev/null
			COMPREPLY=($(compgen -f -- "$cur"))
			return
		fi
		;;
	--hugepages)
		# only what follows a = is its argument
		[[ ${COMP_WORDS[COMP_CWORD]} == "=" || ${COMP_WORDS[COMP_CWORD - 1]} == "=" || ${COMP_WORDS[COMP_CWORD]} == *=* ]] &&
			COMPREPLY=($(compgen -W "try require" -- "$cur")) && return
		;;
	-l | --lifetime)
		case $command in
		create | lock | "sem create")
			COMPREPLY=($(compgen -W "persistent session attached" -- "$cur"))
			return
			;;
		esac
		;;
	-L | --log-level)
		COMPREPLY=($(compgen -W "error warning notice info debug" -- "$cur"))
		return
		;;
	-e | --types)
		COMPREPLY=($(compgen -W "published resized removed metadata owner-died file" -- "$cur"))
		return
		;;
	-o | --broker-option)
		if [[ $command == run ]]; then
			COMPREPLY=($(compgen -S = -W "regions-per-user bytes-per-user huge-bytes-per-user connections-per-user attachments-per-user
				locks-per-user semaphores-per-user slots-per-user watches-per-user queue-per-user fds-in-flight-per-user
				fds-in-flight-per-connection held-fds-per-user stored-fds-per-user max-region slow-timeout config" -- "$cur"))
			compopt -o nospace 2>/dev/null
			return
		fi
		;;
	esac

	case $command in
	create)
		options="--capacity= --mode= --backing= --memfd --file= --file-mode= --read-only --truncate --new-file --hugepages
			--lifetime= --slots= --reserve --populate --pin --or-open --exclusive --hold"
		;;
	rm) options="--force" ;;
	ls) options="--long --bytes --quiet" ;;
	ping) options="--count=" ;;
	read) options="--offset= --length= --no-progress" ;;
	write) options="--offset= --length= --publish --no-progress" ;;
	cp) options="--mode= --publish --exclusive --no-progress" ;;
	export) options="--offset= --length= --exclusive --no-progress" ;;
	import) options="--offset= --length= --size= --mode= --publish --exclusive --no-progress" ;;
	flush) options="--offset= --length= --start" ;;
	advise) options="--offset= --length=" ;;
	dump) options="--offset= --length= --no-squeezing" ;;
	publish) options="--offset= --length=" ;;
	wait) options="--seen=" ;;
	watch) options="--types= --count= --seen=" ;;
	run) options="--log-level= --broker-option=" ;;
	locks) options="--holders --quiet" ;;
	lock)
		options="--shared --exclusive --nonblock --wait= --conflict-exit-code= --recover --reset --existing --lifetime= --mode=
			--slots= --create"
		;;
	sem) options="--holders --quiet" ;;
	"sem create") options="--counting --owned --initial= --max= --mode= --lifetime= --hold" ;;
	"sem wait" | "sem take") options="--nonblock --conflict-exit-code=" ;;
	esac

	if [[ $cur == -* ]]; then
		COMPREPLY=($(compgen -W "$options $globals" -- "$cur"))
		[[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
		return
	fi

	case $command in
	"" | help)
		((operand == 0)) && COMPREPLY=($(compgen -W "$commands" -- "$cur"))
		[[ $command == help && $prev == sem ]] && COMPREPLY=($(compgen -W "$semaphores" -- "$cur"))
		;;
	ls | read | write | dump | flush | publish | wait | resize)
		((operand == 0)) && _shmbctl_names ls
		;;
	stat | watch) _shmbctl_names ls ;;
	cp)
		((operand < 2)) && _shmbctl_names ls
		;;
	export | import)
		if [[ $command.$operand == export.0 || $command.$operand == import.1 ]]; then
			_shmbctl_names ls
		elif ((operand < 2)); then
			compopt -o filenames 2>/dev/null
			COMPREPLY=($(compgen -f -- "$cur"))
		fi
		;;
	advise)
		if ((operand == 0)); then
			_shmbctl_names ls
		elif ((operand == 1)); then
			COMPREPLY=($(compgen -W "willneed prefetch collapse remove" -- "$cur"))
		fi
		;;
	features)
		COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" features 2>/dev/null | sed -n '2,$s/ .*//p')" -- "$cur"))
		;;
	rm) _shmbctl_names ls locks sem ;;
	locks)
		((operand == 0)) && _shmbctl_names locks
		;;
	lock | "sem wait" | "sem take")
		if ((operand > 0)); then
			COMPREPLY=($(compgen -c -- "$cur"))
		elif [[ $command == lock ]]; then
			_shmbctl_names ls locks
		else
			_shmbctl_names sem
		fi
		;;
	sem)
		if ((operand == 0)); then
			_shmbctl_names sem
			[[ -n $cur ]] || COMPREPLY=()
			COMPREPLY+=($(compgen -W "$semaphores" -- "$cur"))
		fi
		;;
	"sem post" | "sem value")
		((operand == 0)) && _shmbctl_names sem
		;;
	chmod)
		((operand > 0)) && _shmbctl_names ls
		;;
	chown)
		if ((operand > 0)); then
			_shmbctl_names ls
		else
			COMPREPLY=($(compgen -u -- "$cur"))
		fi
		;;
	run) COMPREPLY=($(compgen -c -- "$cur")) ;;
	esac
}

# The command line that a private broker is for, from word $1 on, is completed as if it stood alone.
_shmbctl_run() {
	if declare -F _command_offset >/dev/null; then
		_command_offset "$1"
	elif ((COMP_CWORD == $1)); then
		COMPREPLY=($(compgen -c -- "$cur"))
	else
		COMPREPLY=($(compgen -f -- "$cur"))
	fi
}

complete -F _shmbctl shmbctl
