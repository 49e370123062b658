# SPDX-License-Identifier: BSD-2-Clause
# Completes the command line of ferry(1) in bash.

_ferry_uris()
{
	local cur=$1

	case $cur in
	unix:* | file:*)
		mapfile -t COMPREPLY < <(compgen -f -P "${cur%%:*}:" -- "${cur#*:}")
		;;
	*)
		mapfile -t COMPREPLY < <(compgen -W "rdma: tcp: unix: fd: exec: file:" -- "$cur")
		compopt -o nospace 2>/dev/null
		;;
	esac
}

# The value of the option before the cursor. Fails where it has none.
_ferry_value()
{
	local prev=$1 cur=$2

	case $prev in
	--qmp)
		mapfile -t COMPREPLY < <(compgen -f -P unix: -- "${cur#unix:}")
		;;
	--incoming)
		_ferry_uris "$cur"
		[[ defer == "$cur"* ]] && COMPREPLY+=(defer)
		;;
	--workload)
		mapfile -t COMPREPLY < <(compgen -W "idle sweep: random: hotset:" -- "$cur")
		;;
	--fill)
		mapfile -t COMPREPLY < <(compgen -W "pages random zero" -- "$cur")
		;;
	--log)
		mapfile -t COMPREPLY < <(compgen -W "off warning message info debug" -- "$cur")
		;;
	--backing)
		mapfile -t COMPREPLY < <(compgen -W "memfd anon hugetlb" -f -- "$cur")
		;;
	--dirty-source)
		mapfile -t COMPREPLY < <(compgen -W "auto wp-async wp-fault soft-dirty kvm-log" -- "$cur")
		;;
	--set)
		mapfile -t COMPREPLY < <(compgen -W "events= return-path= pause-before-switchover= verify-ram=
			rdma-pin-all= rdma-require= postcopy-ram= rdma-postcopy-pull= max-bandwidth=
			downtime-limit= rdma-queue-pairs= rdma-pin-limit= max-postcopy-bandwidth=" -- "$cur")
		compopt -o nospace 2>/dev/null
		;;
	--listen)
		mapfile -t COMPREPLY < <(compgen -W "rdma:" -- "$cur")
		compopt -o nospace 2>/dev/null
		;;
	--json)
		[ "$command" = bench ] || return 1
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		;;
	--ram | --vcpus | --seed | --peer | --repeat | --seconds | --sizes | --queue-pairs | --depth | --faults)
		;;
	*)
		return 1
		;;
	esac
	return 0
}

_ferry_options()
{
	case $1 in
	run)
		echo "--help --ram --kvm --process --vcpus --workload --fill --seed --backing --dirty-source" \
			"--qmp --incoming --paused --log --set"
		;;
	migrate) echo "--help --qmp --set --postcopy --dry-run --resume --json --quiet" ;;
	status) echo "--help --qmp --json --prometheus" ;;
	ctl) echo "--help --qmp" ;;
	doctor) echo "--help --peer --json" ;;
	"bench link")
		echo "--help --listen --peer --ram --repeat --seconds --sizes --queue-pairs --depth --pin-all" \
			"--ib-write-bw --json"
		;;
	"bench fault") echo "--help --listen --peer --ram --faults --repeat --json" ;;
	inspect) echo "--help --json" ;;
	*) echo "--help" ;;
	esac
}

_ferry()
{
	local cur=${COMP_LINE:0:COMP_POINT} prev command=${COMP_WORDS[1]-}
	local words="run migrate status ctl inspect receive send bench doctor help --help --version"

	# Words by blanks alone: bash would cut them at colons and equals signs too.
	read -ra COMP_WORDS <<<"$cur"
	[[ $cur == *' ' ]] && COMP_WORDS+=("")
	COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
	cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]-}
	COMPREPLY=()
	if [ "$COMP_CWORD" -le 1 ] || [ "$command" = help ]; then
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
	elif ! _ferry_value "$prev" "$cur"; then
		case $command:$cur in
		bench:-*)
			[ "${COMP_WORDS[2]}" = link ] && command="bench link"
			[ "${COMP_WORDS[2]}" = fault ] && command="bench fault"
			mapfile -t COMPREPLY < <(compgen -W "$(_ferry_options "$command")" -- "$cur")
			;;
		*:-*) mapfile -t COMPREPLY < <(compgen -W "$(_ferry_options "$command")" -- "$cur") ;;
		migrate:*) _ferry_uris "$cur" ;;
		bench:*) mapfile -t COMPREPLY < <(compgen -W "link fault" -- "$cur") ;;
		ctl:*)
			mapfile -t COMPREPLY < <(compgen -W "migrate migrate-incoming migrate_cancel migrate-continue
				migrate-set-capabilities migrate-set-parameters query-migrate
				query-migrate-capabilities query-migrate-parameters query-status query-commands
				stop cont quit guest-check ferry-resolve ferry-rehearse query-rdma" -- "$cur")
			;;
		inspect:* | receive:* | send:*) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
		esac
	fi
	# Readline replaces only what follows the last colon or equals sign.
	local cut=${cur%"${cur##*[:=]}"} i
	for i in "${!COMPREPLY[@]}"; do
		COMPREPLY[i]=${COMPREPLY[i]#"$cut"}
	done
}
complete -F _ferry ferry
