# bash completion for shmbctl(1)                                            -*- shell-script -*-

# Names of regions that begin with $cur, from the broker that the line names. Never waits long.
_shmbctl_names() {
	local name IFS=$'\n' prefix=${cur#\\}
	COMPREPLY=()
	for name in $("${COMP_WORDS[0]}" "${address[@]}" --timeout=1 ls -q -- "$prefix" 2>/dev/null); do
		[[ $name == "~"* ]] && name=\\$name # or the shell takes ~1000 for a home directory
		COMPREPLY+=("$name")
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
	local commands="create resize rm chmod chown ls stat stats ping read write dump publish wait watch run help"
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
			-e | --types | --seen | -L | --log-level | --broker-option)
			case $command.${words[i]} in
			ls.-l) ;;
			*) ((i++)) ;;
			esac
			;;
		-o)
			[[ $command == run ]] && ((i++))
			;;
		--)
			[[ $command == run ]] && {
				_shmbctl_run $((i + 1))
				return
			}
			;;
		-*) ;;
		*)
			if [[ -z $command ]]; then
				command=${words[i]}
			elif [[ $command == run ]]; then
				_shmbctl_run "$i"
				return
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
		[[ $command == create ]] && COMPREPLY=($(compgen -W "shm memfd" -- "$cur")) && return
		;;
	-l | --lifetime)
		[[ $command == create ]] && COMPREPLY=($(compgen -W "persistent session attached" -- "$cur")) && return
		;;
	-L | --log-level)
		COMPREPLY=($(compgen -W "error warning notice info debug" -- "$cur"))
		return
		;;
	-e | --types)
		COMPREPLY=($(compgen -W "published resized removed" -- "$cur"))
		return
		;;
	-o | --broker-option)
		if [[ $command == run ]]; then
			COMPREPLY=($(compgen -S = -W "regions-per-user bytes-per-user connections-per-user attachments-per-user
				watches-per-user queue-per-user fds-in-flight-per-user fds-in-flight-per-connection max-region slow-timeout
				config" -- "$cur"))
			compopt -o nospace 2>/dev/null
			return
		fi
		;;
	esac

	case $command in
	create) options="--capacity= --mode= --backing= --lifetime= --reserve --or-open --exclusive --hold" ;;
	rm) options="--force" ;;
	ls) options="--long --bytes --quiet" ;;
	ping) options="--count=" ;;
	read) options="--offset= --length= --no-progress" ;;
	write) options="--offset= --length= --publish --no-progress" ;;
	dump) options="--offset= --length= --no-squeezing" ;;
	publish) options="--offset= --length=" ;;
	wait) options="--seen=" ;;
	watch) options="--types= --count= --seen=" ;;
	run) options="--log-level= --broker-option=" ;;
	esac

	if [[ $cur == -* ]]; then
		COMPREPLY=($(compgen -W "$options $globals" -- "$cur"))
		[[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
		return
	fi

	case $command in
	"" | help)
		((operand == 0)) && COMPREPLY=($(compgen -W "$commands" -- "$cur"))
		;;
	ls | read | write | dump | publish | wait | resize)
		((operand == 0)) && _shmbctl_names
		;;
	stat | rm | watch) _shmbctl_names ;;
	chmod)
		((operand > 0)) && _shmbctl_names
		;;
	chown)
		if ((operand > 0)); then
			_shmbctl_names
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
